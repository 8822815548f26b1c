"""From a sequence of vectors to one: pooling, and the classification head.

Masked positions never contribute. Sequences are padded at the end and have at least one real
position. They are time-major, as the encoders' loops are, so that nothing is transposed.
"""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple, get_args

import keras
import tensorflow as tf

from models import settings
from models.dropout import Dropout
from models.padding import gather_last, last_positions
from models.seeds import stream
from models.serialization import FromConfig
from models.tensors import static_size

POOLINGS = get_args(settings.Pooling)

PoolingState = tuple[tf.Tensor, ...]
"""What a pooling keeps of the positions so far, of constant size."""


class HeadSettings(NamedTuple):
    """The layers on the encoder: a pooling of POOLINGS, dropout, and the logits of the classes."""

    pooling: str
    classes: int
    dropout: float


_register = keras.saving.register_keras_serializable(package="recurrent")


def last_state(y: tf.Tensor, mask: tf.Tensor, bidirectional: bool) -> tf.Tensor:
    """Each direction's output where it has read everything: the forward last, the backward first.

    y (T, B, N), mask (T, B) bool -> (B, N).
    """
    forward = gather_last(y, last_positions(mask))
    if not bidirectional:
        return forward
    half = static_size(y) // 2
    return tf.concat([forward[:, :half], y[0, :, half:]], axis=-1)


def mean_and_max(y: tf.Tensor, keep: tf.Tensor, kind: str) -> tf.Tensor:
    """Mean and maximum over real positions: y (T, B, N), keep (T, B, 1) bool -> (B, N or 2N).

    kind: mean, max or mean_max. The gradient is derived by hand: it takes half as many passes over
    y as automatic differentiation. Equal maxima share theirs.
    """
    has_mean, has_max = kind != "max", kind != "mean"

    def run(y: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
        pooled = []
        weights = tf.cast(keep, y.dtype)
        count = tf.maximum(tf.reduce_sum(weights, axis=0), 1)
        if has_mean:
            pooled.append(tf.reduce_sum(y * weights, axis=0) / count)
        if has_max:
            real = tf.where(keep, y, y.dtype.min)
            pooled.append(tf.reduce_max(real, axis=0))

        def gradient(d: tf.Tensor) -> tf.Tensor:
            parts = tf.split(d, len(pooled), axis=-1)
            dy = parts[0] / count * weights if has_mean else tf.zeros([], y.dtype)
            if has_max:
                is_max = tf.cast(tf.equal(real, pooled[-1]), y.dtype)
                dy += is_max * (parts[-1] / tf.reduce_sum(is_max, axis=0))
            return dy

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

    def build(self, input_shape: tuple[int | None, ...]) -> None:
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

    def compute_mask(self, *_: object) -> None:
        """Masks are explicit: none travels with a tensor."""

    def scores(self, y: tf.Tensor) -> tf.Tensor:
        """The score of each position of y (..., N): (..., 1)."""
        return tf.matmul(
            tf.tanh(tf.matmul(y, self.matrix) + self.bias), tf.cast(self.query, y.dtype)
        )

    def call(self, y: tf.Tensor, keep: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Pools y (T, B, N), keep (T, B, 1) bool -> (B, N), weights (T, B, 1) that sum to 1."""
        scores = self.scores(y)
        # A finite floor: a row with no real position gives equal weights, not NaN.
        weights = tf.nn.softmax(tf.where(keep, scores, scores.dtype.min), axis=0)
        return tf.reduce_sum(weights * y, axis=0), weights

    def step(
        self, y: tf.Tensor, state: PoolingState, first: tf.Tensor
    ) -> tuple[tf.Tensor, PoolingState]:
        """One position, as Pooling.step. first (B, 1) bool, whether it is the first.

        The softmax is computed online: the state is the highest score so far (B, 1), the sum of
        exp(score - highest) (B, 1), and the sum of y under these weights (B, N). When the highest
        score rises, both sums are rescaled (Milakov & Gimelshein 2018, "Online normalizer
        calculation").
        """
        highest, total, weighted = state
        score = tf.cast(self.scores(y), tf.float32)
        new_highest = tf.where(first, score, tf.maximum(highest, score))
        rescale, weight = tf.exp(tf.minimum(highest - new_highest, 0)), tf.exp(score - new_highest)
        total = total * rescale + weight
        weighted = weighted * rescale + weight * tf.cast(y, tf.float32)
        return weighted / total, (new_highest, total, weighted)

    def get_config(self) -> dict[str, object]:
        return {**super().get_config(), "seed": self.seed}


@_register
class Pooling(FromConfig, keras.layers.Layer):
    """One vector for a sequence, by one of POOLINGS. Only `last` depends on `bidirectional`."""

    former_names: ClassVar[Mapping[str, str]] = {"how": "kind"}

    def __init__(
        self, kind: str, *, bidirectional: bool = False, seed: int = 0, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if kind not in POOLINGS:
            raise ValueError(f"pooling is one of {', '.join(POOLINGS)}; got {kind!r}.")
        self.kind, self.bidirectional, self.seed = kind, bidirectional, seed
        self.attention = None
        if kind == "attention":
            self.attention = AttentionPooling(seed=seed, name="attention", dtype=self.dtype_policy)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        if self.attention is not None:
            self.attention.build(input_shape)
        self.built = True

    def compute_mask(self, *_: object) -> None:
        """Masks are explicit: none travels with a tensor."""

    def call(self, y: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        """Pools y (T, B, N), mask (T, B) bool -> (B, N), or (B, 2N) for mean_max."""
        if self.kind == "last":
            return last_state(y, mask, self.bidirectional)
        keep = mask[..., tf.newaxis]
        if self.attention is not None:
            return self.attention(y, keep)[0]
        return mean_and_max(y, keep, self.kind)

    def initial_state(self, batch: tf.Tensor | int, width: int) -> PoolingState:
        """The state before the first position, for y (B, width): zeros, whatever the pooling."""
        widths = {"last": [], "mean_max": [width] * 2, "attention": [1, 1, width]}
        return tuple(tf.zeros([batch, n]) for n in widths.get(self.kind, [width]))

    def step(
        self, y: tf.Tensor, state: PoolingState, count: tf.Tensor
    ) -> tuple[tf.Tensor, PoolingState]:
        """One position of `call`, reading forward: the pooled vector of y (B, N) and all before it.

        count (B,) int32, positions so far, this one included. States are float32 whatever the
        compute type, since sums need the precision. Returns (B, N) or (B, 2N), and the state.
        """
        if self.kind == "last":
            return y, ()
        first = count[:, tf.newaxis] == 1
        if self.attention is not None:
            pooled, state = self.attention.step(y, state, first)
            return tf.cast(pooled, y.dtype), state
        new = tf.cast(y, tf.float32)
        total, highest = state[0] + new, tf.where(first, new, tf.maximum(state[-1], new))
        mean = total / tf.cast(count[:, tf.newaxis], tf.float32)
        pooled, state = {
            "mean": (mean, (total,)),
            "max": (highest, (highest,)),
            "mean_max": (tf.concat([mean, highest], -1), (total, highest)),
        }[self.kind]
        return tf.cast(pooled, y.dtype), state

    def get_config(self) -> dict[str, object]:
        own = {"kind": self.kind, "bidirectional": self.bidirectional, "seed": self.seed}
        return {**super().get_config(), **own}


def dense_head(
    outputs: int, *, dropout: float, seed: int, suffix: str = ""
) -> list[keras.layers.Layer]:
    """Layers from a pooled vector (B, N) to logits (B, outputs), to be applied in order.

    Logits are float32 whatever the compute type: softmax and losses need the range.
    """
    initial = keras.initializers.GlorotUniform(seed=stream(seed, "logits"))
    dense = keras.layers.Dense(
        outputs, kernel_initializer=initial, dtype="float32", name=f"logits{suffix}"
    )
    drop = Dropout(dropout, seed=stream(seed, "head_dropout"), name=f"head_dropout{suffix}")
    return [drop, dense] if dropout else [dense]
