"""A linear classifier of n-grams next to a recurrent network (Cheng et al. 2016, "Wide & Deep")."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, ClassVar

import keras
import numpy as np
import tensorflow as tf

from models.dropout import Dropout
from models.serialization import FromConfig
from models.settings import NgramSettings

MAX_WEIGHTS = 4_000_000
"""Most weights (n-grams by columns): of many classes only the most frequent n-grams have some."""


def column_count(classes: int) -> int:
    """Columns of weights: one for two classes, whose logits differ only in sign; else one each."""
    return 1 if classes == 2 else classes


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

    def to_logits(self, total: tf.Tensor) -> tf.Tensor:
        """Summed contributions (B, 1 or C) to logits (B, C)."""
        return tf.concat([-total / 2, total / 2], -1) if self.columns == 1 else total

    def get_config(self) -> dict[str, object]:
        own = {"ngrams": self.ngrams, "classes": self.classes, "seed": self.seed}
        return {**super().get_config(), "settings": asdict(self.settings), **own}
