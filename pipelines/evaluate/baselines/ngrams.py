"""N-grams of 1 to 3 tokens as features: with models/ngram_training.py the strongest classifier of
texts that trains in seconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from scipy import sparse

ORDER = 3
MIN_TEXTS = 2
"""Fewest training texts with an n-gram that is a feature."""

MAX_WEIGHTS = 8_000_000
"""Most weights (n-grams by classes): of many classes the most frequent n-grams only."""

FACTORS = np.array([0x2545F4914F6CDD1D, 0x1B03738712FAD5C9, 0x0E995CE2AB9A1FB5], np.int64)
"""Odd numbers; an n-gram's key is the sum of its tokens times these, modulo 2^64."""


class NgramFeatures:
    """The n-grams of training texts, and matrices of which text has which.

    Texts are token numbers laid end to end, (N,) int64 from 1, or 0 for tokens that no training
    text has, and the number of the text that each belongs to, (N,) int, in rising order.
    """

    def __init__(self, tokens: np.ndarray, texts: np.ndarray, count: int, classes: int):
        """count: of the training texts."""
        keys, owners = _ngrams(tokens, texts)
        self.keys, ids = np.unique(keys, return_inverse=True)
        pairs = _unique(owners * len(self.keys) + ids)
        owners, ids = np.divmod(pairs, max(len(self.keys), 1))
        frequency = np.bincount(ids, minlength=len(self.keys))
        kept = np.flatnonzero(frequency >= min(MIN_TEXTS, count))
        order = np.argsort(-frequency[kept], kind="stable")
        kept = np.sort(kept[order[: MAX_WEIGHTS // classes]])
        column = np.full(len(self.keys), -1)
        column[kept] = np.arange(len(kept))
        self.keys = self.keys[kept]
        known = column[ids] >= 0
        self.train = self._matrix(owners[known], column[ids[known]], count)

    def matrix(self, tokens: np.ndarray, texts: np.ndarray, count: int) -> sparse.csr_matrix:
        """(count, features) of ones and zeros, for further texts."""
        keys, owners = _ngrams(tokens, texts)
        place = np.minimum(np.searchsorted(self.keys, keys), max(len(self.keys) - 1, 0))
        known = self.keys[place] == keys if len(self.keys) else np.zeros(len(keys), bool)
        pairs = _unique(owners[known] * len(self.keys) + place[known])
        return self._matrix(*np.divmod(pairs, max(len(self.keys), 1)), count)

    def _matrix(self, owners: np.ndarray, columns: np.ndarray, count: int) -> sparse.csr_matrix:
        from scipy import sparse

        starts = np.searchsorted(owners, np.arange(count + 1))
        ones = np.ones(len(columns), np.float32)
        return sparse.csr_matrix((ones, columns, starts), shape=(count, len(self.keys)))


def _unique(values: np.ndarray) -> np.ndarray:
    """Sorted, each once. np.unique hashes, which takes ten times as long for such numbers."""
    values = np.sort(values)
    return values[np.concatenate([np.ones(min(len(values), 1), bool), values[1:] != values[:-1]])]


def _ngrams(tokens: np.ndarray, texts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Keys of all n-grams of known tokens, and the text of each."""
    keys, owners = [], []
    for size in range(1, ORDER + 1):
        stop = len(tokens) - size + 1
        if stop <= 0:
            break
        parts = [tokens[place : place + stop] for place in range(size)]
        whole = texts[:stop] == texts[size - 1 :]
        for part in parts:
            whole &= part > 0
        key = np.full(stop, size, np.int64)
        for part, factor in zip(parts, FACTORS, strict=False):
            key += part * factor
        keys.append(key[whole])
        owners.append(texts[:stop][whole])
    return np.concatenate([*keys, np.zeros(0, np.int64)]), np.concatenate([*owners, texts[:0]])
