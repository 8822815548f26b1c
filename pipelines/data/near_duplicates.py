"""Texts that nearly repeat others, by MinHash (Broder 1997) in bands (Leskovec et al.)."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

SHINGLE = 3
"""Words in a row that are compared as one."""

LEAST_WORDS = 8
"""Shorter texts repeat each other by nature."""

BANDS, BAND_ROWS = 8, 4
"""Texts are compared if all hashes of a band are alike: 98% of those that share 0.8 of all."""

ALIKE = 0.75
"""Texts are near-duplicates if they share this part of their shingles (Jaccard), by estimate."""

MOST_COMPARED = 4
"""Training texts that a held-out one is compared with in each band."""


class NearDuplicateFinder:
    """Takes texts in the order of their rows; keeps 132 bytes of each."""

    def __init__(self) -> None:
        self._signatures = [np.zeros((0, BANDS * BAND_ROWS), np.uint32)]
        self._long = [np.zeros(0, bool)]

    def add(self, columns: Sequence[pa.Array]) -> None:
        """The texts of the next B rows: (B,) strings, or lists of strings, each."""
        signatures, long = _signatures(columns)
        self._signatures.append(signatures)
        self._long.append(long)

    def finish(self) -> np.ndarray:
        """(P, 2) int64: rows that nearly repeat each other, the lesser first.

        Of many rows that do, each is paired with one or more of the others, not with all.
        """
        signatures, long = np.concatenate(self._signatures), np.concatenate(self._long)
        rows = np.flatnonzero(long)
        found = [np.zeros((0, 2), np.int64)]
        for bucket in _buckets(signatures):
            order = rows[np.argsort(bucket[rows], kind="stable")]
            one, other = order[:-1], order[1:]
            same = bucket[one] == bucket[other]
            one, other = one[same], other[same]
            found.append(np.stack([one, other], 1)[_alike(signatures, one, other)])
        return np.unique(np.concatenate(found), axis=0)


def nearly_repeated(columns: Sequence[pa.Array], training: np.ndarray) -> np.ndarray:
    """(N,) bool: held-out rows that nearly repeat a training row.

    columns (N,) strings, or lists of strings, each; training (N,) bool.
    """
    signatures, long = _signatures(columns)
    found = np.zeros(len(training), bool)
    for bucket in _buckets(signatures):
        known = np.flatnonzero(long & training)
        known = known[np.argsort(bucket[known], kind="stable")]
        asked = np.flatnonzero(long & ~training & ~found)
        start = np.searchsorted(bucket[known], bucket[asked])
        for step in range(MOST_COMPARED if len(known) else 0):
            other = known[np.minimum(start + step, len(known) - 1)]
            same = bucket[other] == bucket[asked]
            one, other = asked[same], other[same]
            found[one[_alike(signatures, one, other)]] = True
    return found


def _buckets(signatures: np.ndarray) -> Iterator[np.ndarray]:
    """Of each band (N,) uint64: rows with the same number in it are worth comparing."""
    for band in range(BANDS):
        bucket = np.zeros(len(signatures), np.uint64)
        for column in range(band * BAND_ROWS, (band + 1) * BAND_ROWS):
            bucket = _mix(bucket ^ signatures[:, column])
        yield bucket


def _alike(signatures: np.ndarray, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(P,) bool, of pairs of rows: the share of equal hashes estimates that of equal shingles."""
    alike: np.ndarray = (signatures[other] == signatures[one]).mean(axis=1) >= ALIKE
    return alike


def _signatures(columns: Sequence[pa.Array]) -> tuple[np.ndarray, np.ndarray]:
    """(N, BANDS * BAND_ROWS) uint32, the least of each hash of a row's shingles; (N,) bool, rows
    that are long enough to have any.
    """
    joined = [pc.binary_join(c, " ") if pa.types.is_list(c.type) else c for c in columns]
    texts = pc.utf8_lower(pc.binary_join_element_wise(*joined, " "))
    words = pc.split_pattern_regex(pc.utf8_trim_whitespace(texts), r"\s+")
    lengths = pc.list_value_length(words).to_numpy().astype(np.int64)
    encoded = words.flatten().dictionary_encode()
    hashes = [zlib.crc32(word.encode()) for word in encoded.dictionary.to_pylist()]
    flat = _mix(np.array(hashes, np.uint64))[encoded.indices.to_numpy()]
    long = lengths >= LEAST_WORDS
    signatures = np.zeros((len(texts), BANDS * BAND_ROWS), np.uint32)
    if not long.any():
        return signatures, long
    with np.errstate(over="ignore"):
        shingles = flat[: len(flat) - SHINGLE + 1].copy()
        for step in range(1, SHINGLE):
            shingles = _mix(shingles) + flat[step : len(flat) - SHINGLE + 1 + step]
        shingles = _mix(shingles)
        row = np.repeat(np.arange(len(texts)), lengths)[: len(shingles)]
        left = np.repeat(np.cumsum(lengths), lengths)[: len(shingles)] - np.arange(len(shingles))
        inside = long[row] & (left >= SHINGLE)  # no shingle goes on in the next row
        shingles, row = shingles[inside], row[inside]
        starts = np.flatnonzero(np.diff(row, prepend=-1))
        factors = np.random.default_rng(0).integers(0, 2**63, BANDS * BAND_ROWS, np.uint64)
        for column, factor in enumerate(factors):
            # Multiplying by an odd number and shifting is a 2-universal hash (Dietzfelbinger 1997).
            hashed = shingles * (factor * np.uint64(2) + np.uint64(1))
            upper = (hashed >> np.uint64(32)).astype(np.uint32)
            signatures[long, column] = np.minimum.reduceat(upper, starts)
    return signatures, long


def _mix(numbers: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        mixed = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
