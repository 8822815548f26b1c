"""The rules of a study, with concurrent processes and launchers."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from optuna.trial import TrialState

from pipelines.config.restore import to_plain_values
from pipelines.config.schema import parse
from pipelines.core.paths import ROOT
from pipelines.core.saved_files import DamagedError
from pipelines.sweep.objectives import resolve_objectives
from pipelines.sweep.overrides import create_lookup
from pipelines.sweep.remote_sweep import LaunchedBatch
from pipelines.sweep.space_parser import parse_space
from pipelines.sweep.study import Study
from pipelines.sweep.trials import Liveness, StudyConfig


def study_in(
    directory: Path,
    *arguments: str,
    values: str = "int(interval(1, 99))",
    default: str = "3",
    liveness: Liveness = Liveness(),  # noqa: B008 - frozen
) -> Study:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        config = parse(to_plain_values(compose("config", ["sweep=optuna", *arguments])))
    objectives = tuple(resolve_objectives(["quality"], config.task, None))
    study_config = StudyConfig("sentiment/study", directory, objectives, config.sweep, 3, liveness)
    space = parse_space({"x": values}, [], [])
    return Study(study_config, space, create_lookup({"x": default}, {}), seed=1)


@pytest.mark.parametrize("start_from", ["defaults", "random"])
def test_concurrent_processes_draw_different_points(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start_from: str
) -> None:
    set_sampler = Study._set_sampler

    def set_sampler_slowly(study: Study, count: int) -> None:
        set_sampler(study, count)
        time.sleep(0.3)

    monkeypatch.setattr(Study, "_set_sampler", set_sampler_slowly)
    studies = [
        study_in(tmp_path, "sweep.sampler=random", f"sweep.start_from={start_from}") for _ in "ab"
    ]
    with ThreadPoolExecutor(2) as pool:
        taken = list(pool.map(Study.next_trial, studies))
    points = [trial.handle.params["x"] for trial in taken if trial is not None]
    assert len(set(points)) == 2
    assert (3 in points) == (start_from == "defaults")
    # No draw was a duplicate.
    assert sorted(trial.number for trial in taken if trial is not None) == [0, 1]


def test_a_study_counts_started_trials_and_no_more_than_its_total(tmp_path: Path) -> None:
    study = study_in(tmp_path, "sweep.trials=2", default="200")
    study.store.study.enqueue_trial({"x": 7})
    study.store.study.enqueue_trial({"x": 8})
    study.store.study.enqueue_trial({"x": 9})
    assert study.store.started_trials() == []
    assert [one.handle.params["x"] for one in (study.next_trial(), study.next_trial()) if one] == [
        7,
        8,
    ]
    assert study.next_trial() is None
    assert [trial.number for trial in study.store.started_trials()] == [0, 1]


def test_each_number_of_a_range_is_drawn_once_the_default_first(tmp_path: Path) -> None:
    arguments = ["sweep.trials=9", "sweep.sampler=random"]
    study = study_in(tmp_path, *arguments, values="range(0.1,0.6,0.1)", default="0.3")
    drawn = []
    while (trial := study.next_trial()) is not None:
        drawn.append(trial.overrides)
        study.store.complete(trial, [0.5])
    assert drawn[0] == ["x=0.3"]
    assert sorted(drawn) == [[f"x={value}"] for value in (0.1, 0.2, 0.3, 0.4, 0.5)]


def test_the_late_result_of_a_trial_that_was_given_up_raises_nothing(tmp_path: Path) -> None:
    study, other = (study_in(tmp_path, "sweep.trials=1") for _ in "ab")
    trial = study.next_trial()
    assert trial is not None
    other.store.study.tell(trial.number, state=TrialState.FAIL)
    study.store.complete(trial, [0.5])
    assert [one.state for one in study.store.started_trials()] == [TrialState.FAIL]


def test_a_lost_job_does_not_fail_a_trial_that_a_process_works_on(tmp_path: Path) -> None:
    study, other = (study_in(tmp_path, "sweep.trials=1") for _ in "ab")
    trial = study.next_trial()
    assert trial is not None
    other.store.fail_if_unfinished(trial, "lost")
    assert [one.state for one in study.store.started_trials()] == [TrialState.RUNNING]
    trial.release()
    other.store.fail_if_unfinished(trial, "lost")
    assert [one.state for one in study.store.started_trials()] == [TrialState.FAIL]
    assert study.store.failed_trials()[0].user_attrs["reason"] == "lost"


def test_queued_trials_have_heartbeats_even_after_the_storage_was_unavailable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = study_in(tmp_path, "sweep.trials=2", liveness=Liveness(heartbeat=0.005))
    batch = [trial for trial in (study.next_trial(), study.next_trial()) if trial is not None]
    first = [trial.user_attrs["beat"] for trial in study.store.started_trials()]
    assert len(first) == 2
    send_heartbeat, refused = study.store.send_heartbeat, []

    def refuse_once(trial):
        if not refused:
            refused.append(trial.number)
            raise ConnectionError("the database restarts")
        send_heartbeat(trial)

    monkeypatch.setattr(study.store, "send_heartbeat", refuse_once)
    launched = LaunchedBatch(study.store, batch)
    for _ in range(500):
        time.sleep(0.01)
        now = [trial.user_attrs["beat"] for trial in study.store.started_trials()]
        if min(now) > max(first):
            break
    assert refused == [0]
    assert min(now) > max(first)
    assert study_in(tmp_path, "sweep.trials=2").next_trial() is None
    launched.release(keep=[1])
    again = study_in(tmp_path, "sweep.trials=2").next_trial()
    assert again is not None
    assert again.number == 0
    assert study_in(tmp_path, "sweep.trials=2").next_trial() is None, "1 may still be in the queue"


def test_no_process_resumes_a_trial_that_another_holds(tmp_path: Path) -> None:
    study, other = (study_in(tmp_path, "sweep.trials=1") for _ in "ab")
    held = study.next_trial()
    assert held is not None
    assert other.next_trial() is None
    held.release()
    again = other.next_trial()
    assert again is not None
    assert (again.number, again.directory) == (held.number, held.directory)
    assert json.dumps(again.overrides) == json.dumps(held.overrides) == '["x=3"]'


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("[1]", ""),
        ("{}", ""),
        ("[" * 50_000, "recursion"),
        ('{"op_code": 2, "worker_id": "w", "study_id": 0, "user_attr": {"replaced": "x"}}', "list"),
        ('{"op_code": 2, "worker_id": "w", "study_id": 0, "user_attr": '
         '{"question": {"x": "\\ud800"}}}',
         "surrogates"),
    ],
)  # fmt: skip
def test_a_damaged_journal_is_told_in_a_line(line: str, said: str, tmp_path: Path) -> None:
    study_in(tmp_path)
    journal = tmp_path / "study.journal"
    with journal.open("a") as file:
        file.write(f"{line}\n")
    with pytest.raises(
        DamagedError, match=f"is damaged .*{said}.*choose another sweep.name"
    ) as told:
        study_in(tmp_path)
    assert str(told.value).startswith(f"{journal} is damaged (")
