"""Rows that are about the same thing, such as a film, or that nearly repeat each other.

1. A rare word that stands in several of few neighbouring rows, more often than chance would have
   it, ties them and what lies between them: a stretch. Each stratum is looked at by itself, so that
   a file that is sorted by label first tells as much as any other.
2. Two stretches that share far more rare words than chance would have it are linked: reviews of one
   film under both labels, or in a file whose order says nothing, where each row is a stretch.
3. Stretches that hold two nearly equal texts are linked, whatever words these are made of.

Only words that few rows have are looked at, and texts whose hashes agree, so that time and memory
grow with the number of rows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from pipelines.data.near_duplicates import NearDuplicateFinder
from pipelines.data.rare_words import MOST, RareWordCollector, RareWords

if TYPE_CHECKING:
    from scipy import sparse

NEAR = 30
"""Rows of one word that are at most so far apart are neighbours."""

CHANCE_RUN = 0.005
"""A word ties neighbours that it would not be in by chance but with less than this probability."""

CHANCE_LINK = 0.02
"""So many links by chance there may be for each stretch."""

LEAST_SHARED = 2
"""Words that linked stretches share, at least."""

LARGEST_SHARE, LARGEST_ROWS = 0.01, 30
"""No link makes a group of more than this share of the rows, or than so many rows."""

AT_ONCE = 4096
"""Stretches that are compared with all others at once."""


class RelatedRowFinder:
    """Takes texts in the order of their rows."""

    def __init__(self) -> None:
        self._words, self._copies = RareWordCollector(), NearDuplicateFinder()

    def add(self, columns: Sequence[pa.Array]) -> None:
        """The texts of the next B rows: (B,) strings, or lists of strings, each."""
        self._words.add(columns)
        self._copies.add(columns)

    def finish(self, strata: np.ndarray) -> np.ndarray:
        """(N,) int32, as related_groups."""
        return related_groups(self._words.finish(), strata, self._copies.finish())


def related_groups(rare: RareWords, strata: np.ndarray, repeated: np.ndarray) -> np.ndarray:
    """The group of each row, (N,) int32: the least row of the group.

    strata (N,) int, the stratum of each row, such as its label; repeated (P, 2), pairs of rows that
    nearly repeat each other.
    """
    stretch = find_stretches(rare, strata)
    sizes = np.bincount(stretch)
    stratum = np.zeros(len(sizes), np.int64)
    stratum[stretch] = strata
    first, second, evidence = find_links(rare, stretch, stratum)
    strongest = np.lexsort((second, first, -evidence))
    copies = stretch[repeated]  # nothing binds more than to be the same: they are joined first
    first = np.concatenate([copies[:, 0], first[strongest]])
    second = np.concatenate([copies[:, 1], second[strongest]])
    largest = max(LARGEST_ROWS, int(rare.rows * LARGEST_SHARE))
    parent = _join(first, second, sizes, largest)
    least = np.full(len(sizes), rare.rows, np.int32)
    np.minimum.at(least, parent[stretch], np.arange(rare.rows, dtype=np.int32))
    return least[parent[stretch]]


def find_stretches(rare: RareWords, strata: np.ndarray) -> np.ndarray:
    """(N,) int: the stretch of neighbouring rows of its stratum that each row is in, from 0 on."""
    in_order = np.argsort(strata, kind="stable")
    place = np.empty(rare.rows, np.int64)
    place[in_order] = np.arange(rare.rows)
    begin, end = _unlikely_runs(rare, place, strata)
    spans = np.zeros(rare.rows + 1, np.int64)
    np.add.at(spans, begin, 1)
    np.add.at(spans, end, -1)
    tied = np.cumsum(spans)[: rare.rows] > 0  # place i with place i + 1
    number = np.concatenate([[0], np.cumsum(~tied[:-1])]) if rare.rows else np.zeros(0, np.int64)
    stretch = np.empty(rare.rows, np.int64)
    stretch[in_order] = number
    return stretch


def _unlikely_runs(
    rare: RareWords, place: np.ndarray, strata: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """First and last places of neighbouring rows with the same word, where chance is unlikely.

    Of a word that n of the N rows of a stratum have, at most n * C(n - 1, m - 1) *
    (length / N)^(m - 1) runs of m rows within so many neighbours are to be expected by chance.
    Words of one label only, as where labels are topics, tie no rows that aren't near each other.
    """
    order = np.lexsort((place[rare.row], rare.word))
    word, at = rare.word[order], place[rare.row[order]]
    stratum = strata[rare.row[order]]
    change = np.ones(len(order), bool)
    change[1:] = (np.diff(word) != 0) | (np.diff(stratum) != 0)
    new = change.copy()
    new[1:] |= np.diff(at) > NEAR
    starts = np.flatnonzero(new)
    rows = np.diff(starts, append=len(order))
    begin, end = at[starts], at[starts + rows - 1]
    in_stratum = np.diff(np.flatnonzero(change), append=len(order))
    of_word = in_stratum[np.cumsum(change)[starts] - 1] if len(order) else rows
    sizes = np.bincount(strata)[stratum[starts]] if len(order) else rows
    length = np.log((end - begin + 1) / np.maximum(sizes, 1))
    expected = _ways()[of_word, rows] + (rows - 1) * length
    unlikely = (rows > 1) & (expected < math.log(CHANCE_RUN))
    return begin[unlikely], end[unlikely]


def _ways() -> np.ndarray:
    """(MOST + 1, MOST + 1): the logarithm of n * C(n - 1, m - 1), for m up to n."""
    ways = np.zeros((MOST + 1, MOST + 1))
    for n in range(1, MOST + 1):
        for m in range(1, n + 1):
            ways[n, m] = math.log(n * math.comb(n - 1, m - 1))
    return ways


def find_links(
    rare: RareWords, stretch: np.ndarray, strata: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs of stretches, the lesser first, and the evidence for each in nats.

    stretch (N,), of each row; strata (S,), of each stretch. How many words two stretches share by
    chance depends on their strata: texts of one label have words in common whatever they are about.
    The evidence that s words are shared where chance has e of them is s * ln(s / e) - (s - e), by
    which a Poisson distribution bounds the probability (Chernoff). CHANCE_LINK says how much of it
    a link needs.
    """
    from scipy import sparse

    count = int(stretch.max(initial=-1)) + 1
    pairs = np.unique(np.stack([stretch[rare.row], rare.word]), axis=1)
    ones = np.ones(pairs.shape[1], np.int32)
    has = sparse.csr_matrix((ones, pairs), (count, rare.words))
    words_of = np.bincount(pairs[0], minlength=count).astype(float)
    rate = _sharing_rates(has, words_of, strata)
    wanted = math.log(max(count, 2) / 2 / CHANCE_LINK)
    found = []
    for start in range(0, count, AT_ONCE):
        shared = (has[start : start + AT_ONCE] @ has.T).tocoo()
        first, second, words = shared.row + start, shared.col, shared.data
        kept = (first < second) & (words >= LEAST_SHARED)
        first, second, words = first[kept], second[kept], words[kept]
        chance = words_of[first] * words_of[second] * rate[strata[first], strata[second]]
        chance = np.maximum(chance, 1e-9)
        evidence = words * np.log(words / chance) - (words - chance)
        kept = (words > chance) & (evidence >= wanted)
        found.append((first[kept], second[kept], evidence[kept]))
    columns = zip(*found, strict=True) if found else ([np.zeros(0, int)] for _ in range(3))
    first, second, evidence = (np.concatenate(column) for column in columns)
    return first, second, evidence


def _sharing_rates(has: sparse.csr_matrix, words_of: np.ndarray, strata: np.ndarray) -> np.ndarray:
    """(K, K): the words that two stretches of two strata share by chance, for each pair of words.

    has (S, W), which stretch has which word; words_of (S,), how many each has.
    """
    from scipy import sparse

    kinds = int(strata.max(initial=-1)) + 1
    ones = np.ones(len(strata), np.int64)
    member = sparse.csr_matrix((ones, (strata, np.arange(len(strata)))), (kinds, len(strata)))
    counts = member @ has  # (K, W): stretches of a stratum that have a word
    shared = (counts @ counts.T).toarray().astype(float)
    # A stretch isn't compared with itself.
    np.fill_diagonal(shared, shared.diagonal() - np.asarray(counts.sum(1))[:, 0])
    total = np.bincount(strata, words_of, kinds)
    return shared / np.maximum(np.outer(total, total), 1)


def _join(first: np.ndarray, second: np.ndarray, sizes: np.ndarray, largest: int) -> np.ndarray:
    """(S,) the least of the stretches that each is joined with, by links in their order.

    A link that would make a group of more rows than `largest` is left out: without a bound, a chain
    of series and of actors ties half of all films.
    """
    parent, rows = list(range(len(sizes))), sizes.tolist()

    def root(one: int) -> int:
        while parent[one] != one:
            parent[one] = parent[parent[one]]
            one = parent[one]
        return one

    for one, other in zip(first.tolist(), second.tolist(), strict=True):
        low, high = sorted((root(one), root(other)))
        if low != high and rows[low] + rows[high] <= largest:
            parent[high] = low
            rows[low] += rows[high]
    return np.array([root(one) for one in range(len(sizes))], np.int64)
