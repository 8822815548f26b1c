"""Adam, and the moving average, of matrices of which an update looks up few rows.

Adam (Kingma & Ba 2015) moves every row of an embedding in every update: where a row has no
gradient, its momentum carries it on, ever less. With many words and short texts that is much of an
update's work. But what a row has missed has a closed form: it can wait until it is next read.

Of a row that was settled at update s, with weights w, moments m and v, and average a, at update t:

    m' = β1^(t-s) m                         S = Σ r_i ρ^(i-s),  ρ = β1 / √β2
    v' = β2^(t-s) v                         E = Σ r_i ρ^(i-s) (β2^(-(i-s)/2) - 1)
    w' = w - u (S - e E)                    D = Π d_i
    a' = a + (1 - D) (w - a) - u (Q - e R)  Q, R = Σ (1 - d_i) (S, E)(s, i) Π d_j,  j > i

with u = m / (√v + ε), e = ε / (√v + ε), i from s + 1 to t, r_i the rate of update i with the
correction of Adam's bias, and d_i its decay of the average. Adam divides by √v' + ε: that ε doesn't
shrink as √v' does is what e E is for, to first order. While a momentum lasts, the rest is less than
a ten-thousandth of what it does, and only where √v is as small as ε.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

import keras
import tensorflow as tf

from models.embedding import Embedding
from pipelines.train.gradients import Gradient, adam, follow, merged, native

ROWS_PAY = 100_000
"""Numbers in a matrix from which on updating rows is faster than passing over all of it."""

WINDOW = 512
"""Updates after which all rows are settled, so that sums are needed for so many s only."""

CHUNK = 16_384
"""Rows settled at a time, so that memory does not grow with the vocabulary once more."""


def tables_of(model: keras.Model) -> list[Embedding]:
    """Embeddings whose rows can wait: large ones that learn and are read row by row only."""
    return [
        layer
        for layer in model._flatten_layers()
        if isinstance(layer, Embedding)
        and layer.trainable
        and not layer.read_whole
        and layer.matrix.shape[0] * layer.matrix.shape[1] >= ROWS_PAY
    ]


class RowAdam:
    """Of some embeddings. Who reads their weights but by `looked_up` must settle() before.

    waits  False: gradients are of all rows, which are moved at once. The state is the same, and may
           be of one whose rows waited: settle() comes first then.
    """

    def __init__(
        self,
        embeddings: Iterable[Embedding],
        optimizer: keras.optimizers.Adam,
        *,
        averaged: bool,
        waits: bool = True,
    ):
        self.waits = waits
        self.betas, self.epsilon = (optimizer.beta_1, optimizer.beta_2), optimizer.epsilon
        self.window = WINDOW
        # Updates since all rows were settled, and S, E, Q, R and D of each s of them.
        self.position = tf.Variable(0, dtype=tf.int64, trainable=False)
        self._fresh = tf.constant([[0.0]] * 4 + [[1.0]], tf.float64) * tf.ones(
            [self.window + 1], tf.float64
        )
        self.missed = tf.Variable(self._fresh, trainable=False)
        self.tables = [_Table(embedding, self, averaged=averaged) for embedding in embeddings]

    def state(self) -> list[tf.Variable]:
        return [
            self.position,
            self.missed,
            *(variable for table in self.tables for variable in table.state()),
        ]

    @contextlib.contextmanager
    def looked_up(self) -> Iterator[None]:
        """What is traced meanwhile, one update's gradients, looks up rows as they should be now."""
        for table in self.tables if self.waits else ():
            table.begin()
            table.embedding.look_up = table.look_up
        try:
            yield
        finally:
            for table in self.tables:
                table.embedding.look_up = None

    def merged(self, gradients: Iterable[Gradient]) -> list[Gradient]:
        """The embeddings' gradients, where they are of rows with each row once."""
        return [
            gradient if self.waits and table.once else merged(gradient)
            for table, gradient in zip(self.tables, gradients, strict=True)
        ]

    def update(self, gradients: Iterable[Gradient], rate: tf.Tensor, decay: tf.Tensor) -> None:
        """An update; gradients are as `merged` gave them. rate: with Adam's bias corrected."""
        for table, gradient in zip(self.tables, gradients, strict=True):
            (table.update if self.waits else table.update_whole)(gradient, rate, decay)
        if not self.waits:
            return
        self.position.assign_add(1)
        lag = self.position - tf.range(self.window + 1, dtype=tf.int64)
        rate, decay = tf.cast(rate, tf.float64), tf.cast(decay, tf.float64)
        first, second = (tf.constant(beta, tf.float64) for beta in self.betas)
        lag = tf.cast(lag, tf.float64)
        growth = tf.pow(second, -lag / 2)  # of ε beside √v
        step = rate * tf.pow(first, lag) * growth
        sums, averaged, kept = tf.split(self.missed, [2, 2, 1])
        sums += tf.stack([step, step * (growth - 1)])
        averaged = decay * averaged + (1 - decay) * sums
        now = tf.concat([sums, averaged, decay * kept], 0)
        self.missed.assign(tf.where(lag > 0, now, self.missed))

    def averages(self) -> list[tf.Tensor]:
        """Of each embedding, (V, D); all rows must be settled."""
        return [tf.convert_to_tensor(table.kept[2]) for table in self.tables]

    def settle(self) -> None:
        """Brings all rows up to the last update, which must be done every `window` updates."""
        if int(self.position.numpy()) == 0:
            return
        for table in self.tables:
            count = table.weights.shape[0]
            for first in range(0, count, CHUNK):
                table.settle(tf.range(first, min(first + CHUNK, count)))
            table.seen.assign(tf.zeros_like(table.seen))
        self.missed.assign(self._fresh)
        self.position.assign(0)


class _Table:
    """One embedding's weights, m, v and, if there is one, average, each (V, D).

    seen (V,): after how many of RowAdam's updates each row was settled.
    """

    def __init__(self, embedding: Embedding, owner: RowAdam, *, averaged: bool):
        self.embedding, self.owner = embedding, owner
        self.weights = native(embedding.matrix)
        zeros = tf.zeros_like(self.weights)
        kept = [zeros, zeros, tf.convert_to_tensor(self.weights)][: 3 if averaged else 2]
        self.kept = [tf.Variable(one, trainable=False) for one in kept]
        # Not int32, which a GPU's variables can't be.
        self.seen = tf.Variable(tf.zeros(self.weights.shape[:1], tf.int64), trainable=False)
        signature = [tf.TensorSpec([None], tf.int32)]
        self.settle = tf.function(self._settle, input_signature=signature, autograph=False)
        self.begin()

    def state(self) -> list[tf.Variable]:
        return [*self.kept, self.seen]

    def begin(self) -> None:
        """Nothing is looked up yet in the update that is traced."""
        self._graph = tf.compat.v1.get_default_graph()
        self._held: tuple[tf.Tensor, list[tf.Tensor]] | None = None
        self.once = True

    def look_up(self, ids: tf.Tensor) -> tf.Tensor:
        """Vectors (..., D) of ids (...), as they are after the last update.

        What is looked up once is written once: after the update. What is looked up again, or in a
        branch or a loop, whose tensors nobody else sees, is written at once.
        """
        rows, places = tf.unique(tf.reshape(ids, [-1]))
        values = self._settled(rows)
        if self._held is None and tf.compat.v1.get_default_graph() is self._graph:
            self._held = rows, values
        else:
            self.once = False
            self._assign(rows, values, self.owner.position)
        shape = tf.concat([tf.shape(ids), self.weights.shape[1:]], 0)
        return tf.reshape(tf.gather(values[0], places), shape)

    def update(self, gradient: Gradient, rate: tf.Tensor, decay: tf.Tensor) -> None:
        """Of all that was looked up."""
        if self.once and self._held is not None and isinstance(gradient, tf.IndexedSlices):
            (rows, values), g = self._held, gradient.values
        else:
            if self._held is not None:
                self._assign(*self._held, self.owner.position)
            if not isinstance(gradient, tf.IndexedSlices):  # as of a branch
                gradient = tf.IndexedSlices(gradient, tf.range(self.weights.shape[0]))
                self._settle(gradient.indices)
            rows, g = gradient.indices, gradient.values
            values = self._of(rows)
        w, m, v, *a = values
        m += (g - m) * (1 - self.owner.betas[0])
        v += (g * g - v) * (1 - self.owner.betas[1])
        w -= rate * m / (tf.sqrt(v) + self.owner.epsilon)
        a = [one + (1 - decay) * (w - one) for one in a]
        self._assign(rows, [w, m, v, *a], self.owner.position + 1)

    def update_whole(self, gradient: Gradient, rate: tf.Tensor, decay: tf.Tensor) -> None:
        """Of all rows, which are settled."""
        m, v, *a = self.kept
        whole = tf.convert_to_tensor(gradient)
        adam(self.weights, (m, v), whole, rate, self.owner.betas, self.owner.epsilon)
        for average in a:
            follow(average, self.weights, decay)

    def _settle(self, rows: tf.Tensor) -> None:
        self._assign(rows, self._settled(rows), self.owner.position)

    def _settled(self, rows: tf.Tensor) -> list[tf.Tensor]:
        """What rows (N,), each once, are after the last update."""
        seen = tf.gather(self.seen, rows)
        lag = tf.cast(self.owner.position - seen, tf.float32)[:, tf.newaxis]
        sums = tf.cast(tf.gather(self.owner.missed, seen, axis=1), tf.float32)
        missed, growth, averaged, averaged_growth, kept = tf.unstack(sums[..., tf.newaxis])
        w, m, v, *a = self._of(rows)
        scale = 1 / (tf.sqrt(v) + self.owner.epsilon)
        direction, small = m * scale, self.owner.epsilon * scale
        missed -= small * growth
        averaged -= small * averaged_growth
        a = [one + (1 - kept) * (w - one) - averaged * direction for one in a]
        m, v = (x * tf.pow(beta, lag) for x, beta in zip((m, v), self.owner.betas, strict=True))
        return [w - tf.stop_gradient(missed * direction), m, v, *a]

    def _of(self, rows: tf.Tensor) -> list[tf.Tensor]:
        return [tf.gather(variable, rows) for variable in (self.weights, *self.kept)]

    def _assign(self, rows: tf.Tensor, values: list[tf.Tensor], seen: tf.Tensor) -> None:
        for variable, value in zip((self.weights, *self.kept), values, strict=True):
            variable.scatter_update(tf.IndexedSlices(value, rows))
        self.seen.scatter_update(tf.IndexedSlices(tf.fill(tf.shape(rows), seen), rows))
