"""What the made-up tasks share: two small codecs and a network that answers at every step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from models.settings import RecurrentSettings
from pipelines.core.contracts import FieldCodec, FieldSpec

if TYPE_CHECKING:
    import keras
    import tensorflow as tf


class Symbols(FieldCodec):
    """Lists of text, or the letters of a text, as ids from 1; 0 is padding and unknown."""

    field = FieldSpec((None,), "int32")

    def __init__(self, column: str, *, letters: bool = False):
        self.column, self.letters = column, letters
        self.raw = FieldSpec((), "string") if letters else FieldSpec((None,), "string")
        self.known: list[str] = []

    def fit(self, batches: Iterable[Sequence[Any]]) -> None:
        self.known = sorted(set(chain.from_iterable(chain.from_iterable(batches))))

    def encode(self, values: tf.Tensor | tf.RaggedTensor) -> tf.RaggedTensor:
        import tensorflow as tf

        ragged = tf.strings.unicode_split(values, "UTF-8") if self.letters else values
        same = ragged.flat_values[:, None] == tf.constant(self.known)
        places = 1 + tf.argmax(same, axis=1, output_type=tf.int32)
        return ragged.with_flat_values(tf.where(tf.reduce_any(same, axis=1), places, 0))

    def words(self, ids: tf.Tensor) -> tf.Tensor:
        """(B, T) ids to text, "" for 0."""
        import tensorflow as tf

        return tf.gather(tf.constant(["", *self.known]), ids)

    def decode(self, numbers: np.ndarray) -> list[str]:
        return [["", *self.known][number] for number in numbers]

    @property
    def size(self) -> int:
        return len(self.known) + 1

    def state(self) -> dict[str, Any]:
        return {"known": self.known}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.known = list(state["known"])

    def summary(self) -> dict[str, Any]:
        return {"symbols": len(self.known)}


class Numbers(FieldCodec):
    """Series (T,) or (T, D), less the mean of the training part."""

    size = None

    def __init__(self, column: str, width: int | None = None):
        self.column = column
        shape = (None,) if width is None else (None, width)
        self.raw = FieldSpec(shape, "float64")
        self.mean = 0.0

    @property
    def field(self) -> FieldSpec:
        return FieldSpec(self.raw.shape, "float32")

    def fit(self, batches: Iterable[Sequence[Any]]) -> None:
        values = [np.mean(one) for batch in batches for one in batch]
        self.mean = float(np.mean(values))

    def encode(self, values: tf.Tensor | tf.RaggedTensor) -> tf.RaggedTensor:
        import tensorflow as tf

        return tf.cast(values - self.mean, tf.float32)

    def decode(self, numbers: np.ndarray) -> list[Any]:
        return (numbers + self.mean).tolist()

    def state(self) -> dict[str, Any]:
        return {"mean": self.mean}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.mean = float(state["mean"])

    def summary(self) -> dict[str, Any]:
        return {"mean": self.mean}


def build_stepwise(
    model: RecurrentSettings, name: str, inputs: int, outputs: int, seed: int
) -> keras.Model:
    """{name: (B, T) ids, or (B, T, D) numbers, name_length: (B,)} -> (B, T, outputs).

    inputs  ids that there are; 0 for numbers.
    """
    import keras

    from models.prober import SequenceMask
    from models.recurrent import Encoder

    x = keras.Input((None,) if inputs else (None, 2), dtype="int32" if inputs else None, name=name)
    length = keras.Input((), dtype="int32", name=f"{name}_length")
    y = x
    if inputs:
        random = keras.initializers.RandomUniform(seed=seed)
        y = keras.layers.Embedding(inputs, 8, embeddings_initializer=random)(x)
    mask = SequenceMask(name="mask")(y, length)
    y, _ = Encoder(model, seed=seed, name="encoder")(y, mask=mask)
    glorot = keras.initializers.GlorotUniform(seed=seed)
    dense = keras.layers.Dense(outputs, kernel_initializer=glorot, dtype="float32", name="output")
    return keras.Model({name: x, f"{name}_length": length}, dense(y))
