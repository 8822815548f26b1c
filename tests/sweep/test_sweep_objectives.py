"""What sweeps optimize: each score in its own direction, and costs."""

from __future__ import annotations

import pytest
from conftest import ROOT
from tiny_task import configure

from pipelines.runs.directory import Run
from pipelines.sweep.objectives import read_values, resolve_objectives

TASKS = sorted(path.stem for path in (ROOT / "conf" / "task").glob("*.yaml"))


@pytest.mark.parametrize("name", TASKS)
def test_each_score_of_each_task_is_optimized_in_its_own_direction(name: str) -> None:
    task = configure(f"task={name}").task
    for metric in task.metrics:
        (objective,) = resolve_objectives([f"validation.{metric.name}"], task, None)
        assert objective.maximize == metric.higher_is_better
        (quality,) = resolve_objectives(["quality"], task, metric.name)
        assert (quality.name, quality.maximize) == (objective.name, objective.maximize)


def test_the_error_of_a_probe_is_minimized() -> None:
    task = configure("task=probe", "data=copy").task
    (objective,) = resolve_objectives(["validation.error"], task, None)
    assert not objective.maximize
    assert objective.metric.better(0.1, 0.2)
    assert objective.metric.best([0.3, 0.1, 0.2]) == 0.1


def test_the_objectives_of_a_finished_run_are_read(finished_run) -> None:
    run = Run(finished_run.directory)
    metrics, task = run.load_metrics(), configure().task
    found = resolve_objectives(
        ["quality", "parameters", "milliseconds", "seconds", "memory"], task, None
    )
    values = read_values(run, found)
    assert values is not None
    assert values[0] == metrics.validation["accuracy"].value
    assert values[1] == metrics.parameters.total
    assert values[2] == metrics.latency.milliseconds > 0
