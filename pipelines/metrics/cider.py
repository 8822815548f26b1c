"""CIDEr-D: do captions say what people say of a picture, in words that tell it from others?

Vedantam et al. 2015, eq. 1 to 4 with the changes of section 5 (D: clipped counts, a Gaussian for
differences in length), as pycocoevalcap computes it, whose "cider" this is.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
from scipy import sparse

ORDER = 4
SIGMA = 6.0

Words = Sequence[str]
"""A text, cut into words."""


class _Grams(NamedTuple):
    """The n-grams of T texts, of one n: how often each occurs in each text.

    texts (K,) int: whose it is; keys (K,) uint64: which n-gram; counts (K,) float.
    """

    texts: np.ndarray
    keys: np.ndarray
    counts: np.ndarray


class _Texts(NamedTuple):
    """T texts as CIDEr sees them.

    vectors  of each n: weighed n-grams (T, G) and their norms (T,). lengths (T,).
    """

    vectors: list[tuple[sparse.csr_array, np.ndarray]]
    lengths: np.ndarray

    def take(self, rows: np.ndarray) -> _Texts:
        return _Texts([(a[rows], norms[rows]) for a, norms in self.vectors], self.lengths[rows])


class Cider:
    """What candidates score beside references, with document frequencies of N pictures.

    A document frequency is the number of pictures of which at least one reference has the n-gram.
    With a single picture every n-gram weighs 0, and so do scores.
    """

    def __init__(self, references: Sequence[Sequence[Words]]):
        """Reads one or several references for each of the N pictures, in words."""
        sizes = _sizes(references)
        self._numbers: dict[str, int] = {}
        self._first = np.concatenate([[0], np.cumsum(sizes)]).astype(int)
        flat = list(chain.from_iterable(references))
        pictures = np.repeat(np.arange(len(references)), sizes)
        self._orders = [_Order(grams, pictures) for grams in self._grams(flat)]
        self._references = self._weighed(flat)

    def scores(self, candidates: Sequence[Words], rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """CIDEr-D of each candidate (M,), from 0 to 10, beside the references of picture rows[m].

        The mean over n = 1 to 4, so that a caption of fewer than four words can't have 10.
        """
        rows = np.asarray(rows, int)
        sizes = self._first[rows + 1] - self._first[rows]
        # Row m's references stand from first[rows[m]] on.
        within = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        chosen = np.repeat(self._first[rows], sizes) + within
        return _compared(self._weighed(candidates), self._references.take(chosen), sizes)

    def beside(
        self, candidates: Sequence[Words], references: Sequence[Sequence[Words]]
    ) -> np.ndarray:
        """As `scores`, beside references[m], such as those of a batch of the N pictures."""
        flat = list(chain.from_iterable(references))
        return _compared(self._weighed(candidates), self._weighed(flat), _sizes(references))

    def _weighed(self, texts: Sequence[Words]) -> _Texts:
        pairs = zip(self._orders, self._grams(texts), strict=True)
        vectors = [order.weighed(grams, len(texts)) for order, grams in pairs]
        # In pairs of words, as pycocoevalcap has it: one less than words, but not below 0.
        return _Texts(vectors, np.array([max(len(text) - 1, 0) for text in texts], float))

    def _grams(self, texts: Sequence[Words]) -> list[_Grams]:
        """Of each n from 1 to ORDER. Keys are hashes: of ten million, two alike once in 10^5."""
        numbers = self._numbers
        ids = [numbers.setdefault(word, len(numbers) + 1) for text in texts for word in text]
        words = np.array(ids, np.uint64)
        owners = np.repeat(np.arange(len(texts)), [len(text) for text in texts])
        keys = np.zeros(len(words), np.uint64)
        found = []
        for n in range(1, ORDER + 1):
            keys = keys[: max(len(words) - n + 1, 0)] + words[n - 1 :]
            keys *= np.uint64(0x9E3779B97F4A7C15)
            whole = owners[: len(keys)] == owners[n - 1 :]
            found.append(_counted(owners[: len(keys)][whole], keys[whole]))
        return found


class _Order:
    """How much the n-grams of one n weigh."""

    def __init__(self, grams: _Grams, pictures: np.ndarray):
        """Of the references; pictures (T,): whose each of the T is, in rising order."""
        count = pictures[-1] + 1 if len(pictures) else 0
        self.keys, columns = np.unique(grams.keys, return_inverse=True)
        # Each picture's n-grams once, in however many of its references.
        pairs = np.unique(pictures[grams.texts] * max(len(self.keys), 1) + columns)
        frequency = np.bincount(pairs % max(len(self.keys), 1), minlength=len(self.keys))
        self.rarest = np.log(max(count, 1))
        self.weights = self.rarest - np.log(np.maximum(frequency, 1))

    def weighed(self, grams: _Grams, texts: int) -> tuple[sparse.csr_array, np.ndarray]:
        """(T, G) n-grams weighed, and norms (T,).

        N-grams that no reference has count in the norms only, as the rarest.
        """
        columns = np.searchsorted(self.keys, grams.keys)
        known = columns < len(self.keys)
        known[known] = self.keys[columns[known]] == grams.keys[known]
        values = grams.counts * self.rarest
        values[known] = grams.counts[known] * self.weights[columns[known]]
        norms = np.sqrt(np.bincount(grams.texts, values**2, texts))
        places = (grams.texts[known], columns[known])
        return sparse.csr_array((values[known], places), (texts, len(self.keys))), norms


def _compared(said: _Texts, right: _Texts, sizes: np.ndarray) -> np.ndarray:
    """(M,) of M texts, the m-th beside the next sizes[m] of the references."""
    owners = np.repeat(np.arange(len(sizes)), sizes)
    likeness = np.zeros(len(owners))
    own = said.take(owners)
    for (a, norms), (b, others) in zip(own.vectors, right.vectors, strict=True):
        # Clipped: what is said more often than in the reference counts as often as there.
        common = a.minimum(b).multiply(b).sum(axis=1)
        below = norms * others
        likeness += np.divide(common, below, out=np.zeros(len(owners)), where=below > 0)
    apart = own.lengths - right.lengths
    likeness *= np.exp(-(apart**2) / (2 * SIGMA**2))
    return 10 * np.bincount(owners, likeness, len(sizes)) / (ORDER * sizes)


def _sizes(references: Sequence[Sequence[Words]]) -> np.ndarray:
    sizes = np.array([len(given) for given in references], int)
    if not sizes.all():
        empty = int(np.flatnonzero(sizes == 0)[0])
        raise ValueError(f"CIDEr needs a reference for each picture; picture {empty} has none.")
    return sizes


def _counted(texts: np.ndarray, keys: np.ndarray) -> _Grams:
    """Occurrences to counts."""
    order = np.lexsort((keys, texts))
    texts, keys = texts[order], keys[order]
    new = np.ones(len(keys), bool)
    new[1:] = (keys[1:] != keys[:-1]) | (texts[1:] != texts[:-1])
    first = np.flatnonzero(new)
    counts = np.diff(np.append(first, len(keys))).astype(float)
    return _Grams(texts[first], keys[first], counts)
