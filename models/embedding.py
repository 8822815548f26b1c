"""Token vectors: learned, or given and kept, with dropout of words and of features."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Self

import keras
import numpy as np
import tensorflow as tf

from models.dropout import Dropout
from models.seeds import stream
from models.settings import EmbeddingSettings

PADDING, UNKNOWN = 0, 1  # ids that every vocabulary keeps free

_register = keras.saving.register_keras_serializable(package="recurrent")


def _known_rows(known: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Checks given vectors (V, D) and which rows of them are real, (V,) bool."""
    if vectors.ndim != 2 or known.shape != vectors.shape[:1]:
        raise ValueError(
            "vectors have a row for each word and `known` a flag for each row; "
            f"got vectors {vectors.shape} and known {known.shape}."
        )
    return known.astype(bool)


@_register
class Embedding(keras.layers.Layer):
    """ids -> vectors. Id 0 is padding and gives 0; id 1 is the unknown word.

    The matrix has a row for each word, (V, D). Given vectors that stay fixed are kept apart
    from the rows that learn, so that no gradient, and no optimizer state, is spent on them:
    `frozen` (words kept, D) and `matrix` (words learned, D), with `rows` (V,) saying where each
    word is: r >= 0 in `matrix`, and r < 0 in `frozen` at -1 - r.

    Given vectors decide the width: D is theirs, not settings.width. build_embedding puts them
    in; a model read from a file gets them, with their width, from that file.

    look_up     gives the rows (...) of `matrix`, (..., D), in place of a plain look-up: who
                updates rows only when they are needed sets it.
    read_whole  all of `matrix` is read, too, so that no row can wait until it is looked up.
    """

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
        """width: of given vectors, otherwise None. frozen_rows: how many words stay fixed."""
        super().__init__(**kwargs)
        self.settings, self.vocabulary_size, self.seed = settings, vocabulary_size, seed
        self.frozen_rows = frozen_rows
        self.width = width or settings.width
        self.words = Dropout(settings.word_dropout, seed=stream(seed, "word_dropout"))
        self.drop = Dropout(settings.dropout, seed=stream(seed, "dropout"))
        self.look_up: Callable[[tf.Tensor], tf.Tensor] | None = None
        self.read_whole = False

    def build(self, input_shape: Any) -> None:
        del input_shape
        learned = self.vocabulary_size - self.frozen_rows
        initial = keras.initializers.RandomUniform(
            -self.settings.scale, self.settings.scale, stream(self.seed, "matrix")
        )
        # Not cast whole to a narrower compute type: the gradient of that would be dense.
        self.matrix = self.add_weight((learned, self.width), initial, autocast=False, name="matrix")
        if self.frozen_rows:
            shape = (self.frozen_rows, self.width)
            self.frozen = self.add_weight(
                shape, "zeros", trainable=False, autocast=False, name="frozen"
            )
            self.rows = self.add_weight(
                (self.vocabulary_size,), "zeros", dtype="int32", trainable=False, name="rows"
            )
        self.built = True

    def place(self, vectors: np.ndarray, known: np.ndarray) -> None:
        """Fixes the known rows, (V,) bool, of vectors (V, D); the others learn."""
        self.frozen.assign(vectors[known])
        self.rows.assign(np.where(known, -np.cumsum(known), np.cumsum(~known) - 1))

    def compute_mask(self, *_: Any) -> None:
        """Masks are explicit: none travels with a tensor."""

    def call(self, ids: tf.Tensor, mask: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Vectors of ids (B, T) int32, mask (B, T) bool -> (B, T, D), 0 where mask is False.

        Time-major, (T, B) -> (T, B, D), is as well.
        """
        vectors = tf.cast(self._look_up(ids), self.compute_dtype)
        keep = tf.cast(mask, tf.float32)
        if training and self.settings.word_dropout:
            keep *= self.words.factors(tf.shape(mask))
        keep = keep[..., tf.newaxis]
        if training and self.settings.dropout:
            keep *= self.drop.factors(tf.shape(vectors))
        return vectors * tf.cast(keep, vectors.dtype)

    def _look_up(self, ids: tf.Tensor) -> tf.Tensor:
        if not self.frozen_rows:
            return self._learned(ids)
        rows = tf.gather(tf.convert_to_tensor(self.rows), ids)
        learned = self._learned(tf.maximum(rows, 0))
        frozen = tf.gather(tf.convert_to_tensor(self.frozen), tf.maximum(-1 - rows, 0))
        return tf.where((rows >= 0)[..., tf.newaxis], learned, frozen)

    def _learned(self, rows: tf.Tensor) -> tf.Tensor:
        if self.look_up is not None:
            return self.look_up(rows)
        # Of the variable, not of its value: that may have to be copied whole to be read.
        return tf.gather(self.matrix.value, rows)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "settings": asdict(self.settings),
            "vocabulary_size": self.vocabulary_size,
            "width": self.width,
            "frozen_rows": self.frozen_rows,
            "seed": self.seed,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        return cls(**(config | {"settings": EmbeddingSettings(**config["settings"])}))


def build_embedding(
    settings: EmbeddingSettings,
    vocabulary_size: int,
    *,
    seed: int,
    vectors: np.ndarray | None = None,
    known: np.ndarray | None = None,
    name: str = "embedding",
) -> Embedding:
    """An Embedding, with given vectors in place if there are any.

    vectors (V, D) numbers; known (V,) bool, the rows that were found (None: every row that is
    not all 0). Rows not known start at random and learn, even where settings.trainable is
    False and the known ones stay.
    """
    if vectors is None:
        layer = Embedding(settings, vocabulary_size, seed=seed, name=name)
        layer.build((None, None))
        return layer
    known = _known_rows(np.any(vectors != 0, axis=1) if known is None else known, vectors)
    if len(known) != vocabulary_size:
        raise ValueError(
            f"there is a vector for each of {vocabulary_size} words; got {len(known)}."
        )
    # Padding is masked and the unknown word is no word: neither has a vector of its own to keep.
    known[: UNKNOWN + 1] = False
    frozen = 0 if settings.trainable else int(known.sum())
    layer = Embedding(
        settings, vocabulary_size, width=vectors.shape[1], frozen_rows=frozen, seed=seed,
        name=name,
    )  # fmt: skip
    layer.build((None, None))
    if frozen:
        layer.place(vectors, known)
    else:
        layer.matrix.assign(np.where(known[:, np.newaxis], vectors, layer.matrix.numpy()))
    return layer
