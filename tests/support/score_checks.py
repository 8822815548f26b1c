"""A check of a task's scores that the task's own tests call with predictions of theirs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from tiny_task import configure

LIKELIHOODS = {
    "log_likelihood": np.array([-2.0, -1.0]),
    "tokens": np.array([4, 2]),
    "tokens_right": np.array([3, 2]),
}
"""Of two written texts, which baselines lack."""


class ColumnSplit:
    """A split of these columns, as scoring reads it."""

    def __init__(self, **columns: Any):
        self.columns = columns

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def column(self, name: str) -> np.ndarray:
        return np.asarray(self.columns[name])

    def raw(self, name: str) -> Iterator[list[str]]:
        yield self.columns[name]

    def lengths(self) -> np.ndarray:
        return self.column("lengths")[:, None]


class RowSplit(ColumnSplit):
    """A split of encoded columns that are in memory."""

    def gather(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        return {name: values[rows] for name, values in self.columns.items()}


def check_scores(name: str, predictions: Mapping[str, np.ndarray], split: ColumnSplit) -> None:
    """Scores are the metrics that the task declares, in their order and within their scale.

    predictions  on which all of the task's scores are defined.
    """
    task = configure(f"task={name}").task
    scores = task.score(predictions, split)
    assert tuple(score.metric for score in scores.values()) == task.metrics
    assert list(scores) == [metric.name for metric in task.metrics]
    for score in scores.values():
        (value,) = score.of(np.ones((1, len(split))))
        assert 0 <= value <= (score.metric.scale or np.inf), score.metric
        assert score.signature
    known = {key: value for key, value in predictions.items() if key not in LIKELIHOODS}
    found = [score.metric for score in task.score(known, split).values()]
    assert found == [metric for metric in task.metrics if metric in found]
    assert found[0] == task.metrics[0]
