"""Intervals and paired tests for any Score, by resampling examples.

The percentile bootstrap (Efron & Tibshirani 1993, ch. 13).
A resample of N examples with replacement is a vector of N counts; Score.of turns counts into a
score. Every score of a run sees the same resamples (same n, resamples and seed), so the difference
of two of them is a paired comparison.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from pipelines.core.scores import Metric, Score
from pipelines.runs.metrics import Comparison, Outcome, ScoreEntry

CHUNK = 8_000_000
"""Weights in memory: 32 MB of float32."""


class Resampling(NamedTuple):
    """The number of resamples, and their random numbers."""

    resamples: int
    seed: int


@dataclass(frozen=True)
class Measurement:
    """A score on all examples, and on each of the resamples (R,): NaN where it is undefined."""

    score: Score
    value: float
    samples: np.ndarray

    @property
    def metric(self) -> Metric:
        return self.score.metric

    def entry(self) -> ScoreEntry:
        """The form of metrics.json; low and high bound the central 95% of the resamples."""
        low, high = interval(self.samples)
        metric = self.metric
        return ScoreEntry(
            value=self.value,
            low=low,
            high=high,
            signature=self.score.signature,
            label=metric.label,
            scale=metric.scale,
            higher_is_better=metric.higher_is_better,
        )


def resample(n: int, *, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Multinomial counts (r, n) float32, each row summing to n, in chunks of bounded memory.

    The counts do not depend on the size of a chunk.
    """
    random = np.random.default_rng(seed)
    rows = max(1, CHUNK // n)
    for start in range(0, resamples, rows):
        weights = np.empty((min(rows, resamples - start), n), np.float32)
        for row in weights:
            # Drawing n rows and counting them is several times faster than Generator.multinomial.
            row[:] = np.bincount(random.integers(n, size=n), minlength=n)
        yield weights


def measure_all(
    scores: Mapping[str, Score],
    n: int,
    *,
    resamples: int,
    seed: int,
    keep: np.ndarray | None = None,
) -> dict[str, Measurement]:
    """All scores of one split of n examples. Scores that are undefined on it (NaN) are left out.

    keep (n,) 0/1 restricts them to a part of the split; resamples are still of the whole split.
    """
    mask = np.ones(n) if keep is None else np.asarray(keep, float)
    values = {name: float(score.of(mask[None])[0]) for name, score in scores.items()}
    defined = {name: score for name, score in scores.items() if np.isfinite(values[name])}
    chunks: dict[str, list[np.ndarray]] = {name: [] for name in defined}
    if defined:
        for weights in resample(n, resamples=resamples, seed=seed):
            if keep is not None:
                weights *= mask.astype(np.float32)
            for name, score in defined.items():
                chunks[name].append(np.asarray(score.of(weights), float))
    measured = {
        name: Measurement(score, values[name], np.concatenate(chunks[name]))
        for name, score in defined.items()
    }
    return {
        name: measurement
        for name, measurement in measured.items()
        if np.isfinite(measurement.samples).any()
    }


def compare_measurements(a: Measurement, b: Measurement) -> Comparison:
    """Paired bootstrap (Koehn 2004) of two scores with the same n, resamples and seed: a minus b.

    p is two-sided: twice the smaller share of resamples on either side of 0, counting the data
    itself as one of them, so never 0 (Davison & Hinkley 1997, eq. 4.11).
    """
    differences = a.samples - b.samples
    differences = differences[np.isfinite(differences)]
    low, high = interval(differences)
    side = min(int((differences <= 0).sum()), int((differences >= 0).sum()))
    difference, higher = a.value - b.value, a.metric.higher_is_better
    outcome: Outcome = "better" if (difference > 0) == higher else "worse"
    return Comparison(
        difference=difference,
        low=low,
        high=high,
        p=min(1.0, 2 * (side + 1) / (len(differences) + 1)),
        higher_is_better=higher,
        outcome="equal" if low <= 0 <= high else outcome,
    )


def interval(samples: np.ndarray) -> tuple[float, float]:
    """The 2.5% and 97.5% quantiles of the samples that are not NaN; NaN if all are."""
    finite = samples[np.isfinite(samples)]
    if not len(finite):
        return float("nan"), float("nan")
    low, high = np.quantile(finite, [0.025, 0.975])
    return float(low), float(high)
