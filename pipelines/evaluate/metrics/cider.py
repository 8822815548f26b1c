"""CIDEr-D: the similarity of captions and references in n-grams that are rare in other images.

Vedantam et al. 2015, eq. 1 to 4, with the changes of section 5 (clipped counts, and a Gaussian for
differences in length). It equals "cider" of pycocoevalcap.
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
"""A text as a list of words."""


class _NgramCounts(NamedTuple):
    """Counts of each n-gram, of one n, in each of T texts.

    Entry k says that text texts[k] has the n-gram of key keys[k] counts[k] times. texts (K,) int,
    keys (K,) uint64, counts (K,) float.
    """

    texts: np.ndarray
    keys: np.ndarray
    counts: np.ndarray


class Cider:
    """Scores candidates with the references of N images, which are counted once.

    An n-gram's document frequency is the number of images with a reference that has it. With a
    single image every n-gram has weight 0, and all scores are 0.
    """

    def __init__(self, references: Sequence[Sequence[Words]]):
        """references: one or several for each of the N images. ValueError if one has none."""
        sizes = [len(several) for several in references]
        if not all(sizes):
            raise ValueError(
                f"each image must have a reference for CIDEr; image {sizes.index(0)} has none"
            )
        self._numbers: dict[str, int] = {}
        self._first = np.concatenate([[0], np.cumsum(sizes)])
        flat = list(chain.from_iterable(references))
        self._lengths = _lengths(flat)
        images = np.repeat(np.arange(len(references)), sizes)
        self._orders = [_NgramTable(grams, images, len(flat)) for grams in self._ngram_counts(flat)]

    def scores(self, candidates: Sequence[Words], rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """CIDEr-D of candidate m with the references of image rows[m]: (M,), 0 to 10.

        It is the mean over n = 1 to 4, so a caption of fewer than four words can't reach 10.
        """
        rows = np.asarray(rows, int)
        sizes = self._first[rows + 1] - self._first[rows]
        pair_captions = np.repeat(np.arange(len(rows)), sizes)
        # One pair for each candidate and reference: the references of image r begin at first[r].
        within = np.arange(len(pair_captions)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        pair_references = np.repeat(self._first[rows], sizes) + within
        similarity = np.zeros(len(pair_captions))
        for order, grams in zip(self._orders, self._ngram_counts(candidates), strict=True):
            similarity += order.similarity(grams, len(candidates), pair_captions, pair_references)
        apart = _lengths(candidates)[pair_captions] - self._lengths[pair_references]
        similarity *= np.exp(-(apart**2) / (2 * SIGMA**2))
        return 10 * np.bincount(pair_captions, similarity, len(rows)) / (ORDER * sizes)

    def _ngram_counts(self, texts: Sequence[Words]) -> list[_NgramCounts]:
        """The counts for n from 1 to ORDER.

        Keys are 64-bit hashes: two of ten million n-grams collide with probability 10^-5.
        """
        numbers = self._numbers
        ids = [numbers.setdefault(word, len(numbers) + 1) for text in texts for word in text]
        words = np.array(ids, np.uint64)
        owners = np.repeat(np.arange(len(texts)), [len(text) for text in texts])
        keys = np.zeros(len(words), np.uint64)
        found = []
        for n in range(1, ORDER + 1):
            keys = keys[: max(len(words) - n + 1, 0)] + words[n - 1 :]
            keys *= np.uint64(0x9E3779B97F4A7C15)
            within_a_text = owners[: len(keys)] == owners[n - 1 :]
            found.append(_count_ngrams(owners[: len(keys)][within_a_text], keys[within_a_text]))
        return found


class _NgramTable:
    """The references' n-grams of one n with their weights."""

    def __init__(self, grams: _NgramCounts, images: np.ndarray, texts: int):
        """grams: of T reference texts; images (T,): the image of each text, ascending."""
        count = images[-1] + 1 if len(images) else 0
        self.keys, columns = np.unique(grams.keys, return_inverse=True)
        # An n-gram counts once for an image, even if several of its references have it.
        pairs = np.unique(images[grams.texts] * max(len(self.keys), 1) + columns)
        frequency = np.bincount(pairs % max(len(self.keys), 1), minlength=len(self.keys))
        self.max_idf = np.log(max(count, 1))
        self.idf = self.max_idf - np.log(np.maximum(frequency, 1))
        shape = (texts, len(self.keys))
        values = grams.counts * self.idf[columns]
        self.references = sparse.csr_array((values, (grams.texts, columns)), shape)
        self.norms = np.sqrt(np.bincount(grams.texts, values**2, texts))

    def similarity(
        self,
        grams: _NgramCounts,
        texts: int,
        pair_captions: np.ndarray,
        pair_references: np.ndarray,
    ) -> np.ndarray:
        """Clipped cosine of candidate owners[k] and reference chosen[k], for all k.

        N-grams that no reference has count in a candidate's length as the rarest.
        """
        columns = np.searchsorted(self.keys, grams.keys)
        known = columns < len(self.keys)
        known[known] = self.keys[columns[known]] == grams.keys[known]
        values = np.where(known, 0.0, self.max_idf) * grams.counts
        values[known] = grams.counts[known] * self.idf[columns[known]]
        norms = (
            np.sqrt(np.bincount(grams.texts, values**2, texts))[pair_captions]
            * self.norms[pair_references]
        )
        shape = (texts, len(self.keys))
        captions = sparse.csr_array((values[known], (grams.texts[known], columns[known])), shape)
        references = self.references[pair_references]
        common = captions[pair_captions].minimum(references).multiply(references).sum(axis=1)
        return np.divide(common, norms, out=np.zeros(len(pair_captions)), where=norms > 0)


def _count_ngrams(texts: np.ndarray, keys: np.ndarray) -> _NgramCounts:
    """Counts occurrences, a text and a key each, by text and key."""
    order = np.lexsort((keys, texts))
    texts, keys = texts[order], keys[order]
    new = np.ones(len(keys), bool)
    new[1:] = (keys[1:] != keys[:-1]) | (texts[1:] != texts[:-1])
    first = np.flatnonzero(new)
    counts = np.diff(np.append(first, len(keys))).astype(float)
    return _NgramCounts(texts[first], keys[first], counts)


def _lengths(texts: Sequence[Words]) -> np.ndarray:
    """The number of bigrams of each text, which is pycocoevalcap's measure of length."""
    return np.array([max(len(text) - 1, 0) for text in texts], float)
