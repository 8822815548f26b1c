"""The characters of each word of a list."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from pydantic import PositiveInt

from pipelines.core.contracts import FieldCodec, FieldSpec
from pipelines.core.saved_files import typed
from pipelines.core.types import JsonObject, RawColumn, Value
from pipelines.data.codecs.key_search import find_ids
from pipelines.data.codecs.restoring import check_same_settings
from pipelines.data.codecs.special_ids import UNKNOWN

if TYPE_CHECKING:
    import tensorflow as tf


@dataclass(frozen=True)
class _State:
    column: str
    most: PositiveInt
    minimum_count: PositiveInt
    characters: list[str]


class SpellingCodec(FieldCodec):
    """Lists of words to (T, most) ids of characters: 0 padding, 1 unknown, then by frequency.

    most           characters of a word that are read; of a longer one the first and the last half.
    minimum_count  of words of the training texts that a character must be in.
    """

    raw = FieldSpec((None,), "string")

    def __init__(self, column: str, *, most: int, minimum_count: int):
        self.column, self.most, self.minimum_count = column, most, minimum_count
        self.characters: tuple[str, ...] = ()

    def fit(self, batches: Iterable[Sequence[Value]]) -> None:
        words: Counter[str] = Counter()
        for batch in batches:
            for row in batch:
                words.update(row)
        counts: Counter[str] = Counter()
        for word, number in words.items():
            for character in set(word):
                counts[character] += number
        self._set(
            sorted(
                (c for c, number in counts.items() if number >= self.minimum_count),
                key=lambda character: (-counts[character], character),
            )
        )

    def _set(self, characters: Sequence[str]) -> None:
        self.characters = tuple(characters)
        self.__dict__.pop("_sorted", None)

    @cached_property
    def _sorted(self) -> tuple[np.ndarray, np.ndarray]:
        """Code points in ascending order, and the id of each; of none, one that is no character."""
        points = np.array([ord(character) for character in self.characters] or [-1], np.int32)
        order = np.argsort(points)
        return points[order], (order + UNKNOWN + 1).astype(np.int32)

    def encode(self, values: RawColumn) -> tf.RaggedTensor:
        """Ragged (B, T) text to (B, T, most) int32."""
        import tensorflow as tf

        points = tf.strings.unicode_decode(values.flat_values, "UTF-8", errors="replace")
        tail = self.most // 2
        lengths = points.row_lengths()
        place = tf.range(self.most, dtype=tf.int64)[tf.newaxis]
        # Of a longer word the places from the middle on are counted from its end.
        cut = (lengths > self.most)[:, tf.newaxis] & (place >= self.most - tail)
        place = tf.where(cut, place + (lengths - self.most)[:, tf.newaxis], place)
        real = place < lengths[:, tf.newaxis]
        index = tf.where(real, place + points.row_starts()[:, tf.newaxis], 0)
        # One more, so that there is something to gather where all words are empty.
        flat = tf.concat([points.flat_values, [0]], 0)
        keys, ids = (tf.constant(part) for part in self._sorted)
        found = find_ids(tf.reshape(tf.gather(flat, index), [-1]), keys, ids, missing=UNKNOWN)
        made = tf.where(real, tf.reshape(found, [-1, self.most]), 0)
        return values.with_flat_values(tf.ensure_shape(made, [None, self.most]))

    def decode(self, numbers: np.ndarray) -> list[str]:
        names = ("", "�", *self.characters)
        return ["".join(names[number] for number in word) for word in np.asarray(numbers).tolist()]

    @property
    def field(self) -> FieldSpec:
        return FieldSpec((None, self.most), "int32")

    @property
    def size(self) -> int:
        return len(self.characters) + UNKNOWN + 1

    def state(self) -> JsonObject:
        return {
            "column": self.column,
            "most": self.most,
            "minimum_count": self.minimum_count,
            "characters": list(self.characters),
        }

    def restore(self, state: JsonObject) -> None:
        """UserError if the state was learnt with other settings."""
        saved = typed(_State, state)
        own = {"most": self.most, "minimum_count": self.minimum_count}
        check_same_settings("characters learnt", state, own)
        single = all(len(character) == 1 for character in saved.characters)
        if not single or len(set(saved.characters)) < len(saved.characters):
            raise ValueError("characters must be single ones, each there once")
        self._set(saved.characters)

    def summary(self) -> JsonObject:
        return {"characters": len(self.characters)}
