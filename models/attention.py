"""Attention of decoder positions over encoder outputs, for a whole sequence or one position.

Shapes: B batch, T queries, S memory positions, W query width, N memory width, A attention width.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, get_args

import keras
import tensorflow as tf

from models import settings
from models.seeds import stream
from models.serialization import FromConfig

ATTENTIONS = tuple(name for name in get_args(settings.Attention) if name != "none")

_register = keras.saving.register_keras_serializable(package="recurrent")

Memory = dict[str, tf.Tensor]
"""What is attended to: values (B, S, N), keys (B, S, A) and mask (B, S) bool. Made once."""


@_register
class Attention(FromConfig, keras.layers.Layer):
    """Weights over a memory for each query, and the mean of its values under them.

    dot       q · s, for queries as wide as the memory (Luong et al. 2015, eq. 7).
    general   q · K s (Luong et al. 2015, eq. 7).
    additive  v · tanh(Q q + K s) (Bahdanau et al. 2015, appendix A.1.2); takes (B, T, S, A)
              numbers of memory.

    The product K s is the same for all queries: `precompute_keys` computes it once.
    """

    former_names: ClassVar[Mapping[str, str]] = {"how": "kind"}

    def __init__(self, kind: str, width: int, *, seed: int = 0, **kwargs: Any) -> None:
        """width: A, of queries and keys."""
        super().__init__(**kwargs)
        if kind not in ATTENTIONS:
            raise ValueError(f"attention is one of {', '.join(ATTENTIONS)}; got {kind!r}.")
        self.kind, self.width, self.seed = kind, width, seed

    def build(self, input_shape: Sequence[tuple[int | None, ...]]) -> None:
        """input_shape: of queries (B, T, W) and values (B, S, N)."""
        query, values = (int(shape[-1] or 0) for shape in input_shape)
        if self.kind == "dot" and query != values:
            raise ValueError(
                f"attention=dot needs a decoder as wide as the memory; got {query} and {values}. "
                "Use general, or change the decoder's width."
            )
        if self.kind == "general" and self.width != query:
            raise ValueError(f"attention=general is as wide as queries; got {self.width}, {query}.")

        def matrix(name: str, rows: int, columns: int) -> keras.Variable:
            initial = keras.initializers.GlorotUniform(seed=stream(self.seed, name))
            return self.add_weight((rows, columns), initial, name=name)

        if self.kind != "dot":
            self.key = matrix("key", values, self.width)
        if self.kind == "additive":
            self.query = matrix("query", query, self.width)
            self.vector = matrix("vector", self.width, 1)
        self.built = True

    def compute_mask(self, *_: object) -> None:
        """Masks are explicit: none travels with a tensor."""

    def precompute_keys(self, values: tf.Tensor, mask: tf.Tensor) -> Memory:
        """The memory of values (B, S, N), mask (B, S) bool, with its keys."""
        values = tf.cast(values, self.compute_dtype)
        keys = values if self.kind == "dot" else tf.einsum("bsn,na->bsa", values, self._cast("key"))
        return {"values": values, "keys": keys, "mask": mask}

    def call(self, queries: tf.Tensor, memory: Memory) -> tuple[tf.Tensor, tf.Tensor]:
        """Queries (B, T, W) -> contexts (B, T, N) and weights (B, T, S), which sum to 1."""
        keys = memory["keys"]
        if self.kind == "additive":
            queries = tf.einsum("btw,wa->bta", queries, self._cast("query"))
            mixed = tf.tanh(queries[:, :, tf.newaxis] + keys[:, tf.newaxis])
            scores = tf.einsum("btsa,a->bts", mixed, self._cast("vector")[:, 0])
        else:
            scores = tf.matmul(queries, keys, transpose_b=True)
        # A finite floor: a row with no real position gives equal weights, not NaN.
        scores = tf.where(memory["mask"][:, tf.newaxis], scores, scores.dtype.min)
        weights = tf.nn.softmax(scores)
        return tf.matmul(weights, memory["values"]), weights

    def _cast(self, name: str) -> tf.Tensor:
        return tf.cast(getattr(self, name), self.compute_dtype)

    def get_config(self) -> dict[str, object]:
        return {**super().get_config(), "kind": self.kind, "width": self.width, "seed": self.seed}


def doubly_stochastic_penalty(weights: tf.Tensor, real: tf.Tensor) -> tf.Tensor:
    """(N,): the sum over positions of (1 - their attention over all time steps)², Xu et al. 2015.

    weights (N, T, S), of which only the steps where real (N, T) is true count. It is least where
    every position of the memory gets a share of attention (their equation 14).
    """
    steps = tf.cast(real, tf.float32)[..., tf.newaxis]
    received = tf.reduce_sum(tf.cast(weights, tf.float32) * steps, 1)
    return tf.reduce_sum((1 - received) ** 2, 1)
