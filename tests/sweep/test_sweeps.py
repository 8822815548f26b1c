"""Sweeps cover what they should, and end with exactly the requested number of trials.

Runs are fake (fake_run.py), so that a trial takes tenths of a second; everything else of a sweep,
from the command line to the study, is real.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

import optuna
import pytest
from sweep_process import (
    count_starts,
    count_states,
    read_summary,
    start_sweep,
)

from pipelines.sweep.storage import open_storage


def test_a_grid_covers_every_combination_once_and_repeats_nothing(run_sweep, tmp_path) -> None:
    code, output = run_sweep("model.width=8,16", "seed=1,2,3")
    assert code == 0, output
    trials = read_summary(tmp_path)["trials"]
    assert [trial["overrides"] for trial in trials] == [
        [f"model.width={width}", f"seed={seed}"] for width in (8, 16) for seed in (1, 2, 3)
    ]
    assert trials[0]["values"] == [pytest.approx(1 - 1 / 8)]
    code, output = run_sweep("model.width=8,16", "seed=1,2,3")
    assert code == 0, output
    assert "of which 6 are done" in output
    assert count_starts(tmp_path) == [1] * 6
    assert "Warning" not in output


def test_a_search_has_exactly_its_total_and_continues_to_a_larger_one(run_sweep, tmp_path) -> None:
    for total in (6, 6, 9):
        code, output = run_sweep("sweep=optuna", f"sweep.trials={total}")
        assert code == 0, output
        assert sum(count_states(tmp_path).values()) == total
    assert count_starts(tmp_path) == [1] * 9
    points = {json.dumps(trial["parameters"]) for trial in read_summary(tmp_path)["trials"]}
    assert len(points) == 9


def test_a_search_starts_from_the_defaults_that_the_space_contains(run_sweep, tmp_path) -> None:
    space = ["model.width=choice(16,32)", "train.learning_rate=interval(0.001,0.003)"]
    search = ["sweep=optuna", "sweep.trials=2", "sweep.sampler=random"]
    # The default width, 64, isn't in the space, so it is drawn.
    for start, is_default in (("defaults", True), ("random", False)):
        code, output = run_sweep(
            *search, *space, f"sweep.start_from={start}", f"sweep.name={start}"
        )
        assert code == 0, output
        (path,) = tmp_path.glob(f"outputs/sentiment/sweep/{start}/sweep.json")
        trials = [trial["parameters"] for trial in json.loads(path.read_text())["trials"]]
        assert [trial["train.learning_rate"] == 0.003 for trial in trials] == [is_default, False]
        assert [trial["task.embedding.dropout"] == 0.3 for trial in trials] == [is_default, False]
        assert {trial["model.width"] for trial in trials} <= {"16", "32"}
        # The same command continues the study and doesn't start a new one.
        code, output = run_sweep(
            *search, *space, f"sweep.start_from={start}", f"sweep.name={start}"
        )
        assert len(json.loads(path.read_text())["trials"]) == 2


def test_a_search_of_one_trial_runs_it(run_sweep, tmp_path) -> None:
    for _ in range(2):
        code, output = run_sweep("sweep=optuna", "sweep.trials=1")
        assert code == 0, output
        assert count_states(tmp_path) == {"COMPLETE": 1}
    assert count_starts(tmp_path) == [1]


def test_an_enqueued_trial_is_run_within_the_total(run_sweep, tmp_path) -> None:
    """A sweep may be killed after it has enqueued a trial and before it has asked for it."""
    few = ["sweep=optuna", "sweep.space=null", "model.width=8,16", "seed=1,2", "sweep.name=few"]
    code, output = run_sweep(*few, "sweep.trials=3")
    assert code == 0, output
    had = [trial["parameters"] for trial in read_summary(tmp_path)["trials"]]
    points = [{"model.width": width, "seed": seed} for width in ("8", "16") for seed in "12"]
    (missing,) = [one for one in points if one not in had]
    (journal,) = tmp_path.glob("outputs/sentiment/sweep/few/study.journal")
    study = optuna.load_study(
        study_name="sentiment/few", storage=open_storage(None, journal.parent)
    )
    study.enqueue_trial(missing, user_attrs={"point": missing})
    code, output = run_sweep(*few, "sweep.trials=3")
    assert count_states(tmp_path) == {"COMPLETE": 3}
    code, output = run_sweep(*few, "sweep.trials=4")
    assert code == 0, output
    assert count_states(tmp_path) == {"COMPLETE": 4}
    assert count_starts(tmp_path) == [1] * 4


def test_a_space_may_contain_settings_of_another_option(run_sweep, tmp_path) -> None:
    space = (
        "++sweep.space={decode:'choice(greedy,sample)',"
        "decode.top_p:{values:'choice(0.9,0.95)',when:{decode:sample}}}"
    )
    search = ["task=translation", "sweep=optuna", "sweep.trials=3", "sweep.objectives=[parameters]"]
    code, output = run_sweep(*search, space, "sweep.pruner=none")
    assert code == 0, output
    (path,) = tmp_path.glob("outputs/translation/sweep/*/sweep.json")
    trials = [trial["parameters"] for trial in json.loads(path.read_text())["trials"]]
    assert len(trials) == 3
    for drawn in trials:
        assert ("decode.top_p" in drawn) == (drawn["decode"] == "sample")


def test_a_search_of_a_small_space_visits_each_point_once_and_ends(run_sweep, tmp_path) -> None:
    few = ["sweep.space=null", "model.width=8,16", "seed=1,2", "sweep.sampler=random"]
    code, output = run_sweep("sweep=optuna", *few, "sweep.trials=30")
    assert code == 0, output
    points = Counter(json.dumps(t["parameters"]) for t in read_summary(tmp_path)["trials"])
    assert len(points) == 4
    assert set(points.values()) == {1}


def test_concurrent_runs_share_the_cores_and_give_the_same_study(run_sweep, tmp_path) -> None:
    code, output = run_sweep("model.width=8,16", "seed=1,2,3", "sweep.parallel=2")
    assert code == 0, output
    assert count_states(tmp_path) == {"COMPLETE": 6}
    assert count_starts(tmp_path) == [1] * 6
    (metrics, *_) = tmp_path.glob("outputs/sentiment/sweep/*/0000/metrics.json")
    threads = max(1, len(os.sched_getaffinity(0)) // 2)
    assert json.loads(metrics.read_text())["threads"] == str(threads)


def test_inactive_parameters_are_not_drawn(run_sweep, tmp_path) -> None:
    code, output = run_sweep("sweep=cells", "sweep.trials=12", "sweep.sampler=random")
    assert code == 0, output
    for trial in read_summary(tmp_path)["trials"]:
        drawn = trial["parameters"]
        assert ("model.activation" in drawn) == drawn["model"].endswith("simple_rnn")
        assert ("model.dropout" in drawn) == (drawn["model.layers"] == "2")


def test_several_objectives_each_have_a_value(run_sweep, tmp_path) -> None:
    code, output = run_sweep("sweep=quality_and_speed", "sweep.trials=4")
    assert code == 0, output
    for trial in read_summary(tmp_path)["trials"]:
        accuracy, milliseconds = trial["values"]
        assert accuracy < 1
        assert milliseconds == pytest.approx(float(trial["parameters"]["model.width"]) / 10)


def test_two_concurrent_sweeps_share_one_study(run_sweep, tmp_path) -> None:
    arguments = ["sweep=optuna", "sweep.trials=8", "sweep.sampler=random"]
    both = [start_sweep(*arguments, folder=tmp_path) for _ in range(2)]
    for process in both:
        output, _ = process.communicate(timeout=120)
        assert process.returncode == 0, output
    trials = read_summary(tmp_path)["trials"]
    assert len(trials) == 8
    assert len({json.dumps(trial["parameters"]) for trial in trials}) == 8
    assert set(count_starts(tmp_path)) == {1}


def test_a_study_may_be_stored_in_a_database(run_sweep, tmp_path) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    for total, storage in ((3, url), (5, "STORAGE_URL")):
        arguments = ("sweep=optuna", f"sweep.trials={total}", f"sweep.storage={storage}")
        code, output = run_sweep(*arguments, STORAGE_URL=url)
        assert code == 0, output
        assert sum(count_states(tmp_path).values()) == total
    assert count_starts(tmp_path) == [1] * 5


def test_two_directories_share_a_database_and_count_each_trial_once(
    tmp_path: Path,
) -> None:
    arguments = ["sweep=optuna", "sweep.trials=8", "sweep.name=shared", "sweep.pruner=none"]
    folders = [tmp_path / "a", tmp_path / "b"]
    storage = f"sweep.storage=sqlite:///{tmp_path}/study.db"
    for folder in folders:
        folder.mkdir()
    both = [
        start_sweep(*arguments, storage, folder=folder, FAKE_SECONDS="0.2") for folder in folders
    ]
    for process in both:
        output, _ = process.communicate(timeout=120)
        assert process.returncode == 0, output
    counts = [len(count_starts(folder)) for folder in folders]
    assert sum(counts) == 8
    assert min(counts) > 0
    assert [set(count_starts(folder)) for folder in folders] == [{1}, {1}]


def test_another_definition_under_the_same_name_is_rejected(run_sweep, tmp_path) -> None:
    code, output = run_sweep("sweep.name=one", "model.width=8,16")
    assert code == 0, output
    for other, what in (
        (["model.width=8,32"], "values of model.width"),
        (["model.width=8,16", "train.epochs=5"], "settings (train.epochs=5)"),
        (["model.width=8,16", "sweep.objectives=[validation.loss]"], "objectives"),
    ):
        code, output = run_sweep("sweep.name=one", *other)
        assert code == 1
        assert f"holds a sweep with other {what}" in output
        assert "choose another sweep.name" in output
