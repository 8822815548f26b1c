"""How weights move: the optimizers, rows that wait for it, and the moving average."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import keras
import tensorflow as tf

from pipelines.core.settings import TrainSettings
from pipelines.train.gradients import Gradient, adam, follow, merged, native
from pipelines.train.lazy_adam import RowAdam, tables_of


class _FusedAdam:
    """Moves a variable in one operation, at a rate that is corrected once for all of them."""

    def _backend_update_step(self: Any, gradients: Any, variables: Any, learning_rate: Any) -> None:
        rate = self.corrected(learning_rate)
        super()._backend_update_step(gradients, variables, rate)  # type: ignore[misc]

    def update_step(self: Any, gradient: tf.Tensor, variable: Any, learning_rate: Any) -> None:
        """learning_rate: with the correction of Adam's bias."""
        index = self._get_variable_index(variable)
        moments = self._momentums[index], self._velocities[index]
        betas = self.beta_1, self.beta_2
        adam(variable, moments, gradient, learning_rate, betas, self.epsilon)

    def corrected(self: Any, learning_rate: Any) -> tf.Tensor:
        """The rate of the next update, with the correction of Adam's bias."""
        step = tf.cast(self.iterations + 1, tf.float32)
        first, second = tf.pow(self.beta_1, step), tf.pow(self.beta_2, step)
        return tf.cast(learning_rate, tf.float32) * tf.sqrt(1 - second) / (1 - first)


class Adam(_FusedAdam, keras.optimizers.Adam):
    """As Keras' own."""


class AdamW(_FusedAdam, keras.optimizers.AdamW):
    """As Keras' own: decay is decoupled (Loshchilov & Hutter 2019)."""


def make_optimizer(settings: TrainSettings, variables: Sequence[Any]) -> keras.optimizers.Optimizer:
    """For the variables; biases and embeddings do not decay.

    Clipping and averaging are not the optimizer's: the norm before clipping is measured here.
    """
    rate = settings.learning_rate
    match settings.optimizer:
        case "adam":
            return Adam(rate)
        case "adamw":
            optimizer = AdamW(rate, weight_decay=settings.weight_decay)
            lasting = [v for v in variables if "bias" in v.path or "embedding" in v.path]
            optimizer.exclude_from_weight_decay(var_list=lasting)
            return optimizer
        case "sgd":
            return keras.optimizers.SGD(rate, momentum=settings.momentum)
        case "rmsprop":
            return keras.optimizers.RMSprop(rate, momentum=settings.momentum)


class Weights:
    """A model's trainable variables, with all that moves them from one update to the next.

    Where rows wait, Adam moves those of large embeddings when they are next looked up: gradients
    must then be traced within `looked_up`, each for an update, and `settle` comes before anybody
    else reads the weights. The state is the same where they don't.
    """

    def __init__(self, model: keras.Model, settings: TrainSettings, *, rows_wait: bool):
        self.variables = model.trainable_variables
        rowwise = settings.optimizer in ("adam", "adamw")
        tables = {id(table.matrix): table for table in tables_of(model)} if rowwise else {}
        self._is_table = [id(variable) in tables for variable in self.variables]
        self._others = [v for v in self.variables if id(v) not in tables]
        self.optimizer = make_optimizer(settings, self._others)
        self.optimizer.build(self._others)
        averaged = settings.ema_decay is not None
        ordered = [tables[id(v)] for v in self.variables if id(v) in tables]
        self.rows = (
            RowAdam(ordered, self.optimizer, averaged=averaged, waits=rows_wait)
            if ordered
            else None
        )
        natives = [native(variable) for variable in self._others] if averaged else []
        self._averages = [(tf.Variable(v, trainable=False), v) for v in natives]

    def state(self) -> dict[str, Sequence[Any]]:
        return {
            "optimizer": self.optimizer.variables,
            "average": [average for average, _ in self._averages],
            "rows": self.rows.state() if self.rows else [],
        }

    def restored(self) -> None:
        """To be called once the state was assigned: it may be of weights whose rows waited."""
        if self.rows and not self.rows.waits:
            self.rows.settle()

    def looked_up(self) -> AbstractContextManager[None]:
        return self.rows.looked_up() if self.rows else contextlib.nullcontext()

    def merged(self, gradients: Iterable[Gradient]) -> list[Gradient]:
        """Of a matrix of which few rows were looked up, these, each once: as norms need them."""
        gradients = list(gradients)
        by_rows = iter(self.rows.merged(self._of_rows(gradients)) if self.rows else [])
        return [
            next(by_rows) if is_table else merged(gradient)
            for gradient, is_table in zip(gradients, self._is_table, strict=True)
        ]

    def move(self, gradients: Sequence[Gradient], rate: tf.Tensor, decay: tf.Tensor) -> None:
        """One update by `merged` gradients; average <- decay average + (1 - decay) variable."""
        self.optimizer.learning_rate.assign(rate)
        if self.rows:
            self.rows.update(self._of_rows(gradients), self.optimizer.corrected(rate), decay)
        whole = itertools.compress(gradients, (not is_table for is_table in self._is_table))
        self.optimizer.apply([tf.convert_to_tensor(gradient) for gradient in whole], self._others)
        for average, variable in self._averages:
            follow(average, variable, decay)

    def _of_rows(self, gradients: Sequence[Gradient]) -> Iterable[Gradient]:
        return itertools.compress(gradients, self._is_table)

    def updates_waited(self) -> tf.Tensor:
        """For how many updates rows may have waited; must not exceed `longest_wait`."""
        return tf.convert_to_tensor(self.rows.position) if self.rows else tf.constant(0)

    @property
    def longest_wait(self) -> int | None:
        return self.rows.window if self.rows else None

    def settle(self) -> None:
        """Makes all weights those of the last update."""
        if self.rows:
            self.rows.settle()

    def averaged(self) -> list[tf.Tensor]:
        """The moving average of each of the variables, which must be settled."""
        whole = (tf.convert_to_tensor(average) for average, _ in self._averages)
        by_rows = iter(self.rows.averages() if self.rows else [])
        return [next(by_rows if is_table else whole) for is_table in self._is_table]
