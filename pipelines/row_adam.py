"""Adam, and the moving average, of matrices of which an update looks up few rows.

Adam (Kingma & Ba 2015) moves every row of an embedding in every update: where a row has no
gradient, its momentum carries it on, ever less. With many words and short texts that is much of an
update's work. But what a row has missed has a closed form: it can wait until it is next read.

Of a row that was settled at update s, with weights w, moments m and v, and average a, at update t:

    m' = β1^(t-s) m                         S = Σ r_i ρ^(i-s),  ρ = β1 / √β2
    v' = β2^(t-s) v                         D = Π d_i
    w' = w - S u,  u = m / (√v + ε)         Q = Σ (1 - d_i) S(s, i) Π d_j,  j > i
    a' = a + (1 - D) (w - a) - Q u

with i from s + 1 to t, r_i the rate of update i with the correction of Adam's bias, and d_i its
decay of the average. It is what Adam does but for rounding, and for ε, which should grow beside √v:
while a momentum lasts, by 0.5%, which shows where √v is not far above ε, 1e-7.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import keras
import tensorflow as tf

from models.embedding import Embedding

Gradient = Any
"""tf.Tensor, or tf.IndexedSlices: some rows of one."""

ROWS_PAY = 100_000
"""Numbers in a matrix from which on updating rows is faster than passing over all of it."""

WINDOW = 512
"""Updates after which all rows are settled, so that S, Q and D are needed for so many s only."""

CHUNK = 65_536
"""Rows settled at a time, so that memory does not grow with the vocabulary once more."""


def looked_up(model: keras.Model) -> list[Embedding]:
    """The model's embeddings that are large, learn, and are read by nothing but their rows."""
    return [
        layer
        for layer in model._flatten_layers()
        if isinstance(layer, Embedding)
        and layer.trainable
        and not layer.read_whole
        and layer.matrix.shape[0] * layer.matrix.shape[1] >= ROWS_PAY
    ]


class RowAdam:
    """Of some embeddings. Who reads their weights outside of `settling` must settle() before."""

    def __init__(
        self, embeddings: Iterable[Embedding], optimizer: keras.optimizers.Adam, *, averaged: bool
    ):
        self.betas, self.epsilon = (optimizer.beta_1, optimizer.beta_2), optimizer.epsilon
        # Updates since all rows were settled, and for each s of them S, Q and D.
        self.position = tf.Variable(0, dtype=tf.int64, trainable=False)
        self._fresh = tf.constant([[0.0, 0.0, 1.0]] * (WINDOW + 1), tf.float64)
        self.missed = tf.Variable(self._fresh, trainable=False)
        self.tables = [_Table(embedding, self, averaged=averaged) for embedding in embeddings]

    def state(self) -> list[tf.Variable]:
        return [
            self.position,
            self.missed,
            *(variable for table in self.tables for variable in (*table.kept, table.seen)),
        ]

    @contextlib.contextmanager
    def settling(self) -> Iterator[None]:
        """What is traced meanwhile settles rows before it looks them up."""
        for table in self.tables:
            table.embedding.before_look_up = table.settle
        try:
            yield
        finally:
            for table in self.tables:
                table.embedding.before_look_up = None

    def update(self, gradients: Iterable[Gradient], rate: tf.Tensor, decay: tf.Tensor) -> None:
        """One update; gradients have each row once. rate: with the correction of Adam's bias."""
        for table, gradient in zip(self.tables, gradients, strict=True):
            table.update(gradient, rate, decay)
        self.position.assign_add(1)
        lag = self.position - tf.range(WINDOW + 1, dtype=tf.int64)
        passed = lag[:, tf.newaxis] > 0
        rate, decay = tf.cast(rate, tf.float64), tf.cast(decay, tf.float64)
        missed, averaged, kept = tf.split(self.missed, 3, axis=1)
        ratio = self.betas[0] / self.betas[1] ** 0.5
        powers = tf.pow(tf.constant(ratio, tf.float64), tf.cast(lag, tf.float64))
        missed += rate * powers[:, tf.newaxis]
        averaged = decay * averaged + (1 - decay) * missed
        now = tf.concat([missed, averaged, decay * kept], axis=1)
        self.missed.assign(tf.where(passed, now, self.missed))

    def averages(self) -> list[tf.Tensor]:
        """Of each embedding, (V, D); all rows must be settled."""
        return [tf.convert_to_tensor(table.kept[2]) for table in self.tables]

    def settle(self, *, window: bool = False) -> None:
        """Brings all rows up to the last update; where `window`, only when a window is full."""
        position = int(self.position.numpy())
        if position == 0 or (window and position < WINDOW):
            return
        for table in self.tables:
            count = table.weights.shape[0]
            for first in range(0, count, CHUNK):
                table.settle_some(tf.range(first, min(first + CHUNK, count)))
            table.seen.assign(tf.zeros_like(table.seen))
        self.missed.assign(self._fresh)
        self.position.assign(0)


class _Table:
    """One embedding's weights, m, v and, if there is one, average, each (V, D).

    seen (V,): after how many of RowAdam's updates each row was settled.
    """

    def __init__(self, embedding: Embedding, whole: RowAdam, *, averaged: bool):
        self.embedding, self.whole = embedding, whole
        self.weights = native(embedding.matrix)
        zeros = tf.zeros_like(self.weights)
        kept = [zeros, zeros, tf.convert_to_tensor(self.weights)][: 3 if averaged else 2]
        self.kept = [tf.Variable(one, trainable=False) for one in kept]
        # Not int32, which a GPU's variables can't be.
        self.seen = tf.Variable(tf.zeros(self.weights.shape[:1], tf.int64), trainable=False)
        signature = [tf.TensorSpec([None], tf.int32)]
        self.settle_some = tf.function(self._settle, input_signature=signature, autograph=False)

    def settle(self, ids: tf.Tensor) -> None:
        """Brings the rows of ids (...) up to the last update."""
        self._settle(tf.unique(tf.reshape(ids, [-1]))[0])

    def _settle(self, rows: tf.Tensor) -> None:
        """Of rows (N,), each once."""
        seen = tf.gather(self.seen, rows)
        lag = tf.cast(self.whole.position - seen, tf.float32)[:, tf.newaxis]
        missed, averaged, kept = tf.split(
            tf.cast(tf.gather(self.whole.missed, seen), tf.float32), 3, axis=1
        )
        w, m, v, *a = self._of(rows)
        direction = m / (tf.sqrt(v) + self.whole.epsilon)
        a = [one + (1 - kept) * (w - one) - averaged * direction for one in a]
        m, v = (x * tf.pow(beta, lag) for x, beta in zip((m, v), self.whole.betas, strict=True))
        self._assign(rows, [w - missed * direction, m, v, *a], self.whole.position)

    def update(self, gradient: Gradient, rate: tf.Tensor, decay: tf.Tensor) -> None:
        if not isinstance(gradient, tf.IndexedSlices):  # as from a branch of tf.cond
            gradient = tf.IndexedSlices(gradient, tf.range(self.weights.shape[0]))
            self._settle(gradient.indices)
        rows, g = gradient.indices, gradient.values
        w, m, v, *a = self._of(rows)
        m += (g - m) * (1 - self.whole.betas[0])
        v += (g * g - v) * (1 - self.whole.betas[1])
        w -= rate * m / (tf.sqrt(v) + self.whole.epsilon)
        a = [one + (1 - decay) * (w - one) for one in a]
        self._assign(rows, [w, m, v, *a], self.whole.position + 1)

    def _of(self, rows: tf.Tensor) -> list[tf.Tensor]:
        return [tf.gather(variable, rows) for variable in (self.weights, *self.kept)]

    def _assign(self, rows: tf.Tensor, values: list[tf.Tensor], seen: tf.Tensor) -> None:
        for variable, value in zip((self.weights, *self.kept), values, strict=True):
            variable.scatter_update(tf.IndexedSlices(value, rows))
        self.seen.scatter_update(tf.IndexedSlices(tf.fill(tf.shape(rows), seen), rows))


# Gradients


def merged(gradient: Gradient) -> Gradient:
    """With each row once, if it is of rows."""
    if not isinstance(gradient, tf.IndexedSlices):
        return gradient
    rows, places = tf.unique(gradient.indices)
    values = tf.math.unsorted_segment_sum(gradient.values, places, tf.size(rows))
    return tf.IndexedSlices(values, rows, gradient.dense_shape)


def scaled(gradient: Gradient, scale: tf.Tensor) -> Gradient:
    if isinstance(gradient, tf.IndexedSlices):
        return tf.IndexedSlices(gradient.values * scale, gradient.indices, gradient.dense_shape)
    return gradient * scale


def native(variable: Any) -> tf.Variable:
    """The TensorFlow variable that a Keras variable may be around."""
    return variable if isinstance(variable, tf.Variable) else variable.value
