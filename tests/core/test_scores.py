"""What tasks declare of their metrics is what their scores carry, and says all that is shown."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hydra import compose, initialize_config_dir

from pipelines.config.restore import to_plain_values
from pipelines.config.schema import parse
from pipelines.core.paths import ROOT
from pipelines.core.scores import Metric, Score, by_name
from pipelines.core.task import Task

TASKS = sorted(path.stem for path in (ROOT / "conf" / "task").glob("*.yaml"))


def task_named(name: str) -> Task:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return parse(to_plain_values(compose("config", [f"task={name}"]))).task


class Split:
    """A split of so many examples, as scoring asks for it."""

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


LIKELY = {
    "log_likelihood": np.array([-2.0, -1.0]),
    "tokens": np.array([4, 2]),
    "tokens_right": np.array([3, 2]),
}
MADE_UP: dict[str, tuple[dict[str, Any], Split]] = {
    "sentiment": (
        {"probabilities": np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]])},
        Split(label=[0, 1, 1]),
    ),
    "translation": (
        {"translation": np.array(["a b c", "d"], object), **LIKELY},
        Split(target=["a b c", "e"]),
    ),
    "captioning": (
        {"caption": np.array(["a red cat", "a dog"], object), **LIKELY},
        Split(captions=["a red cat\nthe cat", "two dogs"]),
    ),
    "probe": (
        {"probabilities": np.eye(2)[[[0], [1], [1]]]},
        Split(answer=[[0], [1], [0]], lengths=[4, 4, 8]),
    ),
}
"""Predictions of each task and a split that they are of, on which all of its scores are defined."""


@pytest.mark.parametrize("name", TASKS)
def test_each_metric_of_a_task_has_a_name_a_label_a_direction_and_a_scale(name: str) -> None:
    metrics = task_named(name).metrics
    assert metrics
    names = [metric.name for metric in metrics]
    assert len(set(names)) == len(names)
    assert len({metric.label for metric in metrics}) == len(names)
    for metric in metrics:
        assert isinstance(metric, Metric)
        # A key in metrics.json and on the command line: letters, digits and underscores.
        assert metric.name.isidentifier()
        assert metric.name == metric.name.lower()
        assert metric.label
        assert "_" not in metric.label
        assert isinstance(metric.higher_is_better, bool)
        assert metric.scale is None or metric.scale > 0
    assert not metrics[0].costly, "the first one is what training is judged by"


@pytest.mark.parametrize("name", TASKS)
def test_scores_carry_the_metrics_that_the_task_declares_in_their_order(name: str) -> None:
    assert name in MADE_UP, "give made-up predictions of the new task above"
    task, (predictions, split) = task_named(name), MADE_UP[name]
    scores = task.score(predictions, split)  # type: ignore[arg-type]
    assert tuple(score.metric for score in scores.values()) == task.metrics
    assert list(scores) == [metric.name for metric in task.metrics]
    for score in scores.values():
        (value,) = score.of(np.ones((1, len(split))))
        assert 0 <= value <= (score.metric.scale or np.inf), score.metric
        assert score.signature


@pytest.mark.parametrize("name", TASKS)
def test_scores_that_are_lacking_leave_the_others_in_their_order(name: str) -> None:
    """Of baselines, likelihoods are unknown."""
    task, (predictions, split) = task_named(name), MADE_UP[name]
    known = {key: value for key, value in predictions.items() if key not in LIKELY}
    found = [score.metric for score in task.score(known, split).values()]  # type: ignore[arg-type]
    assert found == [metric for metric in task.metrics if metric in found]
    assert found[0] == task.metrics[0]


def test_a_label_is_by_default_the_name_in_words() -> None:
    assert Metric("exact_match").label == "exact match"
    assert Metric("f1", "macro F1").label == "macro F1"


@pytest.mark.parametrize(("higher", "best", "sign"), [(True, 3.0, 1), (False, -1.0, -1)])
def test_better_and_best_are_by_the_direction(higher: bool, best: float, sign: int) -> None:
    metric = Metric("m", higher_is_better=higher)
    assert metric.sign == sign
    assert metric.best([2.0, 3.0, -1.0]) == best
    assert metric.better(3.0, 2.0) is higher
    assert metric.better(2.0, 3.0) is not higher
    assert not metric.better(2.0, 2.0)


def test_a_file_says_a_metrics_label_scale_and_direction() -> None:
    metric = Metric("ter", "TER", higher_is_better=False, scale=100)
    assert metric.facts() == {"label": "TER", "scale": 100, "higher_is_better": False}


def test_scores_by_name_keep_their_order() -> None:
    scores = [Score(Metric(name), lambda weights: weights.sum(1), "sum") for name in ("b", "a")]
    assert list(by_name(scores).items()) == [("b", scores[0]), ("a", scores[1])]
