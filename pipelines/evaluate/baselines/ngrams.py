"""N-grams scaled by naive Bayes: the strongest classifier of texts that trains in seconds.

The features are binary: which n-grams of 1 to 3 tokens a text has. Each is scaled by its log-count
ratio between a class and all others, and a linear classifier learns from them (Wang & Manning 2012,
"NBSVM"). It is trained by stochastic gradient descent on the cross-entropy, and in each step half
of a text's n-grams are left out, which regularizes better than a penalty on the weights.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from scipy import sparse

ORDER = 3
MIN_TEXTS = 2
"""Fewest training texts with an n-gram that is a feature."""

BATCH, DROPOUT, RATE = 64, 0.5, 1.0
WARM_UP, FINAL_RATE = 0.05, 0.05
"""Share of the steps in which the rate rises to RATE, from where it falls to this share of it."""

TEXTS_SEEN, FEWEST_EPOCHS, MOST_EPOCHS = 50_000, 2, 16
"""Small training sets are gone through more often, until so many texts were seen."""

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


def log_count_ratios(train: sparse.csr_matrix, labels: np.ndarray, classes: int) -> np.ndarray:
    """(classes, features): log(p / |p|) - log(q / |q|), p and q as in NgramLogits.set_ratios."""
    counts = np.stack([np.asarray(train[labels == c].sum(0))[0] for c in range(classes)])
    others = counts.sum(0) - counts
    p, q = counts + 1.0, others + 1.0
    ratios = np.log(p / p.sum(1, keepdims=True)) - np.log(q / q.sum(1, keepdims=True))
    return ratios.astype(np.float32)


def train_weights(
    train: sparse.csr_matrix, labels: np.ndarray, classes: int, *, seed: int = 0
) -> np.ndarray:
    """Weights (K, features): of two classes K is 1, the logit of the second; else K is C."""
    from scipy import sparse

    ratios = log_count_ratios(train, labels, classes)[1 if classes == 2 else 0 :]
    weights = np.zeros_like(ratios)
    count = train.shape[0]
    epochs = int(np.clip(round(TEXTS_SEEN / max(count, 1)), FEWEST_EPOCHS, MOST_EPOCHS))
    starts = [*range(0, count, BATCH)]
    random = np.random.default_rng(seed)
    targets = np.eye(classes, dtype=np.float32)[labels]
    for epoch in range(epochs):
        order = random.permutation(count)
        for step, start in enumerate(starts):
            rows = order[start : start + BATCH]
            batch = train[rows]
            columns, owners = batch.indices, np.repeat(np.arange(len(rows)), np.diff(batch.indptr))
            keep = (random.random(len(columns)) >= DROPOUT).astype(np.float32) / (1 - DROPOUT)
            values = keep * ratios[:, columns]
            totals = [
                sparse.csr_matrix((one, columns, batch.indptr), batch.shape) @ weight
                for one, weight in zip(values, weights, strict=True)
            ]
            slopes = _probabilities(np.stack(totals, 1)) - targets[rows]
            done = (epoch * len(starts) + step) / (epochs * len(starts))
            rate = RATE * _schedule(done) / len(rows)
            for weight, one, slope in zip(weights, values, slopes.T[-len(weights) :], strict=True):
                np.subtract.at(weight, columns, rate * one * slope[owners])
    return ratios * weights


def _schedule(done: float) -> float:
    """The rate's share of its peak: rises over WARM_UP, then falls along a cosine."""
    if done < WARM_UP:
        return done / WARM_UP
    cosine = (1 + np.cos(np.pi * (done - WARM_UP) / (1 - WARM_UP))) / 2
    return FINAL_RATE + (1 - FINAL_RATE) * float(cosine)


def _probabilities(totals: np.ndarray) -> np.ndarray:
    """(N, C) of logits (N, C), or of the second class's (N, 1) relative to the first's."""
    logits = np.pad(totals, [(0, 0), (1, 0)]) if totals.shape[1] == 1 else totals
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def classify(
    train: sparse.csr_matrix, labels: np.ndarray, test: sparse.csr_matrix, classes: int
) -> np.ndarray:
    """Probabilities (N, C) of the rows of `test`."""
    return _probabilities(test @ train_weights(train, labels, classes).T)
