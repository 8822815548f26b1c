"""Training of a linear classifier of n-grams, in seconds.

The features are binary: which n-grams a text has. Each is scaled by its naive Bayes log-count ratio
between a class and all others, and a linear classifier learns from them (Wang & Manning 2012,
"NBSVM"). It is trained by stochastic gradient descent on the cross-entropy, and in each step half
of a text's n-grams are left out, which regularizes better than a penalty on the weights.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from scipy import sparse

BATCH, DROPOUT, RATE = 64, 0.5, 1.0
WARM_UP, FINAL_RATE = 0.05, 0.05
"""Share of the steps in which the rate rises to RATE, from where it falls to this share of it."""

TEXTS_SEEN, FEWEST_EPOCHS, MOST_EPOCHS = 50_000, 2, 16
"""Small training sets are gone through more often, until so many texts were seen."""


def log_count_ratios(train: sparse.csr_matrix, labels: np.ndarray, classes: int) -> np.ndarray:
    """(classes, features): log(p / |p|) - log(q / |q|), p and q the numbers of texts
    of a class and of all others that have an n-gram, plus 1.
    """
    counts = np.stack([np.asarray(train[labels == c].sum(0))[0] for c in range(classes)])
    others = counts.sum(0) - counts
    p, q = counts + 1.0, others + 1.0
    ratios = np.log(p / p.sum(1, keepdims=True)) - np.log(q / q.sum(1, keepdims=True))
    return ratios.astype(np.float32)


def epochs_for(texts: int) -> int:
    """How often so many training texts are gone through."""
    return int(np.clip(round(TEXTS_SEEN / max(texts, 1)), FEWEST_EPOCHS, MOST_EPOCHS))


def train_weights(
    train: sparse.csr_matrix,
    labels: np.ndarray,
    classes: int,
    *,
    weights: np.ndarray | None = None,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> np.ndarray:
    """Weights (K, features): of two classes K is 1, the logit of the second; else K is C.

    train     which text has which n-gram, (N, features) of ones and zeros.
    labels    (N,) int.
    weights   (N,) how much each text counts; None: all alike.
    progress  is called with the number of further texts; small sets are gone through several times.
    """
    from scipy import sparse

    ratios = log_count_ratios(train, labels, classes)[1 if classes == 2 else 0 :]
    learnt = np.zeros_like(ratios)
    count = train.shape[0]
    epochs = epochs_for(count)
    starts = range(0, count, BATCH)
    random = np.random.default_rng(seed)
    targets = np.eye(classes, dtype=np.float32)[labels]
    importance = np.ones(count, np.float32) if weights is None else weights.astype(np.float32)
    for epoch in range(epochs):
        # Batches of similar length, as the recurrent network has them, would make it worse.
        order = random.permutation(count)
        for step, start in enumerate(starts):
            rows = order[start : start + BATCH]
            batch = train[rows]
            columns, owners = batch.indices, np.repeat(np.arange(len(rows)), np.diff(batch.indptr))
            keep = (random.random(len(columns)) >= DROPOUT).astype(np.float32) / (1 - DROPOUT)
            values = keep * ratios[:, columns]
            logits = [
                sparse.csr_matrix((value, columns, batch.indptr), batch.shape) @ weight
                for value, weight in zip(values, learnt, strict=True)
            ]
            slopes = to_probabilities(np.stack(logits, 1)) - targets[rows]
            slopes *= importance[rows, None]
            done = (epoch * len(starts) + step) / (epochs * len(starts))
            rate = RATE * _schedule(done) / importance[rows].sum()
            for weight, value, slope in zip(learnt, values, slopes.T[-len(learnt) :], strict=True):
                np.subtract.at(weight, columns, rate * value * slope[owners])
            if progress is not None:
                progress(len(rows))
    return ratios * learnt


def _schedule(done: float) -> float:
    """The rate's share of its peak: rises over WARM_UP, then falls along a cosine."""
    if done < WARM_UP:
        return done / WARM_UP
    cosine = (1 + np.cos(np.pi * (done - WARM_UP) / (1 - WARM_UP))) / 2
    return FINAL_RATE + (1 - FINAL_RATE) * float(cosine)


def to_probabilities(totals: np.ndarray) -> np.ndarray:
    """(N, C) of logits (N, C), or of the second class's (N, 1) relative to the first's."""
    logits = np.pad(totals, [(0, 0), (1, 0)]) if totals.shape[1] == 1 else totals
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def classify(
    train: sparse.csr_matrix, labels: np.ndarray, test: sparse.csr_matrix, classes: int
) -> np.ndarray:
    """Probabilities (N, C) of the rows of `test`; 0 for classes that training lacks."""
    known, places = np.unique(labels, return_inverse=True)
    answers = np.zeros((test.shape[0], classes))
    answers[:, known] = to_probabilities(test @ train_weights(train, places, len(known)).T)
    return answers
