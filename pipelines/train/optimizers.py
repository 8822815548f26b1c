"""Updates of the weights: the optimizers, lazy embeddings, and the moving average."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager

import keras
import tensorflow as tf

from pipelines.core.settings import TrainSettings
from pipelines.train.gradients import (
    AdamConstants,
    Gradient,
    Variable,
    apply_adam,
    coalesce,
    tf_variable,
    update_ema,
)
from pipelines.train.lazy_adam import DEFAULT, LazyAdam, LazySettings, lazy_embeddings

ADAM = AdamConstants(beta_1=0.9, beta_2=0.999, epsilon=1e-7)
"""Keras' defaults."""


class FusedAdam(keras.optimizers.Optimizer):
    """Adam (Kingma & Ba 2015) that updates a variable in one operation.

    With a weight_decay it is AdamW: the decay is decoupled (Loshchilov & Hutter 2019).
    """

    def __init__(
        self,
        learning_rate: float,
        *,
        weight_decay: float | None = None,
        constants: AdamConstants = ADAM,
    ) -> None:
        super().__init__(learning_rate, weight_decay=weight_decay)
        self.constants = constants
        self._corrected: tf.Tensor | None = None

    def build(self, variables: Sequence[Variable]) -> None:
        """Makes both moments of each variable, zeros."""
        if self.built:
            return
        super().build(variables)
        self.moments = self.add_optimizer_variables(variables, ["momentum", "velocity"])
        self._positions = {id(tf_variable(v)): place for place, v in enumerate(variables)}

    def apply(
        self, grads: Sequence[tf.Tensor], trainable_variables: Sequence[Variable] | None = None
    ) -> None:
        """Applies one training step. The bias is corrected once, for all variables."""
        self._corrected = self.bias_corrected(self.learning_rate)
        super().apply(grads, trainable_variables)
        self._corrected = None

    def update_step(
        self, gradient: tf.Tensor, variable: Variable, learning_rate: tf.Tensor
    ) -> None:
        """Updates one variable; `apply` has already corrected the learning rate."""
        del learning_rate
        if self._corrected is None:
            raise ValueError("update_step is called by apply, which corrects the bias.")
        place = self._positions[id(tf_variable(variable))]
        moments = self.moments[0][place], self.moments[1][place]
        apply_adam(variable, moments, gradient, self._corrected, self.constants)

    def bias_corrected(self, learning_rate: tf.Tensor) -> tf.Tensor:
        """The learning rate of the coming step times Adam's bias correction, a scalar."""
        step = tf.cast(self.iterations + 1, tf.float32)
        beta_1, beta_2 = self.constants.beta_1, self.constants.beta_2
        first, second = tf.pow(beta_1, step), tf.pow(beta_2, step)
        return tf.cast(learning_rate, tf.float32) * tf.sqrt(1 - second) / (1 - first)


def make_optimizer(
    settings: TrainSettings, variables: Sequence[Variable]
) -> keras.optimizers.Optimizer:
    """The optimizer for these variables; biases and embeddings do not decay.

    It neither clips nor averages: the norm before clipping is reported, so the learner does both.
    """
    rate = settings.learning_rate
    match settings.optimizer:
        case "adam":
            return FusedAdam(rate)
        case "adamw":
            optimizer = FusedAdam(rate, weight_decay=settings.weight_decay)
            exempt = [v for v in variables if "bias" in v.path or "embedding" in v.path]
            optimizer.exclude_from_weight_decay(var_list=exempt)
            return optimizer
        case "sgd":
            return keras.optimizers.SGD(rate, momentum=settings.momentum)
        case "rmsprop":
            return keras.optimizers.RMSprop(rate, momentum=settings.momentum)


class Weights:
    """A model's trainable variables with their optimizer and their moving average.

    lazy  large embeddings are updated row by row, when rows are next looked up. Gradients must
          then be traced within `recording_lookups`, once for each training step, and `flush` must
          come before anybody else reads the weights. The state is the same with lazy=False.
    """

    def __init__(
        self,
        model: keras.Model,
        settings: TrainSettings,
        *,
        lazy: bool,
        lazy_settings: LazySettings = DEFAULT,
    ):
        self.variables = model.trainable_variables
        by_adam = settings.optimizer in ("adam", "adamw")
        embeddings = lazy_embeddings(model, lazy_settings) if by_adam else []
        by_id = {id(embedding.matrix): embedding for embedding in embeddings}
        self._is_embedding = [id(variable) in by_id for variable in self.variables]
        self._others = [v for v in self.variables if id(v) not in by_id]
        self.optimizer = make_optimizer(settings, self._others)
        self.optimizer.build(self._others)
        ema = settings.ema_decay is not None
        ordered = [by_id[id(v)] for v in self.variables if id(v) in by_id]
        self.lazy_adam = (
            LazyAdam(ordered, ADAM, ema=ema, lazy=lazy, settings=lazy_settings) if ordered else None
        )
        averaged = [tf_variable(variable) for variable in self._others] if ema else []
        self._averages = [(tf.Variable(v, trainable=False), v) for v in averaged]

    def state_variables(self) -> dict[str, Sequence[Variable]]:
        """All that a checkpoint must hold, in groups whose names are those in its file."""
        return {
            "optimizer": self.optimizer.variables,
            "average": [average for average, _ in self._averages],
            "rows": self.lazy_adam.state_variables() if self.lazy_adam else [],
        }

    def after_restore(self) -> None:
        """Must be called once the state was assigned: it may hold rows that aren't up to date."""
        if self.lazy_adam and not self.lazy_adam.lazy:
            self.lazy_adam.flush()

    def recording_lookups(self) -> AbstractContextManager[None]:
        """The context in which one training step's gradients are traced."""
        return self.lazy_adam.recording_lookups() if self.lazy_adam else contextlib.nullcontext()

    def coalesce(self, gradients: Iterable[Gradient]) -> list[Gradient]:
        """The gradients, sparse ones with each row at most once, as a norm needs them."""
        gradients = list(gradients)
        of_embeddings = self._of_embeddings(gradients)
        coalesced = iter(self.lazy_adam.coalesce(of_embeddings) if self.lazy_adam else [])
        return [
            next(coalesced) if is_embedding else coalesce(gradient)
            for gradient, is_embedding in zip(gradients, self._is_embedding, strict=True)
        ]

    def apply_gradients(
        self, gradients: Sequence[Gradient], learning_rate: tf.Tensor, decay: tf.Tensor
    ) -> None:
        """Applies gradients from `coalesce`; decay is that of the moving average."""
        self.optimizer.learning_rate.assign(learning_rate)
        if self.lazy_adam:
            corrected = self.optimizer.bias_corrected(learning_rate)
            self.lazy_adam.update(self._of_embeddings(gradients), corrected, decay)
        is_other = (not is_embedding for is_embedding in self._is_embedding)
        dense = [
            tf.convert_to_tensor(gradient) for gradient in itertools.compress(gradients, is_other)
        ]
        self.optimizer.apply(dense, self._others)
        for average, variable in self._averages:
            update_ema(average, variable, decay)

    def _of_embeddings(self, gradients: Sequence[Gradient]) -> Iterable[Gradient]:
        return itertools.compress(gradients, self._is_embedding)

    def steps_since_flush(self) -> tf.Tensor:
        """Training steps since the last flush, a scalar; must not exceed `flush_interval`."""
        if self.lazy_adam is None:
            return tf.constant(0)
        return tf.convert_to_tensor(self.lazy_adam.steps_since_flush)

    @property
    def flush_interval(self) -> int | None:
        """The most training steps between two calls of `flush`; None where it isn't needed."""
        return self.lazy_adam.window if self.lazy_adam else None

    def flush(self) -> None:
        """Brings all weights up to date with the last training step."""
        if self.lazy_adam:
            self.lazy_adam.flush()

    def ema_values(self) -> list[tf.Tensor]:
        """The moving average of each variable. flush() must come first."""
        dense = (tf.convert_to_tensor(average) for average, _ in self._averages)
        of_embeddings = iter(self.lazy_adam.ema_values() if self.lazy_adam else [])
        return [
            next(of_embeddings if is_embedding else dense) for is_embedding in self._is_embedding
        ]
