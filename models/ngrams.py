"""A linear classifier of n-grams next to a recurrent network (Cheng et al. 2016, "Wide & Deep")."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, ClassVar, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from models.dropout import Dropout
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
    """The set of n-grams of each text -> logits: Σ r w over its n-grams (Wang & Manning 2012).

    r is the naive Bayes log-count ratio of an n-gram, a constant that `set_ratios` estimates from
    the training texts; w is learnt, from 0, by plain gradient descent. So an n-gram that is seen
    mostly with one class learns faster than one that is seen with all. Ids are those of NgramCodec:
    from 1, the most frequent first; 0 is padding, and its ratio is 0.
    """

    config_types: ClassVar[Mapping[str, type]] = {"settings": NgramSettings}

    def __init__(
        self, settings: NgramSettings, ngrams: int, classes: int, *, seed: int = 0, **kwargs: Any
    ) -> None:
        """ngrams: how many there are, 0 included; classes: at least 2."""
        super().__init__(**{"dtype": "float32", **kwargs})
        self.settings, self.ngrams, self.classes, self.seed = settings, ngrams, classes, seed
        self.columns = column_count(classes)
        self.drop = Dropout(settings.dropout, seed=seed)

    def build(self, input_shape: object) -> None:
        del input_shape
        shape = (max(1, min(self.ngrams, MAX_WEIGHTS // self.columns)), self.columns)
        self.ratios = self.add_weight(shape, "zeros", trainable=False, name="ratios")
        self.matrix = self.add_weight(shape, "zeros", name="matrix")
        self.built = True

    def set_ratios(self, counts: np.ndarray) -> None:
        """From counts (N, C): how many training texts of each class hold each n-gram.

        r = log(p / |p|) - log(q / |q|), with p the counts of a class and q those of all others,
        both plus 1.
        """
        rows = self.ratios.shape[0]
        p = counts[:rows].astype(np.float64)
        q = p.sum(1, keepdims=True) - p
        r = np.log((p + 1) / (p + 1).sum(0)) - np.log((q + 1) / (q + 1).sum(0))
        r[0] = 0
        self.ratios.assign(r[:, 1:] if self.columns == 1 else r)

    def compute_mask(self, *_: object) -> None:
        """Masks are explicit: none travels with a tensor."""

    def call(self, ids: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Ids (B, G) int32, each n-gram of a text once -> logits (B, C) float32."""
        parts = self.contributions(ids)
        if training and self.settings.dropout:
            parts *= self.drop.sample_mask(tf.shape(ids))[..., tf.newaxis]
        return self.to_logits(tf.reduce_sum(parts, 1))

    def contributions(self, ids: tf.Tensor) -> tf.Tensor:
        """What each n-gram (...) adds: (..., 1), half to the second logit and minus half to the
        first, or (..., C).
        """
        rows = self.ratios.shape[0]
        ids = tf.where(ids < rows, ids, 0)
        # Gathers from the variable, not from its value, which may be copied whole to be read.
        return tf.gather(self.ratios.value, ids) * tf.gather(self.matrix.value, ids)

    def initial_state(self, batch: tf.Tensor | int) -> NgramState:
        """The state before the first token."""
        words = -(-self.ratios.shape[0] // BITS)
        return NgramState(
            tf.zeros([batch, self.settings.order - 1], tf.int32),
            tf.zeros([batch, words], tf.int32),
            tf.zeros([batch, self.columns]),
        )

    def step(self, token: tf.Tensor, ids: tf.Tensor, state: NgramState) -> NgramState:
        """The state after one more token (B,), with which the n-grams `ids` (B, order) end."""
        recent, seen, total = state
        ids = tf.where(ids < self.ratios.shape[0], ids, 0)
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
        own = {"ngrams": self.ngrams, "classes": self.classes, "seed": self.seed}
        return {**super().get_config(), "settings": asdict(self.settings), **own}


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
