"""The objectives of a sweep, and their values in a run's directory."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipelines.core.errors import UserError, suggest
from pipelines.core.scores import Metric
from pipelines.core.task import Task
from pipelines.runs.directory import Run
from pipelines.runs.metrics import RunMetrics, numbers

COSTS = {
    "milliseconds": ("latency", "milliseconds"),
    "parameters": ("parameters", "total"),
    "seconds": ("seconds", "train"),
    "memory": ("memory", "peak_resident_mb"),
}
"""Path in metrics.json by name. Milliseconds: latency of one prediction without batching."""


@dataclass(frozen=True)
class Objective:
    """A metric to maximise or minimise. path: where metrics.json has it."""

    name: str
    path: tuple[str, ...]
    metric: Metric

    @property
    def maximize(self) -> bool:
        return self.metric.higher_is_better

    def read_metrics(self, metrics: RunMetrics) -> float | None:
        """The value in metrics.json; None if it wasn't measured."""
        value = dict(numbers(metrics)).get(".".join(self.path))
        return value if value is not None and math.isfinite(value) else None

    def read_history_row(self, row: Mapping[str, object]) -> float | None:
        """The value in a row of history.jsonl; None if training doesn't evaluate it."""
        value = row.get(".".join(self.path))
        return float(value) if isinstance(value, int | float) else None


def cost_objective(name: str) -> Objective:
    """The objective of one of COSTS, of which less is better."""
    return Objective(name, COSTS[name], Metric(name, higher_is_better=False))


def resolve_objectives(names: Sequence[str], task: Task, monitor: str | None) -> list[Objective]:
    """The objectives by name; "quality" is the score that training keeps its best weights by.

    Raises UserError for an unknown or repeated name, and for scores of the test split.
    """
    metrics = {metric.name: metric for metric in task.metrics}
    quality = monitor or task.metrics[0].name
    choices = ["quality", *COSTS, *(f"validation.{score}" for score in metrics)]
    objectives = []
    for name in names:
        if name in COSTS:
            objectives.append(cost_objective(name))
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
        path = ("validation", score)
        objectives.append(Objective(f"validation.{score}", path, metrics[score]))
    if len({objective.name for objective in objectives}) < len(objectives):
        raise UserError(f"sweep.objectives: {', '.join(names)}: each only once")
    return objectives


def read_values(run: Run, objectives: Sequence[Objective]) -> list[float] | None:
    """The objectives' values; None if the run isn't finished.

    Raises UserError, which names the objective, if one wasn't measured.
    """
    metrics = run.load_metrics()
    if "report" not in metrics.seconds:
        return None
    values = []
    for objective in objectives:
        value = objective.read_metrics(metrics)
        if value is None:
            # evaluate.splits may leave out validation, but training has evaluated it.
            rows = [objective.read_history_row(row) for row in run.read_history()]
            known = [row for row in rows if row is not None]
            if not known:
                there = ", ".join(f"validation.{name}" for name in metrics.validation)
                raise UserError(
                    f"{objective.name} was not measured; there are {there or 'no scores'}: name "
                    "one in sweep.objectives"
                )
            value = objective.metric.best(known)
        values.append(value)
    return values
