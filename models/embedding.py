"""Token vectors: learned, or pretrained and frozen, with dropout of words and of features."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, ClassVar, NamedTuple, TypeAlias

import keras
import numpy as np
import tensorflow as tf

from models.dropout import Dropout
from models.hooks import Hooks
from models.seeds import stream
from models.serialization import FromConfig
from models.settings import EmbeddingSettings

UNKNOWN = 1  # the unknown word's id in every vocabulary; 0 is padding

RowLookup: TypeAlias = Callable[[tf.Tensor], tf.Tensor]
"""From rows (...) of an embedding's matrix to their vectors (..., D)."""

row_lookups: Hooks[RowLookup] = Hooks("row_lookups")
"""Look-ups in place of a plain one, as of an optimizer that updates rows when they are read."""

EmbeddedVectors: TypeAlias = Callable[[Callable[[], tf.Tensor]], tf.Tensor]
"""From a function that gives an embedding's outputs (B, T, D) to what stands in their place."""

embedded_vectors: Hooks[EmbeddedVectors] = Hooks("embedded_vectors")
"""Outputs in place of an embedding's own, as where training moves them to make the task harder."""

_register = keras.saving.register_keras_serializable(package="recurrent")


def _real_rows(known: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Which rows of pretrained vectors (V, D) are real, (V,) bool; ValueError if sizes differ."""
    if vectors.ndim != 2 or known.shape != vectors.shape[:1]:
        raise ValueError(
            "vectors have a row for each word and `known` a flag for each row; "
            f"got vectors {vectors.shape} and known {known.shape}."
        )
    # Padding is masked and the unknown word is no word: neither has a pretrained vector.
    return known.astype(bool) & (np.arange(len(known)) > UNKNOWN)


@_register
class Embedding(FromConfig, keras.layers.Layer):
    """ids -> vectors. Id 0 is padding and gives 0; id 1 is the unknown word.

    The matrix has a row for each word, (V, D). Frozen vectors are stored apart from the rows that
    learn, so that no gradient and no optimizer state is spent on them: `frozen` (frozen words, D)
    and `matrix` (trainable words, D). `rows` (V,) says where each word is: at r of `matrix` if
    r >= 0, else at -1 - r of `frozen`.

    Pretrained vectors decide the width: D is theirs, not settings.width. build_embedding puts them
    in; a model read from a file gets them, with their width, from that file.
    """

    config_types: ClassVar[Mapping[str, type]] = {"settings": EmbeddingSettings}

    def __init__(
        self,
        settings: EmbeddingSettings,
        vocabulary_size: int,
        *,
        width: int | None = None,
        frozen_rows: int = 0,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        """width: of pretrained vectors, otherwise None. frozen_rows: how many words are frozen."""
        super().__init__(**kwargs)
        self.settings, self.vocabulary_size, self.seed = settings, vocabulary_size, seed
        self.frozen_rows = frozen_rows
        self.width = width or settings.width
        self.words = Dropout(settings.word_dropout, seed=stream(seed, "word_dropout"))
        self.drop = Dropout(settings.dropout, seed=stream(seed, "dropout"))

    def build(self, input_shape: object) -> None:
        del input_shape
        trainable_rows = self.vocabulary_size - self.frozen_rows
        initial = keras.initializers.RandomUniform(
            -self.settings.scale, self.settings.scale, stream(self.seed, "matrix")
        )
        # Not cast whole to a narrower compute type: the gradient of that would be dense.
        self.matrix = self.add_weight(
            (trainable_rows, self.width), initial, autocast=False, name="matrix"
        )
        if self.frozen_rows:
            shape = (self.frozen_rows, self.width)
            self.frozen = self.add_weight(
                shape, "zeros", trainable=False, autocast=False, name="frozen"
            )
            self.rows = self.add_weight(
                (self.vocabulary_size,), "zeros", dtype="int32", trainable=False, name="rows"
            )
        self.built = True

    def assign_vectors(self, vectors: np.ndarray, known: np.ndarray) -> None:
        """Gives the known rows, (V,) bool, their vectors (V, D); the others stay as they are.

        In a layer with frozen rows it is these that are frozen, as many as frozen_rows.
        """
        if self.frozen_rows:
            self.frozen.assign(vectors[known])
            self.rows.assign(np.where(known, -np.cumsum(known), np.cumsum(~known) - 1))
        else:
            self.matrix.assign(np.where(known[:, np.newaxis], vectors, self.matrix.numpy()))

    def compute_mask(self, *_: object) -> None:
        """Masks are explicit: none travels with a tensor."""

    def call(self, ids: tf.Tensor, mask: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Vectors of ids (B, T) int32, mask (B, T) bool -> (B, T, D), 0 where mask is False.

        Time-major works too: (T, B) -> (T, B, D).
        """
        hook = embedded_vectors.of(self)
        if hook is not None:
            return hook(lambda: self._embed(ids, mask, training))
        return self._embed(ids, mask, training)

    def _embed(self, ids: tf.Tensor, mask: tf.Tensor, training: bool | None) -> tf.Tensor:
        vectors = tf.cast(self._look_up(ids), self.compute_dtype)
        keep = tf.cast(mask, tf.float32)
        if training and self.settings.word_dropout:
            keep *= self.words.sample_mask(tf.shape(mask))
        keep = keep[..., tf.newaxis]
        if training and self.settings.dropout:
            keep *= self.drop.sample_mask(tf.shape(vectors))
        return vectors * tf.cast(keep, vectors.dtype)

    def _look_up(self, ids: tf.Tensor) -> tf.Tensor:
        if not self.frozen_rows:
            return self._look_up_trainable(ids)
        rows = tf.gather(tf.convert_to_tensor(self.rows), ids)
        # Both matrices are read for every id, at row 0 where the word is in the other one.
        trainable = self._look_up_trainable(tf.maximum(rows, 0))
        frozen = tf.gather(tf.convert_to_tensor(self.frozen), tf.maximum(-1 - rows, 0))
        return tf.where((rows >= 0)[..., tf.newaxis], trainable, frozen)

    def _look_up_trainable(self, rows: tf.Tensor) -> tf.Tensor:
        look_up = row_lookups.of(self)
        if look_up is not None:
            return look_up(rows)
        # Gathers from the variable, not from its value, which may be copied whole to be read.
        return tf.gather(self.matrix.value, rows)

    def get_config(self) -> dict[str, object]:
        return {
            **super().get_config(),
            "settings": asdict(self.settings),
            "vocabulary_size": self.vocabulary_size,
            "width": self.width,
            "frozen_rows": self.frozen_rows,
            "seed": self.seed,
        }


class VocabularySpec(NamedTuple):
    """The size V of a vocabulary, and pretrained vectors for some of its words.

    vectors (V, D) numbers; known (V,) bool, the rows that were found (None: every row that is not
    all 0).
    """

    size: int
    vectors: np.ndarray | None = None
    known: np.ndarray | None = None


def build_embedding(
    settings: EmbeddingSettings,
    vocabulary: VocabularySpec,
    *,
    seed: int,
    name: str = "embedding",
) -> Embedding:
    """An Embedding with the vocabulary's pretrained vectors, if there are any.

    Words without one start at random and learn, even if settings.trainable is False and the
    pretrained ones are frozen.
    """
    size, vectors, known = vocabulary
    if vectors is None:
        layer = Embedding(settings, size, seed=seed, name=name)
        layer.build((None, None))
        return layer
    known = _real_rows(np.any(vectors != 0, axis=1) if known is None else known, vectors)
    if len(known) != size:
        raise ValueError(f"there is a vector for each of {size} words; got {len(known)}.")
    frozen = 0 if settings.trainable else int(known.sum())
    layer = Embedding(
        settings, size, width=vectors.shape[1], frozen_rows=frozen, seed=seed, name=name
    )
    layer.build((None, None))
    layer.assign_vectors(vectors, known)
    return layer
