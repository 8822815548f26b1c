"""What tasks declare of their metrics is what their scores carry, and says all that is shown."""

from __future__ import annotations

import pytest
from tiny_task import configure

from pipelines.core.paths import ROOT
from pipelines.core.scores import Metric, Score, by_name

TASKS = sorted(path.stem for path in (ROOT / "conf" / "task").glob("*.yaml"))


@pytest.mark.parametrize("name", TASKS)
def test_each_metric_of_a_task_has_a_name_a_label_a_direction_and_a_scale(name: str) -> None:
    metrics = configure(f"task={name}").task.metrics
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
def test_each_task_has_tests_that_check_its_scores(name: str) -> None:
    """What is predicted differs from task to task, so each module calls check_scores itself."""
    module = ROOT / "tests" / "tasks" / f"test_{name}.py"
    assert module.is_file(), "give the new task a module of tests"
    assert "    check_scores(" in module.read_text(encoding="utf-8")


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
