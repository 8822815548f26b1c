"""Several captions of an image, one a line <-> one sequence of token ids."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from pipelines.core.contracts import FieldCodec, FieldSpec, Split
from pipelines.core.types import JsonObject, RawColumn, Value
from pipelines.data.codecs.text import BEGIN, PAD, TextCodec, TextSettings

if TYPE_CHECKING:
    import tensorflow as tf


SPACES = " \t\n\v\f\r"
"""White space, as tf.strings.strip defines it."""


class CaptionsCodec(FieldCodec):
    """The concatenated ids of the lines, each within markers: <s> a b </s> <s> a c </s>.

    Blank lines are dropped; if all are blank, there is one caption of an unknown token. `text` is
    the codec of a single caption.
    """

    def __init__(self, column: str, settings: TextSettings):
        self.column = column
        self.text = TextCodec(column, settings, markers=True)

    def fit(self, batches: Iterable[Sequence[Value]]) -> None:
        def lines() -> Iterator[list[str]]:
            for batch in batches:
                yield [line for captions in batch for line in caption_lines(captions)]

        self.text.fit(lines())

    def encode(self, values: RawColumn) -> tf.RaggedTensor:
        """(B,) captions to (B, T) int32."""
        import tensorflow as tf

        lines = tf.strings.split(values, "\n")
        lines = tf.ragged.boolean_mask(
            lines, lines.with_flat_values(tf.strings.strip(lines.flat_values) != "")
        )
        none = tf.cast(lines.row_lengths() == 0, tf.int64)
        nothing = tf.fill([tf.reduce_sum(none)], "")
        lines = tf.concat(
            [lines, tf.RaggedTensor.from_row_lengths(nothing, none, validate=False)], axis=1
        )
        return lines.with_flat_values(self.text.encode(lines.flat_values)).merge_dims(1, 2)

    def decode(self, numbers: np.ndarray) -> str:
        return "\n".join(self.text.decode(ids) for ids in split_captions(numbers))

    def texts(self, tokens: np.ndarray) -> list[str]:
        """All captions of each image, joined by spaces, from their ids (B, L)."""
        ids, owner = caption_rows(tokens)
        texts = [""] * len(tokens)
        for text, image in zip(self.text.text(ids).numpy(), owner, strict=True):
            texts[image] += f" {text.decode()}"
        return texts

    @property
    def resources(self) -> list[object]:
        return self.text.resources

    @property
    def operators(self) -> tuple[str, ...]:
        return self.text.operators

    @property
    def field(self) -> FieldSpec:
        return self.text.field

    @property
    def size(self) -> int:
        return self.text.size

    def state(self) -> JsonObject:
        return self.text.state()

    def restore(self, state: JsonObject) -> None:
        """UserError if the state was learnt with other settings."""
        self.text.restore(state)

    def summary(self) -> JsonObject:
        """TextCodec's summary, of single captions."""
        return self.text.summary()


def caption_lines(captions: str) -> list[str]:
    """The lines of a text that aren't blank."""
    return [line for line in captions.split("\n") if line.strip(SPACES)]


def split_captions(ids: np.ndarray) -> list[np.ndarray]:
    """Ids (T,) of several captions, padded or not, to the ids of each one with its markers."""
    ids = ids[ids != PAD]
    return np.split(ids, np.flatnonzero(ids == BEGIN)[1:])


def caption_rows(tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """From all captions of each image, one after the other, (B, L), to one caption a row.

    Returns ids (N, T), padded, and owner (N,) int32: whose caption each is, in rising order.
    """
    # Each begin marker starts a caption. It stops where the next one starts or, of an image's
    # last caption, where the image's tokens end.
    owner, starts = np.nonzero(tokens == BEGIN)
    lengths = np.count_nonzero(tokens, axis=1)[owner]
    last = np.append(owner[1:] != owner[:-1], True)
    stops = np.where(last, lengths, np.append(starts[1:], 0))
    places = starts[:, None] + np.arange((stops - starts).max(initial=2))
    real = places < stops[:, None]
    ids = np.where(real, tokens[owner[:, None], np.where(real, places, 0)], PAD)
    return ids, owner.astype(np.int32)


def caption_references(split: Split, column: str) -> list[list[str]]:
    """All captions of each image."""
    return [caption_lines(text) for texts in split.raw(column) for text in texts]
