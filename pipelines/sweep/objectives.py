"""The objectives of a sweep, and their values in a run's directory."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipelines.core.errors import UserError, suggest
from pipelines.core.task import Task
from pipelines.runs.directory import Run

LOWER_IS_BETTER = ("loss", "ece", "brier", "perplexity", "ter")
"""Scores that are errors."""

COSTS = {
    "milliseconds": ("latency", "milliseconds"),
    "parameters": ("parameters", "total"),
    "seconds": ("seconds", "train"),
    "memory": ("memory", "peak_resident_mb"),
}
"""Path in metrics.json by name. Milliseconds: latency of one prediction without batching."""


@dataclass(frozen=True)
class Objective:
    """A number to maximise or minimise. path: where metrics.json has it."""

    name: str
    path: tuple[str, ...]
    maximize: bool

    def read_metrics(self, metrics: Mapping[str, Any]) -> float | None:
        """The value in metrics.json; None if it wasn't measured."""
        value: object = metrics
        for part in self.path:
            value = value.get(part) if isinstance(value, Mapping) else None
        if isinstance(value, Mapping):
            value = value.get("value")
        return float(value) if isinstance(value, int | float) and math.isfinite(value) else None

    def read_history_row(self, row: Mapping[str, Any]) -> float | None:
        """The value in a row of history.jsonl; None if training doesn't evaluate it."""
        value = row.get(".".join(self.path))
        return float(value) if isinstance(value, int | float) else None


def resolve_objectives(names: Sequence[str], task: Task, monitor: str | None) -> list[Objective]:
    """The objectives by name; "quality" is the score that training keeps its best weights by.

    Raises UserError for an unknown or repeated name, and for scores of the test split.
    """
    quality = monitor or task.scores[0]
    choices = ["quality", *COSTS, *(f"validation.{score}" for score in task.scores)]
    objectives = []
    for name in names:
        if name in COSTS:
            objectives.append(Objective(name, COSTS[name], False))
            continue
        if name.startswith("test."):
            raise UserError(
                f"sweep.objectives: {name}: a search that looks at the test split makes its scores "
                "meaningless: use validation"
            )
        if name not in choices:
            raise UserError(
                f"sweep.objectives: {name}: no such objective; {suggest(name, choices)}"
            )
        score = quality if name == "quality" else name.removeprefix("validation.")
        maximize = score not in LOWER_IS_BETTER
        objectives.append(Objective(f"validation.{score}", ("validation", score), maximize))
    if len({objective.name for objective in objectives}) < len(objectives):
        raise UserError(f"sweep.objectives: {', '.join(names)}: each only once")
    return objectives


def read_values(run: Run, objectives: Sequence[Objective]) -> list[float] | None:
    """The objectives' values; None if the run isn't finished.

    Raises UserError, which names the objective, if one wasn't measured.
    """
    metrics = run.read_metrics()
    if "report" not in metrics.get("seconds", {}):
        return None
    values = []
    for objective in objectives:
        value = objective.read_metrics(metrics)
        if value is None:
            # evaluate.splits may leave out validation, but training has evaluated it.
            rows = [objective.read_history_row(row) for row in run.read_history()]
            known = [row for row in rows if row is not None]
            if not known:
                raise UserError(f"{objective.name} was not measured")
            value = max(known) if objective.maximize else min(known)
        values.append(value)
    return values
