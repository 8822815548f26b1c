"""Lazy Adam: the rows of an embedding are updated when they are next looked up.

Adam (Kingma & Ba 2015) changes every row of an embedding in every training step: where a row has
no gradient, its momentum carries it on, less and less. With a large vocabulary and short texts
that is much of a step's work. But the updates that a row has missed have a closed form, so a row
can wait until it is next read, and then make up for all of them at once.

Take a row that was up to date after step s, with weights w, moments m and v, and moving average
a. At step t it is

    m' = β1^(t-s) m                         S = Σ r_i ρ^(i-s),  ρ = β1 / √β2
    v' = β2^(t-s) v                         E = Σ r_i ρ^(i-s) (β2^(-(i-s)/2) - 1)
    w' = w - u (S - e E)                    D = Π d_i
    a' = a + (1 - D) (w - a) - u (Q - e R)  Q, R = Σ (1 - d_i) (S, E)(s, i) Π d_j,  j > i

with u = m / (√v + ε), e = ε / (√v + ε), i from s + 1 to t, r_i the learning rate of step i with
Adam's bias correction, and d_i the decay of the average in step i. Adam divides by √v' + ε, and
that ε doesn't shrink as √v' does: e E corrects for it, to first order. While a momentum lasts,
what remains is less than a ten-thousandth of its effect, and only where √v is as small as ε.

S, E, Q, R and D depend on s and t but not on the row. So five numbers for each possible s are all
that must be kept: `pending`, which every step brings up to date.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import keras
import tensorflow as tf

from models.embedding import Embedding, row_lookups
from models.layer_tree import flatten_layers
from models.tensors import static_size
from models.token_decoder import TokenDecoder
from pipelines.train.gradients import (
    AdamConstants,
    Gradient,
    apply_adam,
    coalesce,
    tf_variable,
    update_ema,
)


@dataclass(frozen=True)
class LazySettings:
    """When lazy updates are used, and how rows are flushed.

    smallest_matrix  numbers in a matrix from which on updating its rows is faster than one pass
                     over all of it.
    window           training steps after which all rows are flushed, so that `pending` stays small.
    chunk            rows flushed together: a bound on memory, whatever the vocabulary size.
    """

    smallest_matrix: int = 100_000
    window: int = 512
    chunk: int = 16_384


DEFAULT = LazySettings()


def lazy_embeddings(model: keras.Model, settings: LazySettings = DEFAULT) -> list[Embedding]:
    """The embeddings of the model that can be lazy: large, trainable, and only read row by row."""
    layers = flatten_layers(model)
    # An output layer that shares an embedding's matrix reads all rows in every step.
    decoders = [layer for layer in layers if isinstance(layer, TokenDecoder)]
    tied = [decoder.embedding for decoder in decoders if decoder.settings.tied]
    return [
        layer
        for layer in layers
        if isinstance(layer, Embedding)
        and layer.trainable
        and all(layer is not embedding for embedding in tied)
        and layer.matrix.shape[0] * layer.matrix.shape[1] >= settings.smallest_matrix
    ]


class LazyAdam:
    """Adam for some embeddings. Whoever reads their weights without `recording_lookups` must call
    flush() first.

    lazy  False: gradients are of all rows, which are all updated in every step. The state is the
          same as a lazy one's and can be restored from one; flush() must then come first.
    """

    def __init__(
        self,
        embeddings: Iterable[Embedding],
        adam: AdamConstants,
        *,
        ema: bool,
        lazy: bool = True,
        settings: LazySettings = DEFAULT,
    ):
        """ema: whether a moving average of the weights is kept."""
        self.adam, self.lazy, self.settings = adam, lazy, settings
        self.window = settings.window
        self.steps_since_flush = tf.Variable(tf.zeros([], tf.int64), trainable=False)
        # S, E, Q, R and D for each step s since the last flush: 0 0 0 0 1 while nothing is missed.
        self._nothing_pending = tf.constant([[0.0]] * 4 + [[1.0]], tf.float64) * tf.ones(
            [self.window + 1], tf.float64
        )
        self.pending = tf.Variable(self._nothing_pending, trainable=False)
        self.tables = [_Table(embedding, self, ema=ema) for embedding in embeddings]

    def state_variables(self) -> list[tf.Variable]:
        """All that a checkpoint must hold."""
        return [
            self.steps_since_flush,
            self.pending,
            *(variable for table in self.tables for variable in table.state_variables()),
        ]

    @contextlib.contextmanager
    def recording_lookups(self) -> Iterator[None]:
        """While it is entered, the gradients of one training step are traced.

        Every look-up gives rows that are up to date, and is recorded for `update`.
        """
        if not self.lazy:
            yield
            return
        for table in self.tables:
            table.start_recording()
        with row_lookups.attach((table.embedding, table.look_up) for table in self.tables):
            yield

    def coalesce(self, gradients: Iterable[Gradient]) -> list[Gradient]:
        """The embeddings' gradients, those of rows with each row at most once."""
        return [
            # Rows that were looked up once are unique already: look_up takes each only once.
            gradient if self.lazy and table.looked_up_once else coalesce(gradient)
            for table, gradient in zip(self.tables, gradients, strict=True)
        ]

    def update(
        self, gradients: Iterable[Gradient], learning_rate: tf.Tensor, decay: tf.Tensor
    ) -> None:
        """Applies gradients from `coalesce`: one training step.

        learning_rate includes Adam's bias correction; decay is that of the moving average.
        """
        for table, gradient in zip(self.tables, gradients, strict=True):
            update = table.update_rows if self.lazy else table.update_all
            update(gradient, learning_rate, decay)
        if self.lazy:
            self._extend_pending(learning_rate, decay)

    def _extend_pending(self, learning_rate: tf.Tensor, decay: tf.Tensor) -> None:
        """Adds this step to S, E, Q, R and D of every earlier step s."""
        self.steps_since_flush.assign_add(1)
        lag = self.steps_since_flush - tf.range(self.window + 1, dtype=tf.int64)
        learning_rate, decay = tf.cast(learning_rate, tf.float64), tf.cast(decay, tf.float64)
        beta_1, beta_2 = (tf.constant(beta, tf.float64) for beta in self.adam[:2])
        lag = tf.cast(lag, tf.float64)
        growth = tf.pow(beta_2, -lag / 2)  # of ε relative to √v, which shrinks
        step = learning_rate * tf.pow(beta_1, lag) * growth
        sums, ema_sums, kept = tf.split(self.pending, [2, 2, 1])
        sums += tf.stack([step, step * (growth - 1)])  # S, E
        ema_sums = decay * ema_sums + (1 - decay) * sums  # Q, R
        extended = tf.concat([sums, ema_sums, decay * kept], 0)
        # Columns of steps that are still to come stay unchanged.
        self.pending.assign(tf.where(lag > 0, extended, self.pending))

    def ema_values(self) -> list[tf.Tensor]:
        """The moving average of each embedding, (V, D); all rows must be flushed."""
        return [tf.convert_to_tensor(table.slots[2]) for table in self.tables]

    def flush(self) -> None:
        """Brings all rows up to date. It must be called at least once in `window` steps."""
        if int(self.steps_since_flush.numpy()) == 0:
            return
        for table in self.tables:
            rows = static_size(table.weights, 0)
            for first in range(0, rows, self.settings.chunk):
                table.flush(tf.range(first, min(first + self.settings.chunk, rows)))
            table.current_at.assign(tf.zeros_like(table.current_at))
        self.pending.assign(self._nothing_pending)
        self.steps_since_flush.assign(0)


class _Table:
    """One embedding's weights and its slots m, v and, if there is one, moving average, each (V, D).

    current_at (V,): the step, counted from the last flush, after which each row was up to date.
    """

    def __init__(self, embedding: Embedding, owner: LazyAdam, *, ema: bool):
        self.embedding, self.owner, self.adam = embedding, owner, owner.adam
        self.weights = tf_variable(embedding.matrix)
        zeros = tf.zeros_like(self.weights)
        slots = [zeros, zeros, tf.convert_to_tensor(self.weights)][: 3 if ema else 2]
        self.slots = [tf.Variable(slot, trainable=False) for slot in slots]
        # int64, since a GPU can't hold int32 variables.
        self.current_at = tf.Variable(tf.zeros(self.weights.shape[:1], tf.int64), trainable=False)
        signature = [tf.TensorSpec([None], tf.int32)]
        self.flush = tf.function(self._flush, input_signature=signature, autograph=False)
        self.start_recording()

    def state_variables(self) -> list[tf.Variable]:
        return [*self.slots, self.current_at]

    def start_recording(self) -> None:
        """Forgets the look-ups of the step that was traced before."""
        self._graph = _current_graph()
        self._recorded: tuple[tf.Tensor, Sequence[tf.Tensor]] | None = None
        self.looked_up_once = True

    def look_up(self, ids: tf.Tensor) -> tf.Tensor:
        """Vectors (..., D) of ids (...), as they are after the last training step.

        A step's first look-up isn't written back: `update_rows` has its values, and writes them
        once, after the step. Later look-ups, and those in a branch or a loop, whose tensors nobody
        outside can read, are written back at once.
        """
        rows, positions = tf.unique(tf.reshape(ids, [-1]))
        values = self._current_values(rows)
        if self._recorded is None and _current_graph() is self._graph:
            self._recorded = rows, values
        else:
            self.looked_up_once = False
            self._write(rows, values, self.owner.steps_since_flush)
        shape = tf.concat([tf.shape(ids), [static_size(self.weights)]], 0)
        return tf.reshape(tf.gather(values[0], positions), shape)

    def update_rows(self, gradient: Gradient, learning_rate: tf.Tensor, decay: tf.Tensor) -> None:
        """Adam's update of the rows that were looked up in this step."""
        if (
            self.looked_up_once
            and self._recorded is not None
            and isinstance(gradient, tf.IndexedSlices)
        ):
            (rows, values), g = self._recorded, gradient.values
        else:
            if self._recorded is not None:
                self._write(*self._recorded, self.owner.steps_since_flush)
            if not isinstance(gradient, tf.IndexedSlices):  # dense: from a branch
                gradient = tf.IndexedSlices(gradient, tf.range(static_size(self.weights, 0)))
                self._flush(gradient.indices)
            rows, g = gradient.indices, gradient.values
            values = self._read(rows)
        w, m, v, *averages = values
        m += (g - m) * (1 - self.adam.beta_1)
        v += (g * g - v) * (1 - self.adam.beta_2)
        w -= learning_rate * m / (tf.sqrt(v) + self.adam.epsilon)
        averages = [a + (1 - decay) * (w - a) for a in averages]
        self._write(rows, [w, m, v, *averages], self.owner.steps_since_flush + 1)

    def update_all(self, gradient: Gradient, learning_rate: tf.Tensor, decay: tf.Tensor) -> None:
        """Adam's update of all rows, which must be up to date."""
        m, v, *averages = self.slots
        dense = tf.convert_to_tensor(gradient)
        apply_adam(self.weights, (m, v), dense, learning_rate, self.adam)
        for average in averages:
            update_ema(average, self.weights, decay)

    def _flush(self, rows: tf.Tensor) -> None:
        self._write(rows, self._current_values(rows), self.owner.steps_since_flush)

    def _current_values(self, rows: tf.Tensor) -> list[tf.Tensor]:
        """Weights and slots of distinct rows (N,), each (N, D), as after the last training step."""
        current_at = tf.gather(self.current_at, rows)
        lag = tf.cast(self.owner.steps_since_flush - current_at, tf.float32)[:, tf.newaxis]
        # S, E, Q, R and D of the step at which each row was last up to date: (5, N).
        pending = tf.cast(tf.gather(self.owner.pending, current_at, axis=1), tf.float32)
        s, e, q, r, d = tf.unstack(pending[..., tf.newaxis])
        w, m, v, *averages = self._read(rows)
        scale = 1 / (tf.sqrt(v) + self.adam.epsilon)
        direction, small = m * scale, self.adam.epsilon * scale
        s -= small * e
        q -= small * r
        averages = [a + (1 - d) * (w - a) - q * direction for a in averages]
        m, v = (x * tf.pow(beta, lag) for x, beta in zip((m, v), self.adam[:2], strict=True))
        # A row's gradient is that of its weights alone, not of the moments behind the correction.
        return [w - tf.stop_gradient(s * direction), m, v, *averages]

    def _read(self, rows: tf.Tensor) -> list[tf.Tensor]:
        return [tf.gather(variable, rows) for variable in (self.weights, *self.slots)]

    def _write(self, rows: tf.Tensor, values: Sequence[tf.Tensor], current_at: tf.Tensor) -> None:
        for variable, value in zip((self.weights, *self.slots), values, strict=True):
            variable.scatter_update(tf.IndexedSlices(value, rows))
        steps = tf.fill(tf.shape(rows), current_at)
        self.current_at.scatter_update(tf.IndexedSlices(steps, rows))


def _current_graph() -> tf.Graph | None:
    """The graph that is being traced, a branch's or a loop's its own; None where nothing is."""
    return None if tf.executing_eagerly() else tf.constant(0).graph
