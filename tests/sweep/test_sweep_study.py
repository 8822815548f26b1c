"""What a study promises, whoever asks it and whenever."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from optuna.trial import TrialState

from pipelines.config.restore import resolved
from pipelines.config.schema import parse
from pipelines.core.paths import ROOT
from pipelines.sweep import remote_sweep as launching
from pipelines.sweep import trials as stored
from pipelines.sweep.objectives import objectives_of
from pipelines.sweep.overrides import settings_in
from pipelines.sweep.space import read_space
from pipelines.sweep.study import Study


def study_in(
    directory: Path, *arguments: str, values: str = "int(interval(1, 99))", given: str = "3"
) -> Study:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        config = parse(resolved(compose("config", ["sweep=optuna", *arguments])))
    space = read_space({"x": values}, [], [])
    return Study(
        "sentiment/study",
        directory,
        space,
        settings_in({"x": given}, {}),
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
    points = [trial.asked.params["x"] for trial in taken if trial is not None]
    assert len(set(points)) == 2
    assert (3 in points) == (first == "given")
    # Nothing was drawn in vain.
    assert sorted(trial.number for trial in taken if trial is not None) == [0, 1]


def test_a_study_counts_what_has_begun_and_no_more_than_its_total(tmp_path: Path) -> None:
    study = study_in(tmp_path, "sweep.trials=2", given="200")
    study.study.enqueue_trial({"x": 7})
    study.study.enqueue_trial({"x": 8})
    study.study.enqueue_trial({"x": 9})
    assert study.trials() == []
    assert [one.asked.params["x"] for one in (study.next(), study.next()) if one] == [
        7,
        8,
    ]
    assert study.next() is None
    assert [trial.number for trial in study.trials()] == [0, 1]


def test_a_range_of_numbers_is_visited_once_each_the_given_one_first(tmp_path: Path) -> None:
    arguments = ["sweep.trials=9", "sweep.sampler=random"]
    study = study_in(tmp_path, *arguments, values="range(0.1,0.6,0.1)", given="0.3")
    drawn = []
    while (trial := study.next()) is not None:
        drawn.append(trial.overrides)
        study.complete(trial, [0.5])
    assert drawn[0] == ["x=0.3"]
    assert sorted(drawn) == [[f"x={value}"] for value in (0.1, 0.2, 0.3, 0.4, 0.5)]


def test_the_result_of_a_trial_that_was_given_up_is_no_traceback(tmp_path: Path) -> None:
    study, other = (study_in(tmp_path, "sweep.trials=1") for _ in "ab")
    trial = study.next()
    assert trial is not None
    other.study.tell(trial.number, state=TrialState.FAIL)
    study.complete(trial, [0.5])
    assert [one.state for one in study.trials()] == [TrialState.FAIL]


def test_a_launchers_word_does_not_end_what_somebody_works_on(tmp_path: Path) -> None:
    study, other = (study_in(tmp_path, "sweep.trials=1") for _ in "ab")
    trial = study.next()
    assert trial is not None
    other.fail_if_unfinished(trial, "lost")
    assert [one.state for one in study.trials()] == [TrialState.RUNNING]
    trial.release()
    other.fail_if_unfinished(trial, "lost")
    assert [one.state for one in study.trials()] == [TrialState.FAIL]
    assert study.failed()[0].user_attrs["reason"] == "lost"


def test_trials_in_a_launchers_queue_give_signs_of_life_whatever_the_storage_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launching, "HEARTBEAT", 0.01)
    monkeypatch.setattr(stored, "HEARTBEAT", 0.005)
    study = study_in(tmp_path, "sweep.trials=2")
    batch = [trial for trial in (study.next(), study.next()) if trial is not None]
    begun = [trial.user_attrs["beat"] for trial in study.trials()]
    assert len(begun) == 2
    beat, refused = study.beat, []

    def unwilling(trial):
        if not refused:
            refused.append(trial.number)
            raise ConnectionError("the database starts again")
        beat(trial)

    monkeypatch.setattr(study, "beat", unwilling)
    handed = launching.HandedOver(study, batch)
    for _ in range(500):
        time.sleep(0.01)
        now = [trial.user_attrs["beat"] for trial in study.trials()]
        if min(now) > max(begun):
            break
    assert refused == [0]
    assert min(now) > max(begun)
    assert study_in(tmp_path, "sweep.trials=2").next() is None
    handed.over(queued=[1])
    again = study_in(tmp_path, "sweep.trials=2").next()
    assert again is not None
    assert again.number == 0
    assert study_in(tmp_path, "sweep.trials=2").next() is None, "1 may still be in the queue"


def test_nobody_takes_a_trial_that_another_holds(tmp_path: Path) -> None:
    study, other = (study_in(tmp_path, "sweep.trials=1") for _ in "ab")
    held = study.next()
    assert held is not None
    assert other.next() is None
    held.release()
    again = other.next()
    assert again is not None
    assert (again.number, again.directory) == (held.number, held.directory)
    assert json.dumps(again.overrides) == json.dumps(held.overrides) == '["x=3"]'
