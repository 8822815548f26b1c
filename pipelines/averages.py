"""Tables of which an update changes a few rows: their gradients, and moving averages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

Gradient = Any
"""tf.Tensor, or tf.IndexedSlices: some rows of one."""


def is_table(variable: Any) -> bool:
    """Whether rows (V, D) are looked up in it, so that an update concerns few of them."""
    return "embedding" in variable.path and len(variable.shape) == 2


def by_rows(gradient: Gradient) -> tf.IndexedSlices:
    """The rows of a table's gradient that aren't all 0, each once."""
    if isinstance(gradient, tf.IndexedSlices):
        rows, places = tf.unique(gradient.indices)
        values = tf.math.unsorted_segment_sum(gradient.values, places, tf.size(rows))
        shape = gradient.dense_shape
    else:
        shape = tf.shape(gradient)
        rows, values = tf.range(shape[0]), gradient
    some = tf.where(tf.reduce_any(values != 0, axis=-1))[:, 0]
    return tf.IndexedSlices(tf.gather(values, some), tf.gather(rows, some), shape)


def scaled(gradient: Gradient, scale: tf.Tensor) -> Gradient:
    if isinstance(gradient, tf.IndexedSlices):
        return tf.IndexedSlices(gradient.values * scale, gradient.indices, gradient.dense_shape)
    return gradient * scale


class Averages:
    """After each update: average <- d average + (1 - d) variable, with the d of that update.

    Of a table, an update only touches the rows that it changes: while a row stays, its average
    comes nearer by each d, which is made up for when it changes or the averages are asked for.
    """

    def __init__(self, variables: Sequence[tf.Variable], tables: Sequence[bool]):
        self.variables = variables
        self.values = [tf.Variable(v, trainable=False) for v in variables]
        # Sums of log d: of all updates, and of those that the average of a table's row has seen.
        self.passed = tf.Variable(0.0, dtype=tf.float64, trainable=False)
        self._seen = {
            k: tf.Variable(tf.zeros(v.shape[:1], tf.float64), trainable=False)
            for k, v in enumerate(variables)
            if tables[k]
        }

    def state(self) -> list[tf.Variable]:
        return [*self.values, self.passed, *self._seen.values()]

    def rows_before(self, gradients: Sequence[Gradient]) -> list[tf.Tensor | None]:
        """Averages of the rows that an update is about to change; None where it changes all."""
        return [
            self._until_now(k, gradient.indices) if k in self._seen else None
            for k, gradient in enumerate(gradients)
        ]

    def update(
        self, gradients: Sequence[Gradient], before: Sequence[tf.Tensor | None], decay: tf.Tensor
    ) -> None:
        """After the variables have changed; `before` is what rows_before said."""
        self.passed.assign_add(tf.math.log(tf.cast(decay, tf.float64)))
        for k, (average, variable) in enumerate(zip(self.values, self.variables, strict=True)):
            if k not in self._seen:
                # One pass less than assign_sub((1 - d) * ...).
                tf.raw_ops.ResourceApplyGradientDescent(
                    var=average.handle, alpha=1 - decay, delta=average - variable
                )
                continue
            rows, old = gradients[k].indices, before[k]
            new = old + (1 - decay) * (tf.gather(variable, rows) - old)
            average.scatter_update(tf.IndexedSlices(new, rows))
            seen = tf.fill(tf.shape(rows), tf.convert_to_tensor(self.passed))
            self._seen[k].scatter_update(tf.IndexedSlices(seen, rows))

    def now(self) -> list[tf.Tensor]:
        """Of each variable, all rows."""
        return [
            self._until_now(k, tf.range(tf.shape(value)[0])) if k in self._seen else value
            for k, value in enumerate(self.values)
        ]

    def _until_now(self, k: int, rows: tf.Tensor) -> tf.Tensor:
        """Averages of rows that have stayed since the last update which changed them."""
        away = tf.exp(self.passed - tf.gather(self._seen[k], rows))[:, tf.newaxis]
        variable = tf.gather(self.variables[k], rows)
        old = tf.gather(self.values[k], rows)
        return variable + tf.cast(away, variable.dtype) * (old - variable)
