"""Words by their letters (Ma & Hovy 2016; Lample et al. 2016), each different word once a batch."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any, ClassVar

import keras
import tensorflow as tf

from models.dropout import Dropout
from models.embedding import Embedding
from models.recurrent import Encoder
from models.seeds import stream
from models.serialization import FromConfig
from models.settings import EmbeddingSettings, RecurrentSettings, SpellingSettings

_register = keras.saving.register_keras_serializable(package="recurrent")

FACTORS = (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9)
"""Odd numbers without a pattern, for hashes by multiplication (splitmix64, Steele et al. 2014)."""


@_register
class Spelling(FromConfig, keras.layers.Layer):
    """Characters of words -> a vector for each word.

    settings  see there; `recurrent`: the cell of network=recurrent.
    size      of the characters' vocabulary; id 0 is padding.
    """

    config_types: ClassVar[Mapping[str, type]] = {
        "settings": SpellingSettings,
        "recurrent": RecurrentSettings,
    }

    def __init__(
        self,
        settings: SpellingSettings,
        recurrent: RecurrentSettings,
        size: int,
        *,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.settings, self.recurrent, self.size, self.seed = settings, recurrent, size, seed
        self.drop = Dropout(settings.dropout, seed=stream(seed, "dropout"), name="dropout")
        # An Embedding, so that an optimizer may update only the rows that a batch has.
        self.affixes: Embedding | None = None
        if settings.affixes:
            plain = EmbeddingSettings(
                width=settings.affix_width,
                scale=0.05,
                vectors=None,
                trainable=True,
                word_dropout=0.0,
                dropout=0.0,
            )
            rows = 2 * len(settings.affixes) * settings.affix_buckets
            self.affixes = Embedding(plain, rows, seed=stream(seed, "affixes"), name="affixes")
        self.encoder: Encoder | None = None
        if settings.network == "recurrent":
            both = replace(
                recurrent, bidirectional=True, width=settings.output, layers=1, residual=False
            )
            self.encoder = Encoder(
                both, seed=stream(seed, "encoder"), dtype=self.dtype_policy, name="encoder"
            )

    @property
    def output_width(self) -> int:
        settings = self.settings
        letters = {"none": 0, "cnn": settings.output, "recurrent": 2 * settings.output}
        affixes = 2 * len(settings.affixes) * settings.affix_width
        return letters[settings.network] + affixes

    def build(self, input_shape: object = None) -> None:
        del input_shape
        settings = self.settings

        def random(name: str, shape: tuple[int, ...], size: float) -> tf.Variable:
            initial = keras.initializers.RandomUniform(-size, size, stream(self.seed, name))
            return self.add_weight(shape, initial, name=name)

        # Uniform within sqrt(3 / width): of variance 1 / width (Ma & Hovy 2016, section 3.1).
        if settings.network != "none":
            size = (3 / settings.width) ** 0.5
            self.characters = random("characters", (self.size, settings.width), size)
        if settings.network == "cnn":
            shape = (settings.kernel, settings.width, settings.output)
            initial = keras.initializers.GlorotUniform(stream(self.seed, "filters"))
            self.filters = self.add_weight(shape, initial, name="filters")
            self.bias = self.add_weight((settings.output,), "zeros", name="bias")
        if self.encoder is not None:
            self.encoder.build((None, None, settings.width))
        if self.affixes is not None:
            self.affixes.build(None)
        self.built = True

    def compute_mask(self, *_: object) -> None:
        """Masks are explicit: none travels with a tensor."""

    def call(self, ids: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Characters (..., C) int32 of words, padded by 0 -> (..., output_width).

        A word without characters, as padding is, gets the vector of an empty word.
        """
        words = tf.reshape(ids, [-1, ids.shape[-1]])
        _, place = tf.unique(_hash(words))
        count = tf.reduce_max(place) + 1
        rows = tf.math.unsorted_segment_min(tf.range(tf.size(place)), place, count)
        vectors = tf.gather(self._spell(tf.gather(words, rows), training), place)
        return tf.reshape(vectors, [*tf.unstack(tf.shape(ids)[:-1]), self.output_width])

    def _spell(self, words: tf.Tensor, training: bool | None) -> tf.Tensor:
        """(U, C) -> (U, output_width)."""
        lengths = tf.math.count_nonzero(words, -1, dtype=tf.int32)
        parts = []
        if self.settings.network == "cnn":
            parts.append(self._convolve(words, lengths, training))
        if self.encoder is not None:
            # No sequence is empty, so that an empty word is read as one character of padding.
            mask = tf.sequence_mask(tf.maximum(lengths, 1), tf.shape(words)[1])
            x = self._embed(words, training)
            _, states = self.encoder(x, mask=mask, training=training)
            parts.append(states[-1][0])
        if self.affixes is not None:
            buckets = self._affix_buckets(words, lengths)
            vectors = self.affixes(buckets, tf.ones_like(buckets, tf.bool))
            width = 2 * len(self.settings.affixes) * self.settings.affix_width
            parts.append(tf.cast(tf.reshape(vectors, [-1, width]), self.compute_dtype))
        return tf.concat(parts, -1)

    def _embed(self, words: tf.Tensor, training: bool | None) -> tf.Tensor:
        x = tf.cast(tf.gather(self.characters.value, words), self.compute_dtype)
        return self.drop(x * tf.cast(words != 0, x.dtype)[..., tf.newaxis], training=training)

    def _convolve(self, words: tf.Tensor, lengths: tf.Tensor, training: bool | None) -> tf.Tensor:
        """Of each filter, the largest of its answers at a word's characters: (U, output)."""
        x = self._embed(words, training)
        y = tf.nn.conv1d(x, tf.cast(self.filters, x.dtype), 1, "SAME") + tf.cast(self.bias, x.dtype)
        real = tf.sequence_mask(tf.maximum(lengths, 1), tf.shape(words)[1])[..., tf.newaxis]
        return tf.reduce_max(tf.where(real, y, y.dtype.min), 1)

    def _affix_buckets(self, words: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
        """(U, 2 * affixes): rows of the affixes' matrix, beginnings and then endings.

        A word that is shorter than an affix is it as a whole, with nothing where it ends.
        """
        buckets: list[tf.Tensor] = []
        for end in (False, True):
            for length in self.settings.affixes:
                places = tf.zeros_like(lengths)[:, tf.newaxis] + tf.range(length)
                if end:
                    places += (lengths - length)[:, tf.newaxis]
                inside = (places >= 0) & (places < tf.shape(words)[1])
                taken = tf.gather(words, tf.where(inside, places, 0), batch_dims=1)
                number = len(buckets) * self.settings.affix_buckets
                hashed = tf.math.mod(_hash(tf.where(inside, taken, 0)), self.settings.affix_buckets)
                buckets.append(tf.cast(hashed, tf.int32) + number)
        return tf.stack(buckets, -1)

    def get_config(self) -> dict[str, object]:
        return {
            **super().get_config(),
            "settings": asdict(self.settings),
            "recurrent": asdict(self.recurrent),
            "size": self.size,
            "seed": self.seed,
        }


def _hash(rows: tf.Tensor) -> tf.Tensor:
    """(N, C) int32 to (N,) int64, not negative: rows that are alike have the same number.

    Of 10^6 different rows two have the same with a probability of about 10^-7.
    """
    first, second = (tf.constant(factor - 2**64, tf.int64) for factor in FACTORS)
    value = tf.zeros(tf.shape(rows)[:1], tf.int64)
    for column in tf.unstack(tf.cast(rows, tf.int64), axis=1):
        value = (value + column + 1) * first
        value = tf.bitwise.bitwise_xor(value, tf.bitwise.right_shift(value, 29)) * second
    return tf.bitwise.bitwise_and(value, tf.constant(2**62 - 1, tf.int64))
