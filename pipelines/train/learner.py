"""One training step: batches, the loss, gradients, their norm, and the update of the weights."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from pipelines.core.contracts import Batch, Codec
from pipelines.core.settings import TrainSettings
from pipelines.core.task import Objective
from pipelines.distributed.workers import SINGLE_WORKER, Workers
from pipelines.graphs.tracing import batch_signature, trace
from pipelines.train.gradients import Gradient, Variable, scale_gradient, tf_variable
from pipelines.train.lazy_adam import DEFAULT, LazySettings
from pipelines.train.optimizers import Weights
from pipelines.train.schedules import learning_rate


class Learner:
    """A model that learns from batches, settings.accumulation_steps of them in a training step.

    Losses are summed over all that counts and divided by the sum of the weights of all of a step's
    batches, on all workers. So accumulated small batches, and a batch's parts on several workers,
    equal one large batch. The moving statistics of batch normalisation have no gradient: they
    change by their mean change over workers, each weighted by its rows.
    """

    def __init__(
        self,
        objective: Objective,
        model: keras.Model,
        codec: Codec,
        settings: TrainSettings,
        total_steps: int,
        workers: Workers = SINGLE_WORKER,
        *,
        lazy_settings: LazySettings = DEFAULT,
    ):
        """total_steps: training steps in all, by which the learning rate's schedule goes."""
        self.workers = workers
        self.objective, self.model, self.settings = objective, model, settings
        self.spec, self.total_steps = codec.spec, total_steps
        # Gradients that are summed, over batches or workers, are of all rows: nothing can be lazy.
        lazy = settings.accumulation_steps == 1 and workers.count == 1
        self.weights = Weights(model, settings, lazy=lazy, lazy_settings=lazy_settings)
        self.variables = self.weights.variables
        self.loss_sum = tf.Variable(tf.zeros([], tf.float64), trainable=False)
        self.weight_sum = tf.Variable(tf.zeros([], tf.float64), trainable=False)
        self.norm = tf.Variable(tf.zeros([]), trainable=False)
        self._accumulated = (
            [tf.Variable(tf.zeros_like(v), trainable=False) for v in self.variables]
            if settings.accumulation_steps > 1
            else []
        )
        self._accumulated_weight = tf.Variable(tf.zeros([]), trainable=False)
        # This worker's loss, weight and rows since the last step; alone, they need no reduction.
        shared = workers.count > 1
        self._local = (
            [tf.Variable(tf.zeros([]), trainable=False) for _ in range(3)] if shared else []
        )
        self._statistics = [v for v in model.variables if _is_statistic(v)] if shared else []
        self._statistics_before = [tf.Variable(v, trainable=False) for v in self._statistics]
        self._functions: dict[str, Callable[..., Any]] = {}
        # What the last step returned: the sums below. To read a variable takes much longer.
        self._last_sums: tf.Tensor | None = None

    def was_clipped(self) -> bool:
        """Whether the last step's gradient was longer than clip_norm."""
        bound = self.settings.clip_norm
        return bound is not None and self.gradient_norm() > bound

    def gradient_norm(self) -> float:
        """Global norm of the last step's gradient before clipping."""
        return float(self._read_sums()[2])

    def state_variables(self) -> dict[str, Sequence[Variable]]:
        """All that must be saved between two steps for training to resume to the last bit."""
        return {
            "model": self.model.variables,
            **self.weights.state_variables(),
            "sums": [self.loss_sum, self.weight_sum, self.norm],
        }

    def broadcast_state(self) -> None:
        """Starts all workers from the chief's state, each with random numbers of its own."""
        self.workers.broadcast_variables(self.state_variables())
        self.workers.reseed_generators(self.model.variables)
        _assign(self._statistics_before, self._statistics)

    def train_step(self, batches: Sequence[Batch], step: int) -> float:
        """Training step `step`, from 0, on the batches. Returns its learning rate."""
        rate = learning_rate(step, self.total_steps, self.settings)
        # In the first steps the average is over few steps, as in TensorFlow's
        # ExponentialMovingAverage: the initial weights would outweigh all that was learnt.
        decay = min(self.settings.ema_decay or 0.0, (1 + step) / (10 + step))
        if self.settings.accumulation_steps == 1:
            train = self._function("train", self._train, batches[0])
            self._last_sums = train(batches[0], step, rate, decay)
        else:
            for batch in batches:
                self._function("accumulate", self._accumulate, batch)(batch, step)
            self._last_sums = self._apply_accumulated(rate, decay)
        if int(self._last_sums.numpy()[3]) == self.weights.flush_interval:
            self.weights.flush()
        return rate

    def mean_loss(self) -> float:
        """Mean training loss in nats per counted target since the last call of `reset`."""
        total, weight = self._read_sums()[:2]
        return float(total / max(weight, 1e-9))

    def reset(self) -> None:
        """Starts a new mean loss."""
        self.loss_sum.assign(0.0)
        self.weight_sum.assign(0.0)
        self._last_sums = None

    def _read_sums(self) -> np.ndarray:
        return (self._sums() if self._last_sums is None else self._last_sums).numpy()

    def _sums(self) -> tf.Tensor:
        """Sum of losses, sum of weights, norm, steps since the last flush: (4,) float64."""
        sums = [self.loss_sum, self.weight_sum, self.norm, self.weights.steps_since_flush()]
        return tf.stack([tf.cast(value, tf.float64) for value in sums])

    def _function(
        self, name: str, method: Callable[..., tf.Tensor | None], batch: Batch
    ) -> Callable[..., Any]:
        """The method as a graph, traced once for all lengths: axes that may vary are left open."""
        if name not in self._functions:
            scalars = [tf.TensorSpec([], tf.int32)]
            if name == "train":
                scalars += [tf.TensorSpec([], tf.float32)] * 2
            self._functions[name] = trace(method, batch_signature(self.spec, batch), *scalars)
        return self._functions[name]

    def _gradients(self, batch: Batch, step: tf.Tensor) -> tuple[list[Gradient], tf.Tensor]:
        """Gradients of the summed loss, and the sum of weights."""
        with self.weights.recording_lookups(), tf.GradientTape() as tape:
            outputs = self.objective.outputs(self.model, batch.inputs, step)
            losses = self.objective.losses(outputs, batch.targets)
            total = tf.reduce_sum(losses * batch.weights)
            penalty = tf.add_n(self.model.losses) if self.model.losses else tf.constant(0.0)
            weight = tf.reduce_sum(batch.weights)
            objective = total + penalty * weight
        self._add_to_sums(total, weight, tf.shape(tf.nest.flatten(batch.inputs)[0])[0])
        gradients = tape.gradient(objective, [tf_variable(v) for v in self.variables])
        return gradients, weight

    def _add_to_sums(self, total: tf.Tensor, weight: tf.Tensor, rows: tf.Tensor) -> None:
        if not self._local:
            self.loss_sum.assign_add(tf.cast(total, tf.float64))
            self.weight_sum.assign_add(tf.cast(weight, tf.float64))
            return
        # A worker without a row of its own computes one that has no weight.
        rows = tf.where(weight > 0, tf.cast(rows, tf.float32), 0.0)
        for local, value in zip(self._local, (total, weight, rows), strict=True):
            local.assign_add(tf.cast(value, tf.float32))

    def _reduce(
        self, gradients: list[Gradient], weight: tf.Tensor | tf.Variable
    ) -> tuple[list[Gradient], tf.Tensor]:
        """Gradients and weight, summed over workers; with them the sums and moving statistics."""
        if not self._local:
            return gradients, weight
        dense = [tf.convert_to_tensor(gradient) for gradient in gradients]
        rows = tf.convert_to_tensor(self._local[2])
        changes = [
            rows * (tf_variable(now) - before)
            for now, before in zip(self._statistics, self._statistics_before, strict=True)
        ]
        local = [tf.convert_to_tensor(value) for value in self._local]
        count = len(dense)
        reduced = self.workers.all_reduce_sum([*dense, *changes, *local])
        total, weight, rows = reduced[-3:]
        self.loss_sum.assign_add(tf.cast(total, tf.float64))
        self.weight_sum.assign_add(tf.cast(weight, tf.float64))
        changed = zip(self._statistics, self._statistics_before, reduced[count:-3], strict=True)
        for variable, before, change in changed:
            before.assign_add(change / tf.maximum(rows, 1.0))
            tf_variable(variable).assign(before)
        for value in self._local:
            value.assign(0.0)
        return list(reduced[:count]), weight

    def _train(self, batch: Batch, step: tf.Tensor, rate: tf.Tensor, decay: tf.Tensor) -> tf.Tensor:
        gradients, weight = self._gradients(batch, step)
        self._apply(gradients, weight, rate, decay)
        return self._sums()

    def _accumulate(self, batch: Batch, step: tf.Tensor) -> None:
        gradients, weight = self._gradients(batch, step)
        for total, gradient in zip(self._accumulated, gradients, strict=True):
            total.assign_add(tf.convert_to_tensor(gradient))
        self._accumulated_weight.assign_add(weight)

    @tf.function(input_signature=[tf.TensorSpec([])] * 2, autograph=False)
    def _apply_accumulated(self, rate: tf.Tensor, decay: tf.Tensor) -> tf.Tensor:
        accumulated = [tf.identity(v) for v in self._accumulated]
        self._apply(accumulated, self._accumulated_weight, rate, decay)
        for variable in [*self._accumulated, self._accumulated_weight]:
            variable.assign(tf.zeros_like(variable))
        return self._sums()

    def _apply(
        self,
        gradients: list[Gradient],
        weight: tf.Tensor | tf.Variable,
        rate: tf.Tensor,
        decay: tf.Tensor,
    ) -> None:
        gradients, weight = self._reduce(gradients, weight)
        gradients = self.weights.coalesce(gradients)
        scale = 1.0 / tf.maximum(tf.convert_to_tensor(weight), 1e-9)
        norm = tf.linalg.global_norm(gradients) * scale
        self.norm.assign(norm)
        if self.settings.clip_norm is not None:
            scale *= tf.minimum(1.0, self.settings.clip_norm / tf.maximum(norm, 1e-12))
        scaled = [scale_gradient(gradient, scale) for gradient in gradients]
        self.weights.apply_gradients(scaled, rate, decay)


@contextlib.contextmanager
def ema_weights(learner: Learner) -> Iterator[None]:
    """While it is entered, the model's weights are up to date, and their moving average if any."""
    learner.weights.flush()
    if not learner.settings.ema_decay:
        yield
        return
    saved = [np.asarray(v) for v in learner.variables]
    _assign(learner.variables, learner.weights.ema_values())
    try:
        yield
    finally:
        _assign(learner.variables, saved)


def _assign(
    variables: Iterable[Variable], values: Iterable[Variable | tf.Tensor | np.ndarray]
) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def _is_statistic(variable: Variable) -> bool:
    """Whether it is a moving mean or variance, which training changes without a gradient."""
    return not variable.trainable and variable.name.startswith("moving_")
