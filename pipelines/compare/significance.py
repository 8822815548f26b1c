"""Is the winner better than the others by more than chance?

What each run answered is scored anew on the same resamples of examples and, where a configuration
has several, of seeds: so the interval has both what another test set and what another seed
would change (a two-level bootstrap; Davison & Hinkley 1997, sec. 3.8).
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from models.seeds import stream
from pipelines.compare.ranking import Board, Configuration
from pipelines.compare.run_records import Record
from pipelines.core.contracts import Split
from pipelines.core.errors import UserError
from pipelines.core.task import Task
from pipelines.evaluate.bootstrap import interval
from pipelines.runs.directory import Run

log = logging.getLogger(__name__)

RESAMPLES = 1000

MOST = 12
"""Configurations that are compared with the winner, the best first."""


SplitOf = Callable[[Run, str], tuple[Task, Split]]
"""A run's task, and a split of its data."""


@dataclass(frozen=True)
class Difference:
    """The winner's score minus another's. p is two-sided, with Holm's correction."""

    name: str
    value: float
    low: float
    high: float
    p: float

    @property
    def significant(self) -> bool:
        return self.p < 0.05


def differences(board: Board, split_of: SplitOf) -> tuple[list[Difference], str | None]:
    """By rank; and why there are none, or not all."""
    if len(board.scored) < 2:
        return [], "There is only one configuration."
    tested = [one for one in board.scored[1:] if _runs(board, one)]
    others = tested[:MOST]
    if not _runs(board, board.winner) or not others:
        return [], f"It could not be tested: too few were measured on {board.reported}."
    try:
        examples = _examples(_runs(board, board.winner)[0][0], board.reported)
        winner = _samples(board, board.winner, examples, split_of)
        found = [
            difference(other.name, *winner, *_samples(board, other, examples, split_of))
            for other in others
        ]
    except (UserError, OSError, KeyError, ValueError) as error:
        return [], f"It could not be tested: {' '.join(str(error).split())}."
    left_out = len(board.scored) - 1 - len(others)
    note = f"{left_out} that rank lower or have no such score are left out." if left_out else None
    return holm(found), note


def _runs(board: Board, configuration: Configuration) -> list[list[Record]]:
    """By seed, those that have the score on the split that it is shown for."""
    by_seed = [
        [record for record in runs if record.entry(board.reported, board.score)]
        for runs in configuration.by_seed
    ]
    return [runs for runs in by_seed if runs]


def difference(
    name: str, value: float, samples: np.ndarray, other: float, others: np.ndarray
) -> Difference:
    """Of two configurations: their mean scores, and (seeds, R) scores on the same R resamples."""
    random = np.random.default_rng(stream(0, "difference"))
    drawn = _of_drawn_seeds(samples, random) - _of_drawn_seeds(others, random)
    drawn = drawn[np.isfinite(drawn)]
    low, high = interval(drawn)
    side = min(int((drawn <= 0).sum()), int((drawn >= 0).sum()))
    p = min(1.0, 2 * (side + 1) / (len(drawn) + 1))
    return Difference(name, value - other, low, high, p)


def _of_drawn_seeds(samples: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """(R,) means over seeds that are drawn with replacement for each resample."""
    seeds, resamples = samples.shape
    drawn = random.integers(seeds, size=(seeds, resamples))
    return np.take_along_axis(samples, drawn, axis=0).mean(axis=0)


def holm(found: Sequence[Difference]) -> list[Difference]:
    """With p-values that keep the chance of any false finding among all below 5% (Holm 1979)."""
    order = sorted(range(len(found)), key=lambda index: found[index].p)
    corrected, largest = list(found), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(found) - rank) * found[index].p))
        one = found[index]
        corrected[index] = Difference(one.name, one.value, one.low, one.high, largest)
    return corrected


def _samples(
    board: Board, configuration: Configuration, examples: str, split_of: SplitOf
) -> tuple[float, np.ndarray]:
    """The mean score over the seeds, and of each its score on every resample (seeds, R)."""
    values, rows = [], []
    for runs in _runs(board, configuration):
        of_seed = []
        for record in runs:
            if _examples(record, board.reported) != examples:
                raise UserError(f"{record.run.directory} was measured on other examples")
            of_seed.append(_measured(record, board.reported, board.score, split_of))
        values.append(np.mean([value for value, _ in of_seed]))
        rows.append(np.mean([samples for _, samples in of_seed], axis=0))
    return float(np.mean(values)), np.stack(rows)


def _measured(record: Record, name: str, score: str, split_of: SplitOf) -> tuple[float, np.ndarray]:
    """The run's score, of the predictions that it kept, and on resamples that all runs share."""
    from pipelines.evaluate.bootstrap import measure_all
    from pipelines.evaluate.predictions import kept

    task, split = split_of(record.run, name)
    predictions = kept(record.run.kept_predictions, name)
    scores = task.score(predictions, split)
    if score not in scores:
        raise UserError(f"{record.run.directory} has no {score}")
    measured = measure_all(
        {score: scores[score]}, len(split), resamples=RESAMPLES, seed=stream(0, "bootstrap")
    )
    return measured[score].value, measured[score].samples


def _examples(record: Record, split: str) -> str:
    """A digest of the examples that the run was measured on, in their order."""
    digest = hashlib.sha256()
    path = record.run.predictions
    if not path.exists():
        raise UserError(f"{record.run.directory} holds no {path.name}: measure it by mode=evaluate")
    with path.open(encoding="utf-8") as file:
        for text in file:
            line = json.loads(text)
            if line.get("split") == split:
                parts = [line.get("given"), line.get("reference")]
                digest.update(json.dumps(parts, sort_keys=True).encode())
    return digest.hexdigest()
