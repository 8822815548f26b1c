"""One update: batches, gradients, their norm; and the schedule of the rate."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from pipelines.core.contracts import Batch, Codec
from pipelines.core.settings import TrainSettings
from pipelines.core.task import Task
from pipelines.distributed.workers import ALONE, Workers
from pipelines.graphs.tracing import batch_signature, traced
from pipelines.train.gradients import Gradient, native, scaled
from pipelines.train.optimizers import Weights


def learning_rate(step: int, total: int, settings: TrainSettings) -> float:
    """The rate of update `step` (from 0) of `total`: linear warm-up, then decay to the final rate.

    Cosine: Loshchilov & Hutter 2017, eq. 5, without restarts.
    """
    warmup = settings.warmup * total if settings.warmup < 1 else settings.warmup
    if step < warmup:
        return settings.learning_rate * (step + 1) / (warmup + 1)
    done = min(1.0, (step - warmup) / max(1.0, total - warmup))
    final = settings.final_lr_ratio
    share = {
        "constant": lambda: 1.0,
        "linear": lambda: 1 - (1 - final) * done,
        "cosine": lambda: final + (1 - final) * (1 + math.cos(math.pi * done)) / 2,
        "exponential": lambda: max(final, 1e-6) ** done,
    }[settings.schedule]()
    return settings.learning_rate * share


class Learner:
    """A model that learns from batches, `settings.accumulation_steps` of them an update.

    Losses are summed over what counts and divided by the sum of weights of all of an update's
    batches, on all workers, so that accumulated small batches, and parts of batches, equal one
    large batch. What isn't learnt by gradients (means and variances of batch normalisation) moves
    by the mean over workers, each counting by its rows.
    """

    def __init__(
        self,
        task: Task,
        model: keras.Model,
        codec: Codec,
        settings: TrainSettings,
        total_steps: int,
        workers: Workers = ALONE,
    ):
        self.workers = workers
        self.task, self.model, self.settings, self.total = task, model, settings, total_steps
        self.spec = codec.spec
        # Gradients that are summed, over batches or workers, have all rows.
        alone = settings.accumulation_steps == 1 and workers.number == 1
        self.weights = Weights(model, settings, rows_wait=alone)
        self.variables = self.weights.variables
        self.loss_sum = tf.Variable(0.0, dtype=tf.float64, trainable=False)
        self.weight_sum = tf.Variable(0.0, dtype=tf.float64, trainable=False)
        self.norm = tf.Variable(0.0, trainable=False)
        self._accumulated = (
            [tf.Variable(tf.zeros_like(v), trainable=False) for v in self.variables]
            if settings.accumulation_steps > 1
            else []
        )
        self._pending_weight = tf.Variable(0.0, trainable=False)
        # Of this worker since the last update, before they are summed; alone, nothing is.
        shared = workers.number > 1
        self._own = [tf.Variable(0.0, trainable=False) for _ in range(3)] if shared else []
        self._moving = [v for v in model.variables if _moves(v)] if shared else []
        self._moved_from = [tf.Variable(v, trainable=False) for v in self._moving]
        self._functions: dict[str, Any] = {}
        # After the last update: the three sums, and how many updates rows wait for. Of tensors,
        # since a variable takes much longer to be read.
        self._told: tf.Tensor | None = None

    def clipped(self) -> bool:
        """Whether the last update's gradient was longer than clip_norm."""
        bound = self.settings.clip_norm
        return bound is not None and self.gradient_norm() > bound

    def gradient_norm(self) -> float:
        """Of the last update's gradient, before clipping."""
        return float(self._now()[2])

    def state_variables(self) -> dict[str, Sequence[Any]]:
        """All that must be saved between two updates for training to go on to the last bit."""
        return {
            "model": self.model.variables,
            **self.weights.state(),
            "sums": [self.loss_sum, self.weight_sum, self.norm],
        }

    def share(self) -> None:
        """Starts all workers from the chief's state, each with random numbers of its own."""
        self.workers.share(self.state_variables())
        self.workers.seed(self.model.variables)
        _assign(self._moved_from, self._moving)

    def update(self, batches: Sequence[Batch], step: int) -> float:
        """One update from the batches; returns the learning rate it was made with."""
        rate = learning_rate(step, self.total, self.settings)
        decay = self.settings.ema_decay or 0.0
        # Early on, an average over few steps, as in TensorFlow's ExponentialMovingAverage.
        decay = min(decay, (1 + step) / (10 + step))
        if self.settings.accumulation_steps == 1:
            train = self._function("train", self._train, batches[0])
            self._told = train(batches[0], step, rate, decay)
        else:
            for batch in batches:
                self._function("accumulate", self._accumulate, batch)(batch, step)
            self._told = self._apply_accumulated(rate, decay)
        if int(self._told.numpy()[3]) == self.weights.longest_wait:
            self.weights.settle()
        return rate

    def mean_loss(self) -> float:
        """Mean training loss in nats a counted target since the last call of `reset`."""
        total, weight = self._now()[:2]
        return float(total / max(weight, 1e-9))

    def reset(self) -> None:
        self.loss_sum.assign(0.0)
        self.weight_sum.assign(0.0)
        self._told = None

    def _now(self) -> np.ndarray:
        return (self._sums() if self._told is None else self._told).numpy()

    def _sums(self) -> tf.Tensor:
        sums = [self.loss_sum, self.weight_sum, self.norm, self.weights.updates_waited()]
        return tf.stack([tf.cast(one, tf.float64) for one in sums])

    def _function(self, name: str, method: Any, batch: Batch) -> Any:
        """Traced once for all lengths: every axis that may vary is left open."""
        if name not in self._functions:
            numbers = [tf.TensorSpec([], tf.int32)]
            if name == "train":
                numbers += [tf.TensorSpec([], tf.float32)] * 2
            self._functions[name] = traced(method, batch_signature(self.spec, batch), *numbers)
        return self._functions[name]

    def _gradients(self, batch: Batch, step: tf.Tensor) -> tuple[list[Gradient], tf.Tensor]:
        """Gradients of the summed loss, and the sum of weights."""
        with self.weights.looked_up(), tf.GradientTape() as tape:
            outputs = self.task.outputs(self.model, batch.inputs, step)
            losses = self.task.losses(outputs, batch.targets)
            total = tf.reduce_sum(losses * batch.weights)
            regular = tf.add_n(self.model.losses) if self.model.losses else tf.constant(0.0)
            weight = tf.reduce_sum(batch.weights)
            objective = total + regular * weight
        self._count(total, weight, tf.shape(tf.nest.flatten(batch.inputs)[0])[0])
        gradients = tape.gradient(objective, [native(v) for v in self.variables])
        return gradients, weight

    def _count(self, total: tf.Tensor, weight: tf.Tensor, rows: tf.Tensor) -> None:
        if not self._own:
            self.loss_sum.assign_add(tf.cast(total, tf.float64))
            self.weight_sum.assign_add(tf.cast(weight, tf.float64))
            return
        # A row that only stands for none has no weight.
        rows = tf.where(weight > 0, tf.cast(rows, tf.float32), 0.0)
        for own, value in zip(self._own, (total, weight, rows), strict=True):
            own.assign_add(tf.cast(value, tf.float32))

    def _of_all(self, gradients: list[Gradient], weight: Any) -> tuple[list[Gradient], tf.Tensor]:
        """Gradients and weight, and what else there is to know of them, summed over workers."""
        if not self._own:
            return gradients, weight
        gradients = [tf.convert_to_tensor(gradient) for gradient in gradients]
        rows = tf.convert_to_tensor(self._own[2])
        moves = [
            rows * (native(now) - before)
            for now, before in zip(self._moving, self._moved_from, strict=True)
        ]
        own = [tf.convert_to_tensor(one) for one in self._own]
        count = len(gradients)
        found = self.workers.summed([*gradients, *moves, *own])
        total, weight, rows = found[-3:]
        self.loss_sum.assign_add(tf.cast(total, tf.float64))
        self.weight_sum.assign_add(tf.cast(weight, tf.float64))
        moved = zip(self._moving, self._moved_from, found[count:-3], strict=True)
        for variable, before, move in moved:
            before.assign_add(move / tf.maximum(rows, 1.0))
            native(variable).assign(before)
        for one in self._own:
            one.assign(0.0)
        return found[:count], weight

    def _train(self, batch: Batch, step: tf.Tensor, rate: tf.Tensor, decay: tf.Tensor) -> tf.Tensor:
        gradients, weight = self._gradients(batch, step)
        self._apply(gradients, weight, rate, decay)
        return self._sums()

    def _accumulate(self, batch: Batch, step: tf.Tensor) -> None:
        gradients, weight = self._gradients(batch, step)
        for total, gradient in zip(self._accumulated, gradients, strict=True):
            total.assign_add(tf.convert_to_tensor(gradient))
        self._pending_weight.assign_add(weight)

    @tf.function(input_signature=[tf.TensorSpec([])] * 2, autograph=False)
    def _apply_accumulated(self, rate: tf.Tensor, decay: tf.Tensor) -> tf.Tensor:
        accumulated = [tf.identity(v) for v in self._accumulated]
        self._apply(accumulated, self._pending_weight, rate, decay)
        for variable in [*self._accumulated, self._pending_weight]:
            variable.assign(tf.zeros_like(variable))
        return self._sums()

    def _apply(
        self, gradients: list[Gradient], weight: Any, rate: tf.Tensor, decay: tf.Tensor
    ) -> None:
        gradients, weight = self._of_all(gradients, weight)
        gradients = self.weights.merged(gradients)
        scale = 1.0 / tf.maximum(tf.convert_to_tensor(weight), 1e-9)
        norm = tf.linalg.global_norm(gradients) * scale
        self.norm.assign(norm)
        if self.settings.clip_norm is not None:
            scale *= tf.minimum(1.0, self.settings.clip_norm / tf.maximum(norm, 1e-12))
        self.weights.move([scaled(gradient, scale) for gradient in gradients], rate, decay)


class Averaged:
    """While it is entered, the model's weights are their moving average."""

    def __init__(self, learner: Learner):
        self.learner = learner

    def __enter__(self) -> None:
        self.learner.weights.settle()
        self.kept: list[np.ndarray] = []
        if self.learner.settings.ema_decay:
            self.kept = [np.asarray(v) for v in self.learner.variables]
            _assign(self.learner.variables, self.learner.weights.averaged())

    def __exit__(self, *error: object) -> None:
        if self.kept:
            _assign(self.learner.variables, self.kept)


def _assign(variables: Iterable[Any], values: Iterable[Any]) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def _moves(variable: Any) -> bool:
    """Whether it is a number that training changes, and no gradient."""
    return not variable.trainable and tf.as_dtype(variable.dtype).is_floating
