"""CIDEr-D: do captions say what people say of an image, in words that tell it from others?

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


class Cider:
    """What candidates score beside the references of N images, which are read once.

    Document frequencies are those of these references: the number of images of which at least
    one reference has the n-gram. With a single image every n-gram weighs 0, and so do scores.
    """

    def __init__(self, references: Sequence[Sequence[Words]]):
        """Reads one or several references for each of the N images, in words."""
        sizes = [len(given) for given in references]
        if not all(sizes):
            raise ValueError(
                f"CIDEr needs a reference for each image; image {sizes.index(0)} has none."
            )
        self._numbers: dict[str, int] = {}
        self._first = np.concatenate([[0], np.cumsum(sizes)])
        flat = list(chain.from_iterable(references))
        self._lengths = _lengths(flat)
        images = np.repeat(np.arange(len(references)), sizes)
        self._orders = [_Order(grams, images, len(flat)) for grams in self._grams(flat)]

    def scores(self, candidates: Sequence[Words], rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """CIDEr-D of each candidate (M,), from 0 to 10, beside the references of image rows[m].

        The mean over n = 1 to 4, so that a caption of fewer than four words can't have 10.
        """
        rows = np.asarray(rows, int)
        sizes = self._first[rows + 1] - self._first[rows]
        owners = np.repeat(np.arange(len(rows)), sizes)
        # Row m's references stand from first[rows[m]] on.
        within = np.arange(len(owners)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        chosen = np.repeat(self._first[rows], sizes) + within
        likeness = np.zeros(len(owners))
        for order, grams in zip(self._orders, self._grams(candidates), strict=True):
            likeness += order.likeness(grams, len(candidates), owners, chosen)
        apart = _lengths(candidates)[owners] - self._lengths[chosen]
        likeness *= np.exp(-(apart**2) / (2 * SIGMA**2))
        return 10 * np.bincount(owners, likeness, len(rows)) / (ORDER * sizes)

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
    """The references' n-grams of one n, weighed."""

    def __init__(self, grams: _Grams, images: np.ndarray, texts: int):
        """Of T texts; images (T,): whose each of them is, in rising order."""
        count = images[-1] + 1 if len(images) else 0
        self.keys, columns = np.unique(grams.keys, return_inverse=True)
        # Each image's n-grams once, in however many of its references.
        pairs = np.unique(images[grams.texts] * max(len(self.keys), 1) + columns)
        frequency = np.bincount(pairs % max(len(self.keys), 1), minlength=len(self.keys))
        self.rarest = np.log(max(count, 1))
        self.weights = self.rarest - np.log(np.maximum(frequency, 1))
        shape = (texts, len(self.keys))
        values = grams.counts * self.weights[columns]
        self.references = sparse.csr_array((values, (grams.texts, columns)), shape)
        self.norms = np.sqrt(np.bincount(grams.texts, values**2, texts))

    def likeness(
        self, grams: _Grams, texts: int, owners: np.ndarray, chosen: np.ndarray
    ) -> np.ndarray:
        """Clipped cosine of candidate owners[k] and reference chosen[k], for all k.

        N-grams that no reference has count in a candidate's length as the rarest.
        """
        columns = np.searchsorted(self.keys, grams.keys)
        known = columns < len(self.keys)
        known[known] = self.keys[columns[known]] == grams.keys[known]
        values = np.where(known, 0.0, self.rarest) * grams.counts
        values[known] = grams.counts[known] * self.weights[columns[known]]
        norms = np.sqrt(np.bincount(grams.texts, values**2, texts))[owners] * self.norms[chosen]
        shape = (texts, len(self.keys))
        said = sparse.csr_array((values[known], (grams.texts[known], columns[known])), shape)
        right = self.references[chosen]
        common = said[owners].minimum(right).multiply(right).sum(axis=1)
        return np.divide(common, norms, out=np.zeros(len(owners)), where=norms > 0)


def _counted(texts: np.ndarray, keys: np.ndarray) -> _Grams:
    """Occurrences to counts."""
    order = np.lexsort((keys, texts))
    texts, keys = texts[order], keys[order]
    new = np.ones(len(keys), bool)
    new[1:] = (keys[1:] != keys[:-1]) | (texts[1:] != texts[:-1])
    first = np.flatnonzero(new)
    counts = np.diff(np.append(first, len(keys))).astype(float)
    return _Grams(texts[first], keys[first], counts)


def _lengths(texts: Sequence[Words]) -> np.ndarray:
    """In pairs of words, as pycocoevalcap measures length: one less than words, but not below 0."""
    return np.array([max(len(text) - 1, 0) for text in texts], float)
