"""The rare words of each row, found in one pass over texts of any number.

Two texts that share several rare words, such as the names of a film's characters, are most often
about the same thing.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

LEAST, MOST = 2, 30
"""A word is rare if at least so many rows have it, and at most so many."""

NO_WORD = r"[^\p{L}\p{M}'’]+"

BINS = 2**24
"""Of the table of counts, which only says early which words are frequent."""

_HALF = np.uint64(32)

MOST_HELD = 8_000_000
"""Occurrences that are held before those of frequent words are looked for again."""


@dataclass(frozen=True, eq=False)
class RareWords:
    """Which row has which rare word, once each, sorted by word and then by row.

    row, word  (E,) int32; words are numbered from 0.
    rows       of the data, with and without rare words.
    """

    row: np.ndarray
    word: np.ndarray
    rows: int

    @property
    def words(self) -> int:
        return int(self.word[-1]) + 1 if len(self.word) else 0


class RareWordCollector:
    """Takes texts in the order of their rows; forgets those of words seen to be frequent."""

    def __init__(self) -> None:
        self.rows = 0
        self._counts = np.zeros(BINS, np.uint8)
        self._held: list[np.ndarray] = []
        self._size, self._most = 0, MOST_HELD

    def add(self, columns: Sequence[pa.Array]) -> None:
        """The texts of the next B rows: (B,) strings, or lists of strings, each."""
        pairs = distinct_words(columns) + (np.uint64(self.rows) << _HALF)
        self.rows += len(columns[0])
        bins, counts = np.unique(_bin(pairs), return_counts=True)
        # Counting ends above MOST, so that a byte is enough.
        self._counts[bins] = np.minimum(self._counts[bins] + counts, MOST + 1)
        self._held.append(pairs[self._counts[_bin(pairs)] <= MOST])
        self._size += len(self._held[-1])
        if self._size > self._most:
            self._held = [self._rare_so_far()]
            self._size = len(self._held[0])
            self._most = max(MOST_HELD, 2 * self._size)

    def finish(self) -> RareWords:
        pairs = self._rare_so_far()
        _, word, counts = np.unique(_hash(pairs), return_inverse=True, return_counts=True)
        rare = (counts >= LEAST) & (counts <= MOST)
        kept = rare[word]
        number = (np.cumsum(rare) - 1)[word[kept]].astype(np.int32)
        row = (pairs[kept] >> _HALF).astype(np.int32)
        order = np.lexsort((row, number))
        return RareWords(row[order], number[order], self.rows)

    def _rare_so_far(self) -> np.ndarray:
        pairs = np.concatenate([np.zeros(0, np.uint64), *self._held])
        return pairs[self._counts[_bin(pairs)] <= MOST]


def distinct_words(columns: Sequence[pa.Array]) -> np.ndarray:
    """uint64, sorted: a row's place in the upper half, the hash of a word of it in the lower.

    A word is a run of letters in lower case.
    """
    joined = [pc.binary_join(c, " ") if pa.types.is_list(c.type) else c for c in columns]
    texts = pc.binary_join_element_wise(*joined, " ")
    spaced = pc.replace_substring_regex(pc.utf8_lower(texts), NO_WORD, " ")
    words = pc.split_pattern(spaced, " ")
    place = np.repeat(np.arange(len(words), dtype=np.uint64), pc.list_value_length(words))
    encoded = words.flatten().dictionary_encode()
    hashes = [zlib.crc32(word.encode()) for word in encoded.dictionary.to_pylist()]
    found = np.array(hashes, np.uint64)[encoded.indices.to_numpy()]
    # An empty string, of which the hash is 0, stands where a text begins or ends with no letter.
    pairs = np.sort((place << _HALF | found)[found != 0])  # sooner done than by np.unique
    return pairs[np.diff(pairs, prepend=np.uint64(0)) != 0]


def _hash(pairs: np.ndarray) -> np.ndarray:
    return pairs & np.uint64(2**32 - 1)


def _bin(pairs: np.ndarray) -> np.ndarray:
    return (pairs & np.uint64(BINS - 1)).astype(np.int64)
