"""Metrics, and scores: metrics as functions of how much each example counts."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipelines.core.types import JsonObject

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Metric:
    """A quantity that is measured, and how it is shown, sorted and optimized.

    name    its key in metrics.json and on the command line.
    label   its name in words; by default the name with spaces.
    scale   its largest possible value; None if it has no bound.
    costly  left out while training, unless training is judged by it.
    """

    name: str
    label: str = ""
    higher_is_better: bool = True
    scale: float | None = None
    costly: bool = False

    def __post_init__(self) -> None:
        if not self.label:
            object.__setattr__(self, "label", self.name.replace("_", " "))

    @property
    def sign(self) -> int:
        """1 or -1: a value times the sign is higher where it is better."""
        return 1 if self.higher_is_better else -1

    def better(self, a: float, b: float) -> bool:
        return self.sign * a > self.sign * b

    def best(self, values: Iterable[float]) -> float:
        return max(values, key=lambda value: self.sign * value)

    def facts(self) -> JsonObject:
        """The metric's facts that a file holds besides its value."""
        return {
            "label": self.label,
            "scale": self.scale,
            "higher_is_better": self.higher_is_better,
        }


@dataclass(frozen=True)
class Score:
    """A metric on the examples of one split, as a function of how often each example counts.

    of((R, N) float weights) -> (R,) float. Weights of 1 give the score itself; multinomial weights
    bootstrap it; 0/1 weights give it on a part (by length, by class). So intervals, paired tests
    and breakdowns are the same code for every metric of every task.

    signature says exactly what is computed ("f1 macro, classes absent from both count 0").
    """

    metric: Metric
    of: Callable[[np.ndarray], np.ndarray]
    signature: str


def by_name(scores: Iterable[Score]) -> dict[str, Score]:
    return {score.metric.name: score for score in scores}
