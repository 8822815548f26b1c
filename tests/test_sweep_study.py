"""What a study promises, whoever asks it and whenever."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import ROOT
from hydra import compose, initialize_config_dir

from pipelines.run import resolved
from pipelines.schema import parse
from pipelines.sweeping.objectives import objectives_of
from pipelines.sweeping.space import read_space, settings_in
from pipelines.sweeping.study import Study


def study_in(directory: Path, *arguments: str, given: str = "3") -> Study:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        config = parse(resolved(compose("config", ["sweep=optuna", *arguments])))
    space = read_space({"model.width": "int(interval(1, 99))"}, [], [])
    return Study(
        "sentiment/study",
        directory,
        space,
        settings_in({"model": {"width": int(given)}}, {}),
        objectives_of(["quality"], config.task, None),
        config.sweep,
        seed=1,
        epochs=3,
    )


@pytest.mark.parametrize("first", ["given", "drawn"])
def test_processes_that_ask_at_once_get_different_points(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    draw_from = Study._draw_from

    def slowly(study: Study, count: int) -> None:
        draw_from(study, count)
        time.sleep(0.3)

    monkeypatch.setattr(Study, "_draw_from", slowly)
    studies = [study_in(tmp_path, "sweep.sampler=random", f"sweep.first={first}") for _ in "ab"]
    with ThreadPoolExecutor(2) as pool:
        taken = list(pool.map(Study.next, studies))
    points = [trial.asked.params["model.width"] for trial in taken if trial is not None]
    assert len(set(points)) == 2
    assert (3 in points) == (first == "given")
    # Nothing was drawn in vain.
    assert sorted(trial.number for trial in taken if trial is not None) == [0, 1]


def test_a_study_counts_what_has_begun_and_no_more_than_its_total(tmp_path: Path) -> None:
    study = study_in(tmp_path, "sweep.trials=2", given="200")
    study.study.enqueue_trial({"model.width": 7})
    study.study.enqueue_trial({"model.width": 8})
    study.study.enqueue_trial({"model.width": 9})
    assert study.trials() == []
    assert [one.asked.params["model.width"] for one in (study.next(), study.next()) if one] == [
        7,
        8,
    ]
    assert study.next() is None
    assert [trial.number for trial in study.trials()] == [0, 1]


def test_nobody_takes_a_trial_that_another_holds(tmp_path: Path) -> None:
    study, other = (study_in(tmp_path, "sweep.trials=1") for _ in "ab")
    held = study.next()
    assert held is not None
    assert other.next() is None
    held.release()
    again = other.next()
    assert again is not None
    assert (again.number, again.directory) == (held.number, held.directory)
    assert json.dumps(again.overrides) == json.dumps(held.overrides) == '["model.width=3"]'
