"""Tests whether the winner is better than the others by more than chance.

The predictions of all runs are scored on the same resamples of examples and, where a configuration
has several seeds, of seeds. So an interval covers both what another test set and what another seed
would change (a two-level bootstrap; Davison & Hinkley 1997, sec. 3.8).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from models.seeds import stream
from pipelines.compare.ranking import Configuration, Ranking
from pipelines.compare.run_records import Record
from pipelines.core.contracts import Split
from pipelines.core.errors import UserError
from pipelines.core.saved_files import read_json_lines, reading
from pipelines.core.task import Task
from pipelines.evaluate.bootstrap import interval
from pipelines.runs.directory import Run

log = logging.getLogger(__name__)

RESAMPLES = 1000

MAX_TESTED = 12
"""Configurations that are compared with the winner, the best first."""

SplitLoader = Callable[[Run, str], tuple[Task, Split]]
"""Loads a run's task, and a split of its data by name."""


@dataclass(frozen=True)
class Difference:
    """The winner's score minus another's, with a 95% interval and a two-sided p-value."""

    name: str
    value: float
    low: float
    high: float
    p: float

    @property
    def significant(self) -> bool:
        return self.p < 0.05


def compute_differences(
    ranking: Ranking, load_split: SplitLoader
) -> tuple[list[Difference], str | None]:
    """The winner's differences from the others, by rank, with p-values corrected for their number.

    Also why there are none, or not all.
    """
    if len(ranking.scored) < 2:
        return [], "There is only one configuration."
    with_scores = [
        configuration
        for configuration in ranking.scored[1:]
        if _scored_runs(ranking, configuration)
    ]
    others = with_scores[:MAX_TESTED]
    if not _scored_runs(ranking, ranking.winner) or not others:
        return [], f"It could not be tested: too few were measured on {ranking.reported}."
    try:
        examples = _digest_examples(_scored_runs(ranking, ranking.winner)[0][0], ranking.reported)
        winner = _resample(ranking, ranking.winner, examples, load_split)
        differences = [
            compute_difference(other.name, winner, _resample(ranking, other, examples, load_split))
            for other in others
        ]
    except (UserError, OSError, KeyError, ValueError) as error:
        return [], f"It could not be tested: {' '.join(str(error).split())}."
    left_out = len(ranking.scored) - 1 - len(others)
    note = f"{left_out} that rank lower or have no such score are left out." if left_out else None
    return correct_by_holm(differences), note


def _scored_runs(ranking: Ranking, configuration: Configuration) -> list[list[Record]]:
    """The configuration's runs that have the score on the reported split, grouped by seed."""
    by_seed = [
        [record for record in runs if record.entry(ranking.reported, ranking.score)]
        for runs in configuration.by_seed
    ]
    return [runs for runs in by_seed if runs]


@dataclass(frozen=True)
class Resampled:
    """A configuration's mean score, and its scores (seeds, R) on R resamples of the examples."""

    mean: float
    samples: np.ndarray


def compute_difference(name: str, winner: Resampled, other: Resampled) -> Difference:
    """The difference from another configuration, on the same resamples of examples.

    The seeds of both are resampled independently. p counts the resamples on the wrong side of 0,
    plus one, so that it is never 0.
    """
    random = np.random.default_rng(stream(0, "difference"))
    samples = _resample_seeds(winner.samples, random) - _resample_seeds(other.samples, random)
    samples = samples[np.isfinite(samples)]
    low, high = interval(samples)
    tail = min(int((samples <= 0).sum()), int((samples >= 0).sum()))
    p = min(1.0, 2 * (tail + 1) / (len(samples) + 1))
    return Difference(name, winner.mean - other.mean, low, high, p)


def _resample_seeds(samples: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """(R,) means over seeds, which are drawn with replacement for each resample."""
    seeds, resamples = samples.shape
    indices = random.integers(seeds, size=(seeds, resamples))
    return np.take_along_axis(samples, indices, axis=0).mean(axis=0)


def correct_by_holm(differences: Sequence[Difference]) -> list[Difference]:
    """The differences with p-values that bound the chance of any false finding (Holm 1979)."""
    order = sorted(range(len(differences)), key=lambda index: differences[index].p)
    corrected, largest = list(differences), 0.0
    for rank, index in enumerate(order):
        p = min(1.0, (len(differences) - rank) * differences[index].p)
        largest = max(largest, p)  # a corrected p-value is never below that of a smaller one
        corrected[index] = dataclasses.replace(differences[index], p=largest)
    return corrected


def _resample(
    ranking: Ranking, configuration: Configuration, examples: str, load_split: SplitLoader
) -> Resampled:
    """Scores the configuration's runs on the resamples. examples: the digest they must have."""
    values, rows = [], []
    for runs in _scored_runs(ranking, configuration):
        scores = []
        for record in runs:
            if _digest_examples(record, ranking.reported) != examples:
                raise UserError(f"{record.run.directory} was measured on other examples")
            scores.append(_score(record, ranking.reported, ranking.score, load_split))
        values.append(np.mean([value for value, _ in scores]))
        rows.append(np.mean([samples for _, samples in scores], axis=0))
    return Resampled(float(np.mean(values)), np.stack(rows))


def _score(
    record: Record, name: str, score: str, load_split: SplitLoader
) -> tuple[float, np.ndarray]:
    """The score of a run's stored predictions, and on the resamples that all runs share."""
    from pipelines.evaluate.bootstrap import measure_all
    from pipelines.evaluate.predictions import load_predictions

    task, split = load_split(record.run, name)
    predictions = load_predictions(record.run.prediction_arrays, name)
    with reading(record.run.prediction_arrays, "measure that run again"):
        scores = task.score(predictions, split)
        if score not in scores:
            raise UserError(f"{record.run.directory} has no {score}")
        measured = measure_all(
            {score: scores[score]}, len(split), resamples=RESAMPLES, seed=stream(0, "bootstrap")
        )
    return measured[score].value, measured[score].samples


def _digest_examples(record: Record, split: str) -> str:
    """A digest of the examples that the run was evaluated on, in their order."""
    digest = hashlib.sha256()
    path = record.run.predictions
    if not path.exists():
        raise UserError(f"{record.run.directory} holds no {path.name}: measure it by mode=evaluate")
    for line in read_json_lines(path, "measure that run again"):
        if line.get("split") == split:
            parts = [line.get("given"), line.get("reference")]
            digest.update(json.dumps(parts, sort_keys=True).encode())
    return digest.hexdigest()
