"""A linear classifier of n-grams next to a recurrent network (Cheng et al. 2016, "Wide & Deep")."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, ClassVar, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from models.serialization import FromConfig
from models.settings import NgramSettings

MAX_WEIGHTS = 4_000_000
"""Most weights (n-grams by columns): of many classes only the most frequent n-grams have some."""


PRIOR = 10.0
"""Examples that the prior of a mixture's weights counts as."""


BITS = 32
"""Of one number of a state, each for an n-gram."""


def column_count(classes: int) -> int:
    """Columns of weights: one for two classes, whose logits differ only in sign; else one each."""
    return 1 if classes == 2 else classes


class NgramSpec(NamedTuple):
    """N-grams next to an encoder, of which there are `size`, id 0 included."""

    settings: NgramSettings
    size: int


class NgramState(NamedTuple):
    """What must be known of the tokens so far to add the n-grams of the next; at first all zeros.

    recent (B, order - 1) int32, the last tokens; seen (B, N / 32) int32, a bit for each n-gram;
    total (B, 1 or C), the sum of contributions.
    """

    recent: tf.Tensor
    seen: tf.Tensor
    total: tf.Tensor


@keras.saving.register_keras_serializable(package="recurrent")
class NgramLogits(FromConfig, keras.layers.Layer):
    """The set of n-grams of each text -> logits, the sum of their weights.

    Ids are those of NgramCodec: from 1, the most frequent first; 0 is padding, and its weight is 0.
    Gradients don't reach the weights: models/ngram_training.py finds them, before the recurrent
    network is trained.
    """

    config_types: ClassVar[Mapping[str, type]] = {"settings": NgramSettings}

    def __init__(
        self,
        settings: NgramSettings,
        ngrams: int,
        classes: int,
        *,
        max_weights: int = MAX_WEIGHTS,
        **kwargs: Any,
    ) -> None:
        """ngrams: how many there are, 0 included; classes: at least 2."""
        super().__init__(**{"dtype": "float32", **kwargs})
        self.settings, self.ngrams, self.classes = settings, ngrams, classes
        self.columns = column_count(classes)
        self.max_weights = max_weights
        self.rows = max(1, min(ngrams, max_weights // self.columns))

    def build(self, input_shape: object) -> None:
        del input_shape
        shape = (self.rows, self.columns)
        self.matrix = self.add_weight(shape, "zeros", trainable=False, name="matrix")
        self.built = True

    def compute_mask(self, *_: object) -> None:
        """Masks are explicit: none travels with a tensor."""

    def call(self, ids: tf.Tensor) -> tf.Tensor:
        """Ids (B, G) int32, each n-gram of a text once -> logits (B, C) float32."""
        return self.to_logits(tf.reduce_sum(self.contributions(ids), 1))

    def contributions(self, ids: tf.Tensor) -> tf.Tensor:
        """What each n-gram (...) adds: (..., 1), half to the second logit and minus half to the
        first, or (..., C).
        """
        # Gathers from the variable, not from its value, which may be copied whole to be read.
        return tf.gather(self.matrix.value, tf.where(ids < self.rows, ids, 0))

    def initial_state(self, batch: tf.Tensor | int) -> NgramState:
        """The state before the first token."""
        words = -(-self.rows // BITS)
        return NgramState(
            tf.zeros([batch, self.settings.order - 1], tf.int32),
            tf.zeros([batch, words], tf.int32),
            tf.zeros([batch, self.columns]),
        )

    def step(self, token: tf.Tensor, ids: tf.Tensor, state: NgramState) -> NgramState:
        """The state after one more token (B,), with which the n-grams `ids` (B, order) end."""
        recent, seen, total = state
        ids = tf.where(ids < self.rows, ids, 0)
        place = ids // BITS
        bit = tf.bitwise.left_shift(tf.ones_like(ids), ids - BITS * place)
        known = tf.bitwise.bitwise_and(tf.gather(seen, place, batch_dims=1), bit) != 0
        new = tf.where(known, 0, ids)
        rows = tf.range(tf.shape(ids)[0])
        # One after the other: the bits of two n-grams may be in the same number.
        for n in range(self.settings.order):
            where = tf.stack([rows, place[:, n]], 1)
            marked = tf.bitwise.bitwise_or(tf.gather_nd(seen, where), bit[:, n])
            seen = tf.tensor_scatter_nd_update(seen, where, marked)
        total += tf.reduce_sum(self.contributions(new), 1)
        return NgramState(tf.concat([recent, token[:, tf.newaxis]], 1)[:, 1:], seen, total)

    def to_logits(self, total: tf.Tensor) -> tf.Tensor:
        """Summed contributions (B, 1 or C) to logits (B, C)."""
        return tf.concat([-total / 2, total / 2], -1) if self.columns == 1 else total

    def get_config(self) -> dict[str, object]:
        return {
            **super().get_config(),
            "settings": asdict(self.settings),
            "ngrams": self.ngrams,
            "classes": self.classes,
            "max_weights": self.max_weights,
        }


@keras.saving.register_keras_serializable(package="recurrent")
class LogitMix(keras.layers.Layer):
    """A weighted sum of the logits of parts that learn by themselves.

    The weights are no part of training: `fit` estimates them on examples that no part has seen.
    """

    def __init__(self, parts: int = 2, **kwargs: Any) -> None:
        super().__init__(**{"dtype": "float32", **kwargs})
        self.parts = parts

    def build(self, input_shape: object) -> None:
        del input_shape
        self.shares = self.add_weight((self.parts,), "ones", trainable=False, name="shares")
        self.built = True

    def call(self, logits: Sequence[tf.Tensor]) -> tf.Tensor:
        """(B, C) each -> (B, C)."""
        shares = tf.unstack(tf.convert_to_tensor(self.shares))
        return tf.add_n([share * one for share, one in zip(shares, logits, strict=True)])

    def fit(self, logits: np.ndarray, labels: np.ndarray) -> None:
        """Sets the weights to those with the least cross-entropy; none is negative.

        logits (P, N, C) of the parts, labels (N,). A Gaussian prior of mean 1 / P counts as much as
        PRIOR examples do, so that a small split can't go far astray.
        """
        from scipy.optimize import minimize

        parts = np.asarray(logits, np.float64)
        mean = np.full(len(parts), 1 / len(parts))

        def cost(shares: np.ndarray) -> tuple[float, np.ndarray]:
            mixed = np.tensordot(shares, parts, 1)
            shifted = mixed - mixed.max(1, keepdims=True)
            log_total = np.log(np.exp(shifted).sum(1, keepdims=True))
            slope = np.exp(shifted - log_total)
            rows = np.arange(len(labels))
            nats = -(shifted - log_total)[rows, labels].sum()
            slope[rows, labels] -= 1
            apart = shares - mean
            gradient = np.tensordot(parts, slope, 2) + PRIOR * apart
            return nats + PRIOR / 2 * float(apart @ apart), gradient

        bounds = [(0, None)] * len(parts)
        found = minimize(cost, mean, jac=True, method="L-BFGS-B", bounds=bounds)
        self.shares.assign(found.x.astype(np.float32))

    def get_config(self) -> dict[str, object]:
        return {**super().get_config(), "parts": self.parts}
