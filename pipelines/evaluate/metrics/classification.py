"""Scores of a classifier's probabilities.

Probabilities (N, C), rows summing to 1; labels (N,) int in [0, C). Weights (R, N) as in Score.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from pipelines.core.scores import Metric, Score, by_name

BINS = 15
"""Bins of confidence for calibration, as in Guo et al. 2017."""

MIN_PROBABILITY = 1e-7
"""Logarithms take probabilities of at least this, so that one mistake costs at most 16 nats."""

MAX_CLASSES_FOR_AUC = 20
"""With more classes there is no ROC AUC: each class takes a pass over all resamples."""


ACCURACY = Metric("accuracy", scale=1)
F1 = Metric("f1", "macro F1", scale=1)
LOSS = Metric("loss", higher_is_better=False)
ROC_AUC = Metric("roc_auc", "ROC AUC", scale=1)
ECE = Metric("ece", "calibration error", higher_is_better=False, scale=1)
BRIER = Metric("brier", "Brier score", higher_is_better=False, scale=2)
CLASSIFICATION = (ACCURACY, F1, LOSS, ROC_AUC, ECE, BRIER)
"""The most important first."""


def classification_scores(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, Score]:
    """Scores by name, in the order of CLASSIFICATION."""
    probabilities, labels = np.asarray(probabilities, float), np.asarray(labels, int)
    rows, classes = np.arange(len(labels)), probabilities.shape[1]
    predicted = probabilities.argmax(1)
    correct = (predicted == labels).astype(float)
    surprise = -np.log(np.clip(probabilities[rows, labels], MIN_PROBABILITY, 1.0))
    squared = (probabilities**2).sum(1) - 2 * probabilities[rows, labels] + 1
    scores = [
        Score(
            ACCURACY, _mean_score(correct), "share of examples whose most probable class is right"
        ),
        Score(
            F1,
            _macro_f1(predicted, labels, classes),
            "macro F1; classes absent from both labels and predictions are left out",
        ),
        Score(
            LOSS,
            _mean_score(surprise),
            f"mean negative log-likelihood in nats, probabilities at least {MIN_PROBABILITY:g}",
        ),
        _auc_score(probabilities, labels),
        Score(
            ECE,
            _calibration_error(probabilities.max(1), correct),
            f"expected calibration error of the most probable class, {BINS} bins of equal width",
        ),
        Score(
            BRIER,
            _mean_score(squared),
            "squared error summed over classes (Brier 1950), 0 to 2",
        ),
    ]
    return by_name(score for score in scores if score is not None)


def confusion(predicted: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """Counts (C, C) int: rows are true classes, columns are predicted ones."""
    pairs = np.asarray(labels, int) * classes + np.asarray(predicted, int)
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


class Reliability(NamedTuple):
    """For each bin of confidence with examples: their mean confidence, accuracy and number."""

    confidence: np.ndarray
    accuracy: np.ndarray
    size: np.ndarray


def reliability(probabilities: np.ndarray, labels: np.ndarray, bins: int = BINS) -> Reliability:
    """How often the most probable class is right, by its probability."""
    top = probabilities.max(1)
    correct = probabilities.argmax(1) == labels
    groups = _bins(top, bins)
    count = np.bincount(groups, minlength=bins)
    used = count > 0
    sums = [np.bincount(groups, values, minlength=bins)[used] for values in (top, correct)]
    return Reliability(sums[0] / count[used], sums[1] / count[used], count[used])


def _mean_score(values: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    def of(weights: np.ndarray) -> np.ndarray:
        return _divide(weights @ values.astype(weights.dtype), weights.sum(1))

    return of


def _macro_f1(
    predicted: np.ndarray, labels: np.ndarray, classes: int
) -> Callable[[np.ndarray], np.ndarray]:
    """The mean over classes of 2 TP / (predicted + true), without classes where that is 0 / 0."""
    hit = predicted == labels
    true_positives = _group_sums(
        labels[hit], classes, rows=np.flatnonzero(hit), columns=len(labels)
    )
    occurrences = _group_sums(
        np.concatenate([labels, predicted]),
        classes,
        rows=np.tile(np.arange(len(labels)), 2),
        columns=len(labels),
    )

    def of(weights: np.ndarray) -> np.ndarray:
        total = occurrences(weights)
        f1 = _divide(2 * true_positives(weights), total)
        return _divide(np.nansum(f1, axis=1), (total > 0).sum(1))

    return of


def _calibration_error(
    confidence: np.ndarray, correct: np.ndarray
) -> Callable[[np.ndarray], np.ndarray]:
    """Guo et al. 2017, eq. 3.

    A bin's |accuracy - confidence| times its number of examples is |sum of (correct - confidence)|.
    """
    gaps = _group_sums(_bins(confidence, BINS), BINS, values=correct - confidence)

    def of(weights: np.ndarray) -> np.ndarray:
        return _divide(np.abs(gaps(weights)).sum(1), weights.sum(1))

    return of


def _auc_score(probabilities: np.ndarray, labels: np.ndarray) -> Score | None:
    classes = probabilities.shape[1]
    if not 2 <= classes <= MAX_CLASSES_FOR_AUC:
        return None
    if classes == 2:
        curve = _auc_function(probabilities[:, 1], labels == 1)
        return Score(ROC_AUC, curve, "area under the ROC curve of class 1; ties count half")
    curves = [_auc_function(probabilities[:, c], labels == c) for c in range(classes)]

    def of(weights: np.ndarray) -> np.ndarray:
        areas = np.stack([curve(weights) for curve in curves])
        defined = np.isfinite(areas)
        return _divide(np.where(defined, areas, 0).sum(0), defined.sum(0))

    return Score(
        ROC_AUC,
        of,
        "area under the ROC curve of each class against the rest, mean over classes that occur; "
        "ties count half",
    )


def _auc_function(scores: np.ndarray, positive: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """The probability that a positive example has a higher score than a negative one.

    This is the statistic of Mann & Whitney; ties count half. The scores are sorted once, so that a
    resample takes a cumulative sum over the negatives and a dot product.
    """
    negatives = np.flatnonzero(~positive)
    negatives = negatives[np.argsort(scores[negatives], kind="stable")]
    positives = np.flatnonzero(positive)
    below = np.searchsorted(scores[negatives], scores[positives], side="left")
    up_to = np.searchsorted(scores[negatives], scores[positives], side="right")
    tied = bool((below != up_to).any())

    def of(weights: np.ndarray) -> np.ndarray:
        gained, lost = weights[:, positives], weights[:, negatives]
        cumulative = np.zeros((len(weights), len(negatives) + 1), weights.dtype)
        np.cumsum(lost, axis=1, out=cumulative[:, 1:])
        outscored = cumulative[:, below]
        if tied:
            outscored = (outscored + cumulative[:, up_to]) / 2
        area = np.einsum("rp,rp->r", gained, outscored, dtype=float)
        return _divide(area, gained.sum(1, dtype=float) * lost.sum(1, dtype=float))

    return of


def _bins(confidence: np.ndarray, bins: int) -> np.ndarray:
    """The bin (N,) of each confidence: bin m of 0 to M - 1 holds (m / M, (m + 1) / M]."""
    return np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)


def _group_sums(
    groups: np.ndarray,
    size: int,
    *,
    values: np.ndarray | None = None,
    rows: np.ndarray | None = None,
    columns: int | None = None,
) -> Callable[[np.ndarray], np.ndarray]:
    """A function from weights (R, N) to weighted sums by group (R, size).

    Entry j adds values[j] times the weight of example rows[j] to group groups[j]. The product is
    sparse, because dense one-hot rows of many classes would not fit into memory.
    """
    from scipy import sparse

    values = np.ones(len(groups)) if values is None else values
    rows = np.arange(len(groups)) if rows is None else rows
    matrix = sparse.csr_matrix((values, (groups, rows)), shape=(size, columns or len(groups)))

    def of(weights: np.ndarray) -> np.ndarray:
        return (matrix.astype(weights.dtype) @ weights.T).T

    return of


def _divide(numerators: np.ndarray, denominators: np.ndarray) -> np.ndarray:
    """The quotient; NaN where the denominator isn't positive."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(denominators > 0, numerators / denominators, np.nan)
