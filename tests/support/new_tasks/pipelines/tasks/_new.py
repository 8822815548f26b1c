"""What the made-up tasks share: settings of their tokens, and a network that answers every step."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, cast

from models.settings import RecurrentSettings
from pipelines.core.contracts import Codec
from pipelines.data.codecs.text import TextCodec
from pipelines.data.codecs.text_settings import TextSettings

if TYPE_CHECKING:
    import keras

WORD_LISTS = TextSettings(
    tokens="list",
    vocabulary_size=100,
    minimum_count=1,
    lowercase=False,
    strip_markup=False,
    punctuation="keep",
    max_tokens=50,
    truncate="head",
    model_type="unigram",
)
LETTERS = replace(WORD_LISTS, tokens="character")

FIRST_ID = 2
"""Ids 0 and 1 are padding and unknown tokens, which are no answer."""


def text_codec(codec: Codec, field: str) -> TextCodec:
    return cast(TextCodec, codec.fields[field])


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
