"""From a sequence of vectors to one: pooling, and the dense layer on top.

Masked positions never contribute. Sequences are padded at the end and have at least one real
position. They are time-major, as the encoders' loops are: what is pooled needn't be turned round.
"""

from collections.abc import Callable
from typing import Any, get_args

import keras
import tensorflow as tf

from models import settings
from models.dropout import Dropout
from models.padding import at, last_of
from models.seeds import stream

POOLINGS = get_args(settings.Pooling)

Pooled = tuple[tf.Tensor, ...]
"""What a pooling has kept of the positions so far."""

_register = keras.saving.register_keras_serializable(package="recurrent")


def last_state(y: tf.Tensor, mask: tf.Tensor, bidirectional: bool) -> tf.Tensor:
    """Where each direction has read everything: forward last, backward first.

    y (T, B, N), mask (T, B) bool -> (B, N).
    """
    forward = at(y, last_of(mask))
    if not bidirectional:
        return forward
    half = y.shape[-1] // 2
    return tf.concat([forward[:, :half], y[0, :, half:]], axis=-1)


def mean_and_max(y: tf.Tensor, keep: tf.Tensor, how: str) -> tf.Tensor:
    """Mean and maximum over real positions: y (T, B, N), keep (T, B, 1) bool -> (B, N or 2N).

    how: mean, max or mean_max. The gradient by hand takes half the passes over y that automatic
    differentiation does; equal maxima share theirs.
    """
    means, tops = how != "max", how != "mean"

    def run(y: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
        pooled = []
        weights = tf.cast(keep, y.dtype)
        count = tf.maximum(tf.reduce_sum(weights, axis=0), 1)
        if means:
            pooled.append(tf.reduce_sum(y * weights, axis=0) / count)
        if tops:
            real = tf.where(keep, y, y.dtype.min)
            pooled.append(tf.reduce_max(real, axis=0))

        def gradient(d: tf.Tensor) -> tf.Tensor:
            parts = tf.split(d, len(pooled), axis=-1)
            given = parts[0] / count * weights if means else 0
            if tops:
                highest = tf.cast(tf.equal(real, pooled[-1]), y.dtype)
                given += highest * (parts[-1] / tf.reduce_sum(highest, axis=0))
            return given

        return tf.concat(pooled, axis=-1), gradient

    return tf.custom_gradient(run)(y)


@_register
class AttentionPooling(keras.layers.Layer):
    """A mean weighted by a learned additive query: softmax(v · tanh(y A + a)).

    Bahdanau, Cho & Bengio 2015, with a constant query (Yang et al. 2016, equations 5-7).
    """

    def __init__(self, *, seed: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.seed = seed

    def build(self, input_shape: Any) -> None:
        width = input_shape[-1]
        self.matrix = self.add_weight(
            (width, width), keras.initializers.GlorotUniform(seed=stream(self.seed, "matrix")),
            name="matrix",
        )  # fmt: skip
        self.bias = self.add_weight((width,), "zeros", name="bias")
        self.query = self.add_weight(
            (width, 1), keras.initializers.GlorotUniform(seed=stream(self.seed, "query")),
            name="query",
        )  # fmt: skip

    def compute_mask(self, *_: Any) -> None:
        """Masks are explicit: none travels with a tensor."""

    def scores(self, y: tf.Tensor) -> tf.Tensor:
        """Of each position of y (..., N): (..., 1)."""
        return tf.matmul(
            tf.tanh(tf.matmul(y, self.matrix) + self.bias), tf.cast(self.query, y.dtype)
        )

    def call(self, y: tf.Tensor, keep: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Pools y (T, B, N), keep (T, B, 1) bool -> (B, N), weights (T, B, 1) that sum to 1."""
        scores = self.scores(y)
        # A finite floor: a row with no real position gives equal weights, not NaN.
        weights = tf.nn.softmax(tf.where(keep, scores, scores.dtype.min), axis=0)
        return tf.reduce_sum(weights * y, axis=0), weights

    def step(self, y: tf.Tensor, state: Pooled, first: tf.Tensor) -> tuple[tf.Tensor, Pooled]:
        """One position: see Pooling.step. first (B, 1) bool, whether it is the first.

        The state is the highest score (B, 1), the sum of exp(score - highest) (B, 1), and of y by
        these weights (B, N) (Milakov & Gimelshein 2018, "Online normalizer calculation").
        """
        highest, total, weighted = state
        score = tf.cast(self.scores(y), tf.float32)
        risen = tf.where(first, score, tf.maximum(highest, score))
        kept, new = tf.exp(tf.minimum(highest - risen, 0)), tf.exp(score - risen)
        total = total * kept + new
        weighted = weighted * kept + new * tf.cast(y, tf.float32)
        return weighted / total, (risen, total, weighted)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "seed": self.seed}


@_register
class Pooling(keras.layers.Layer):
    """One vector for a sequence, by one of POOLINGS. `bidirectional` matters to last only."""

    def __init__(
        self, how: str, *, bidirectional: bool = False, seed: int = 0, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if how not in POOLINGS:
            raise ValueError(f"pooling is one of {', '.join(POOLINGS)}; got {how!r}.")
        self.how, self.bidirectional, self.seed = how, bidirectional, seed
        self.attention = None
        if how == "attention":
            self.attention = AttentionPooling(seed=seed, name="attention", dtype=self.dtype_policy)

    def build(self, input_shape: Any) -> None:
        if self.attention is not None:
            self.attention.build(input_shape)
        self.built = True

    def compute_mask(self, *_: Any) -> None:
        """Masks are explicit: none travels with a tensor."""

    def call(self, y: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        """Pools y (T, B, N), mask (T, B) bool -> (B, N), or (B, 2N) for mean_max."""
        if self.how == "last":
            return last_state(y, mask, self.bidirectional)
        keep = mask[..., tf.newaxis]
        if self.attention is not None:
            return self.attention(y, keep)[0]
        return mean_and_max(y, keep, self.how)

    def unread(self, batch: tf.Tensor | int, width: int) -> Pooled:
        """State before the first position, for y as wide as that: zeros, whatever is pooled."""
        widths = {"last": [], "mean_max": [width] * 2, "attention": [1, 1, width]}
        return tuple(tf.zeros([batch, n]) for n in widths.get(self.how, [width]))

    def step(self, y: tf.Tensor, state: Pooled, read: tf.Tensor) -> tuple[tf.Tensor, Pooled]:
        """One position of `call`, reading forward: what y (B, N) and those before it pool to.

        state as of `unread`; read (B,) int32, positions so far with this one. States are float32
        whatever the compute type: sums need the digits. Returns (B, N) or (B, 2N), the state.
        """
        if self.how == "last":
            return y, ()
        first = read[:, tf.newaxis] == 1
        if self.attention is not None:
            pooled, state = self.attention.step(y, state, first)
            return tf.cast(pooled, y.dtype), state
        new = tf.cast(y, tf.float32)
        total, highest = state[0] + new, tf.where(first, new, tf.maximum(state[-1], new))
        mean = total / tf.cast(read[:, tf.newaxis], tf.float32)
        pooled, state = {
            "mean": (mean, (total,)),
            "max": (highest, (highest,)),
            "mean_max": (tf.concat([mean, highest], -1), (total, highest)),
        }[self.how]
        return tf.cast(pooled, y.dtype), state

    def get_config(self) -> dict[str, Any]:
        own = {"how": self.how, "bidirectional": self.bidirectional, "seed": self.seed}
        return {**super().get_config(), **own}


def dense_head(outputs: int, *, dropout: float, seed: int) -> list[keras.layers.Layer]:
    """Layers from a pooled vector (B, N) to float32 numbers (B, outputs), as a list to apply.

    float32 whatever the compute type: softmax and losses need the range.
    """
    initial = keras.initializers.GlorotUniform(seed=stream(seed, "logits"))
    dense = keras.layers.Dense(outputs, kernel_initializer=initial, dtype="float32", name="logits")
    drop = Dropout(dropout, seed=stream(seed, "head_dropout"), name="head_dropout")
    return [drop, dense] if dropout else [dense]
