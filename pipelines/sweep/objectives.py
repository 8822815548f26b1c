"""What a sweep tries to make large or small, read from a run's directory."""

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
"""By name, where metrics.json has it. Milliseconds are of one prediction, one at a time."""


@dataclass(frozen=True)
class Objective:
    """A number of a run. `path` says where metrics.json has it."""

    name: str
    path: tuple[str, ...]
    maximize: bool

    def of(self, metrics: Mapping[str, Any]) -> float | None:
        """None where it wasn't measured."""
        value: Any = metrics
        for part in self.path:
            value = value.get(part) if isinstance(value, Mapping) else None
        if isinstance(value, Mapping):
            value = value.get("value")
        return float(value) if isinstance(value, int | float) and math.isfinite(value) else None

    def evaluated(self, row: Mapping[str, Any]) -> float | None:
        """Of a line of history.jsonl; None where it isn't among what training evaluates."""
        value = row.get(".".join(self.path))
        return float(value) if isinstance(value, int | float) else None

    def better(self, a: float, b: float) -> bool:
        return a > b if self.maximize else a < b


def objectives_of(names: Sequence[str], task: Task, monitor: str | None) -> list[Objective]:
    """UserError for a name that is none. "quality" is what training keeps its best weights by."""
    quality = monitor or task.scores[0]
    choices = ["quality", *COSTS, *(f"validation.{score}" for score in task.scores)]
    found = []
    for name in names:
        if name in COSTS:
            found.append(Objective(name, COSTS[name], False))
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
        found.append(Objective(f"validation.{score}", ("validation", score), maximize))
    if len({objective.name for objective in found}) < len(found):
        raise UserError(f"sweep.objectives: {', '.join(names)}: each only once")
    return found


def values_of(run: Run, objectives: Sequence[Objective]) -> list[float] | None:
    """None if the run isn't finished. UserError, naming the objective, if one wasn't measured."""
    metrics = run.read_metrics()
    if "report" not in metrics.get("seconds", {}):
        return None
    values = []
    for objective in objectives:
        value = objective.of(metrics)
        if value is None:
            # The splits that are measured at the end may lack validation; training evaluates it.
            rows = [objective.evaluated(row) for row in run.read_history()]
            known = [row for row in rows if row is not None]
            if not known:
                raise UserError(f"{objective.name} was not measured")
            value = max(known) if objective.maximize else min(known)
        values.append(value)
    return values
