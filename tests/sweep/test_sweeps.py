"""Sweeps cover what they should, and end with exactly the requested number of trials.

Runs are fake (fake_run.py), so that a trial takes tenths of a second; everything else of a sweep,
from the command line to the study, is real.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from conftest import ROOT, Command
from hydra import compose, initialize_config_dir
from sweep_process import starts, states, summary, sweep, sweep_here, wait_for

from pipelines.config.restore import to_plain_values
from pipelines.config.schema import Config, parse
from pipelines.runs.directory import Run
from pipelines.sweep.objectives import read_values, resolve_objectives
from pipelines.sweep.storage import open_storage


@pytest.fixture
def swept(tmp_path: Path) -> Callable[..., tuple[int, str]]:
    """Runs a sweep; returns the exit code and the output."""

    def run(*arguments: str, **environment: str) -> tuple[int, str]:
        return sweep_here(*arguments, folder=tmp_path, **environment)

    return run


def test_a_grid_covers_every_combination_once_and_repeats_nothing(swept, tmp_path) -> None:
    code, output = swept("model.width=8,16", "seed=1,2,3")
    assert code == 0, output
    trials = summary(tmp_path)["trials"]
    assert [trial["overrides"] for trial in trials] == [
        [f"model.width={width}", f"seed={seed}"] for width in (8, 16) for seed in (1, 2, 3)
    ]
    assert trials[0]["values"] == [pytest.approx(1 - 1 / 8)]
    code, output = swept("model.width=8,16", "seed=1,2,3")
    assert code == 0, output
    assert "of which 6 are done" in output
    assert starts(tmp_path) == [1] * 6
    assert "Warning" not in output


def test_a_search_has_exactly_its_total_and_continues_to_a_larger_one(swept, tmp_path) -> None:
    for total in (6, 6, 9):
        code, output = swept("sweep=optuna", f"sweep.trials={total}")
        assert code == 0, output
        assert sum(states(tmp_path).values()) == total
    assert starts(tmp_path) == [1] * 9
    points = {json.dumps(trial["parameters"]) for trial in summary(tmp_path)["trials"]}
    assert len(points) == 9


def test_a_search_starts_from_the_defaults_that_the_space_contains(swept, tmp_path) -> None:
    space = ["model.width=choice(16,32)", "train.learning_rate=interval(0.001,0.002)"]
    search = ["sweep=optuna", "sweep.trials=2", "sweep.sampler=random"]
    # The default width, 64, isn't in the space, so it is drawn.
    for start, is_default in (("defaults", True), ("random", False)):
        code, output = swept(*search, *space, f"sweep.start_from={start}", f"sweep.name={start}")
        assert code == 0, output
        (path,) = tmp_path.glob(f"outputs/sentiment/sweep/{start}/sweep.json")
        trials = [trial["parameters"] for trial in json.loads(path.read_text())["trials"]]
        assert [trial["train.learning_rate"] == 0.002 for trial in trials] == [is_default, False]
        assert [trial["task.embedding.dropout"] == 0.2 for trial in trials] == [is_default, False]
        assert {trial["model.width"] for trial in trials} <= {"16", "32"}
        # The same command continues the study and doesn't start a new one.
        code, output = swept(*search, *space, f"sweep.start_from={start}", f"sweep.name={start}")
        assert len(json.loads(path.read_text())["trials"]) == 2


def test_a_search_of_one_trial_runs_it(swept, tmp_path) -> None:
    for _ in range(2):
        code, output = swept("sweep=optuna", "sweep.trials=1")
        assert code == 0, output
        assert states(tmp_path) == {"COMPLETE": 1}
    assert starts(tmp_path) == [1]


def test_an_enqueued_trial_is_run_within_the_total(swept, tmp_path) -> None:
    """A sweep may be killed after it has enqueued a trial and before it has asked for it."""
    few = ["sweep=optuna", "sweep.space=null", "model.width=8,16", "seed=1,2", "sweep.name=few"]
    code, output = swept(*few, "sweep.trials=3")
    assert code == 0, output
    had = [trial["parameters"] for trial in summary(tmp_path)["trials"]]
    points = [{"model.width": width, "seed": seed} for width in ("8", "16") for seed in "12"]
    (missing,) = [one for one in points if one not in had]
    (journal,) = tmp_path.glob("outputs/sentiment/sweep/few/study.journal")
    study = optuna.load_study(
        study_name="sentiment/few", storage=open_storage(None, journal.parent)
    )
    study.enqueue_trial(missing, user_attrs={"point": missing})
    code, output = swept(*few, "sweep.trials=3")
    assert states(tmp_path) == {"COMPLETE": 3}
    code, output = swept(*few, "sweep.trials=4")
    assert code == 0, output
    assert states(tmp_path) == {"COMPLETE": 4}
    assert starts(tmp_path) == [1] * 4


def test_failed_trials_of_a_search_are_repeated_at_their_points(swept, tmp_path) -> None:
    search = ["sweep=optuna", "sweep.trials=3", "seed=13", "sweep.failures=1.0"]
    code, output = swept(*search)
    assert code == 0, output
    failed = summary(tmp_path)["trials"]
    code, output = swept(*search, "sweep.retry=true", LUCK="1")
    assert "3 failed trials are repeated" in output
    trials = summary(tmp_path)["trials"]
    assert [trial["state"] for trial in trials] == ["COMPLETE"] * 3
    assert [t["parameters"] for t in trials] == [t["parameters"] for t in failed]
    assert trials[0]["parameters"]["train.learning_rate"] == 0.002  # the default


def test_a_space_may_contain_settings_of_another_option(swept, tmp_path) -> None:
    space = (
        "++sweep.space={decode:'choice(greedy,sample)',"
        "decode.top_p:{values:'choice(0.9,0.95)',when:{decode:sample}}}"
    )
    search = ["task=translation", "sweep=optuna", "sweep.trials=3", "sweep.objectives=[parameters]"]
    process = sweep(*search, space, "sweep.pruner=none", folder=tmp_path)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    (path,) = tmp_path.glob("outputs/translation/sweep/*/sweep.json")
    trials = [trial["parameters"] for trial in json.loads(path.read_text())["trials"]]
    assert len(trials) == 3
    for drawn in trials:
        assert ("decode.top_p" in drawn) == (drawn["decode"] == "sample")


def test_a_search_of_a_small_space_visits_each_point_once_and_ends(swept, tmp_path) -> None:
    few = ["sweep.space=null", "model.width=8,16", "seed=1,2", "sweep.sampler=random"]
    code, output = swept("sweep=optuna", *few, "sweep.trials=30")
    assert code == 0, output
    points = Counter(json.dumps(t["parameters"]) for t in summary(tmp_path)["trials"])
    assert len(points) == 4
    assert set(points.values()) == {1}


def test_concurrent_runs_share_the_cores_and_give_the_same_study(swept, tmp_path) -> None:
    code, output = swept("model.width=8,16", "seed=1,2,3", "sweep.parallel=2")
    assert code == 0, output
    assert states(tmp_path) == {"COMPLETE": 6}
    assert starts(tmp_path) == [1] * 6
    (metrics, *_) = tmp_path.glob("outputs/sentiment/sweep/*/0000/metrics.json")
    threads = max(1, len(os.sched_getaffinity(0)) // 2)
    assert json.loads(metrics.read_text())["threads"] == str(threads)


def test_failures_are_stored_with_their_reason_and_the_sweep_continues(swept, tmp_path) -> None:
    code, output = swept("seed=1,13,14,16,2,3", "sweep.name=bad")
    assert code == 0, output
    trials = summary(tmp_path)["trials"]
    assert [trial["state"] for trial in trials] == [
        "COMPLETE", "FAIL", "FAIL", "COMPLETE", "COMPLETE", "COMPLETE",
    ]  # fmt: skip
    assert trials[1]["reason"] == "this seed brings no luck"
    assert "killed" in trials[2]["reason"]
    # A killed run is resumed once.
    assert [trials[2]["attempts"], trials[3]["attempts"]] == [2, 2]
    code, output = swept("seed=1,13,14,16,2,3", "sweep.name=bad", "sweep.retry=true")
    assert "2 failed trials are repeated" in output
    assert len(summary(tmp_path)["trials"]) == 6


def test_a_run_beyond_its_time_limit_fails(swept, tmp_path) -> None:
    code, output = swept("seed=15,1", "sweep.run_seconds=1")
    assert code == 0, output
    assert "took longer than 1.0 s" in summary(tmp_path)["trials"][0]["reason"]
    assert states(tmp_path) == {"FAIL": 1, "COMPLETE": 1}


def test_a_run_beyond_its_memory_limit_fails(swept, tmp_path) -> None:
    code, output = swept("seed=15,1", "sweep.run_gigabytes=0.0001", "sweep.failures=1.0")
    assert code == 0, output
    assert "took more than 0.0001 GB" in summary(tmp_path)["trials"][0]["reason"]


def test_too_many_failures_end_the_sweep_in_one_line(swept, tmp_path) -> None:
    code, output = swept("seed=13,14,1,2", "sweep.failures=0.25")
    assert code == 1
    (line,) = [line for line in output.splitlines() if line.startswith("error: ")]
    assert "2 of 4 trials have failed" in line
    assert "Traceback" not in output


def test_runs_worse_than_the_median_are_pruned(swept, tmp_path) -> None:
    space = ["sweep.space=null", "train.learning_rate=0.001,0.0011,0.0012,0.0013,0.1,0.0001"]
    code, output = swept(
        "sweep=grid", *space, "sweep.pruner=median", "sweep.prune_after=2", "train.epochs=8",
        FAKE_SECONDS="0.15",
    )  # fmt: skip
    assert code == 0, output
    by_rate = {t["parameters"]["train.learning_rate"]: t for t in summary(tmp_path)["trials"]}
    assert by_rate["0.001"]["state"] == "COMPLETE"
    assert by_rate["0.1"]["state"] == by_rate["0.0001"]["state"] == "PRUNED"
    assert by_rate["0.1"]["seconds"] < by_rate["0.001"]["seconds"]


def test_hyperband_prunes_too(swept, tmp_path) -> None:
    code, output = swept(
        "sweep=optuna", "sweep.pruner=hyperband", "sweep.trials=10", "train.epochs=9",
        "sweep.sampler=random", FAKE_SECONDS="0.1",
    )  # fmt: skip
    assert code == 0, output
    assert states(tmp_path)["PRUNED"] > 0
    assert sum(states(tmp_path).values()) == 10


def test_inactive_parameters_are_not_drawn(swept, tmp_path) -> None:
    code, output = swept("sweep=cells", "sweep.trials=12", "sweep.sampler=random")
    assert code == 0, output
    for trial in summary(tmp_path)["trials"]:
        drawn = trial["parameters"]
        assert ("model.activation" in drawn) == drawn["model"].endswith("simple_rnn")
        assert ("model.dropout" in drawn) == (drawn["model.layers"] == "2")


def test_several_objectives_each_have_a_value(swept, tmp_path) -> None:
    code, output = swept("sweep=quality_and_speed", "sweep.trials=4")
    assert code == 0, output
    for trial in summary(tmp_path)["trials"]:
        accuracy, milliseconds = trial["values"]
        assert accuracy < 1
        assert milliseconds == pytest.approx(float(trial["parameters"]["model.width"]) / 10)


def test_two_concurrent_sweeps_share_one_study(swept, tmp_path) -> None:
    arguments = ["sweep=optuna", "sweep.trials=8", "sweep.sampler=random"]
    both = [sweep(*arguments, folder=tmp_path) for _ in range(2)]
    for process in both:
        output, _ = process.communicate(timeout=120)
        assert process.returncode == 0, output
    trials = summary(tmp_path)["trials"]
    assert len(trials) == 8
    assert len({json.dumps(trial["parameters"]) for trial in trials}) == 8
    assert set(starts(tmp_path)) == {1}


def test_a_study_may_be_stored_in_a_database(swept, tmp_path) -> None:
    storage = f"sweep.storage=sqlite:///{tmp_path}/study.db"
    for total in (3, 5):
        code, output = swept("sweep=optuna", f"sweep.trials={total}", storage)
        assert code == 0, output
        assert sum(states(tmp_path).values()) == total
    assert starts(tmp_path) == [1] * 5


def test_two_directories_share_a_database_and_count_each_trial_once(
    tmp_path: Path,
) -> None:
    arguments = ["sweep=optuna", "sweep.trials=8", "sweep.name=shared", "sweep.pruner=none"]
    folders = [tmp_path / "a", tmp_path / "b"]
    storage = f"sweep.storage=sqlite:///{tmp_path}/study.db"
    for folder in folders:
        folder.mkdir()
    both = [sweep(*arguments, storage, folder=folder, FAKE_SECONDS="0.2") for folder in folders]
    for process in both:
        output, _ = process.communicate(timeout=120)
        assert process.returncode == 0, output
    counts = [len(starts(folder)) for folder in folders]
    assert sum(counts) == 8
    assert min(counts) > 0
    assert [set(starts(folder)) for folder in folders] == [{1}, {1}]


def test_no_trial_starts_after_the_time_limit_and_the_same_command_continues(
    swept, tmp_path
) -> None:
    code, output = swept("seed=1,2,3,4", "sweep.seconds=0.1", FAKE_SECONDS="0.3")
    assert code == 0, output
    assert "are over: no more trials are started" in output
    assert len(starts(tmp_path)) < 4
    code, output = swept("seed=1,2,3,4")
    assert states(tmp_path) == {"COMPLETE": 4}


def test_passwords_are_not_printed(command_here: Command, tmp_path: Path) -> None:
    result = command_here("-m", "sweep.storage=nosuch://me:secret@host/db", "seed=1,2")
    assert result.returncode == 1
    assert "nosuch://me:***@host/db can't be used" in result.stderr
    assert "secret" not in result.stderr


def test_another_definition_under_the_same_name_is_rejected(swept, tmp_path) -> None:
    code, output = swept("sweep.name=one", "model.width=8,16")
    assert code == 0, output
    for other, what in (
        (["model.width=8,32"], "values of model.width"),
        (["model.width=8,16", "train.epochs=5"], "settings (train.epochs=5)"),
        (["model.width=8,16", "sweep.objectives=[validation.loss]"], "objectives"),
    ):
        code, output = swept("sweep.name=one", *other)
        assert code == 1
        assert f"holds a sweep with other {what}" in output
        assert "choose another sweep.name" in output


@pytest.mark.parametrize(
    ("arguments", "output"),
    [
        (["model=gru,lstmx"], "model=lstmx: no such option; did you mean 'lstm'"),
        (["model.widht=1,2"], "model.widht: there is no such setting; did you mean model.width?"),
        (["train.epochs=1,x"], "train.epochs: must be a valid integer; received 'x'"),
        (["model=gru,simple_rnn", "model.activation=relu"], "goes with simple_rnn; gru"),
        (["sweep.trails=3"], "did you mean sweep.trials"),
        (["sweep=optunna"], "sweep=optunna: no such option; did you mean 'optuna'?"),
        (["train.learning_rate=interval(0.1,0.2)"], "a grid needs single values"),
        (["sweep=optuna", "model.width=interval(8,2)"], "an interval needs low < high"),
        (["sweep=optuna", "train.learning_rate=tag(log,interval(0,1))"], "0 < low < high"),
        (["sweep=optuna", "model.width=interval(8,16)"], "model.width: must be a valid integer"),
        (["sweep=optuna", "sweep.objectives=[acuracy]"], "acuracy: no such objective"),
        (["sweep=optuna", "sweep.objectives=[test.accuracy]"], "looks at the test split"),
        (["sweep=optuna", "sweep.objectives=[quality,seconds]"], "use sweep.pruner=none"),
        (["sweep=optuna", "sweep.trials=null"], "sweep.sampler=tpe needs their number"),
        (["sweep=optuna", "sweep.storage=nosuch://x"], "sweep.storage=nosuch://x can't be used"),
        (
            ["+sweep.space={model:{values:'choice(gru,lstm)'}}"],
            "sweep.space.model: values with a condition are",
        ),
        (["sweep.space={model:'choice(gru,lstm)'}"], "added with a plus: +sweep.space=..."),
        (["run=somewhere"], "a sweep is of new runs: leave out mode and run"),
    ],
)
def test_a_mistake_is_one_line_before_the_first_trial(
    command_here: Command, tmp_path: Path, arguments: list[str], output: str
) -> None:
    result = command_here("-m", *arguments)
    assert result.returncode == 1
    assert output in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not list(tmp_path.glob("outputs/sentiment/sweep/*/0*"))


@pytest.mark.parametrize(
    ("old", "new"), [("sweep.each=[]", "sweep.fixed"), ("sweep.first=given", "sweep.start_from")]
)
def test_a_renamed_setting_answers_with_its_new_name(
    command_here: Command, old: str, new: str
) -> None:
    result = command_here("-m", "seed=1,2", old)
    assert result.returncode == 1
    assert result.stderr == f"error: {old.partition('=')[0]} is now called {new}\n"


@pytest.mark.parametrize("value", ["given", "drawn"])
def test_a_former_value_of_start_from_answers_with_the_choices(
    command_here: Command, value: str
) -> None:
    result = command_here("-m", "seed=1,2", f"sweep.start_from={value}")
    assert result.returncode == 1
    message = f"must be one of defaults, random; received {value!r}"
    assert result.stderr == f"error: sweep.start_from: {message}\n"


def test_sweep_settings_without_a_sweep_are_a_mistake(command_here) -> None:
    result = command_here("sweep=optuna")
    assert result.stderr == "error: sweep goes with several runs: python main.py -m ...\n"


TASKS = sorted(path.stem for path in (ROOT / "conf" / "task").glob("*.yaml"))


def settings_of(*overrides: str) -> Config:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return parse(to_plain_values(compose("config", list(overrides))))


@pytest.mark.parametrize("name", TASKS)
def test_each_score_of_each_task_is_optimized_in_its_own_direction(name: str) -> None:
    task = settings_of(f"task={name}").task
    for metric in task.metrics:
        (objective,) = resolve_objectives([f"validation.{metric.name}"], task, None)
        assert objective.maximize == metric.higher_is_better
        (quality,) = resolve_objectives(["quality"], task, metric.name)
        assert (quality.name, quality.maximize) == (objective.name, objective.maximize)


def test_the_error_of_a_probe_is_minimized() -> None:
    task = settings_of("task=probe", "data=copy").task
    (objective,) = resolve_objectives(["validation.error"], task, None)
    assert not objective.maximize
    assert objective.metric.better(0.1, 0.2)
    assert objective.metric.best([0.3, 0.1, 0.2]) == 0.1


def test_the_objectives_of_a_finished_run_are_read(finished_run) -> None:
    run = Run(finished_run.directory)
    metrics, task = run.load_metrics(), settings_of().task
    found = resolve_objectives(
        ["quality", "parameters", "milliseconds", "seconds", "memory"], task, None
    )
    values = read_values(run, found)
    assert values is not None
    assert values[0] == metrics.validation["accuracy"].value
    assert values[1] == metrics.parameters.total
    assert values[2] == metrics.latency.milliseconds > 0


@pytest.mark.slow
def test_real_runs_end_in_a_leaderboard(
    quick_overrides: list[str], command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECURRENT_CACHE", str(tmp_path / "cache"))  # nothing is prepared
    result = command("-m", *quick_overrides, "model=gru,simple_rnn", "seed=1,2", "sweep.parallel=2")
    assert result.returncode == 0, result.stderr
    (directory,) = tmp_path.glob("outputs/sentiment/sweep/grid-*")
    found = json.loads((directory / "leaderboard.json").read_text())
    assert [len(one["runs"]) for one in found["configurations"]] == [2, 2]
    assert len(found["differences"]) == 1
    assert all(cost for one in found["configurations"] for cost in one["costs"].values())
    assert found["train"].endswith("experiment=winner")
    (metrics, *_) = directory.glob("0*/metrics.json")
    value = json.loads(metrics.read_text())["validation"]["accuracy"]["value"]
    assert summary(tmp_path)["trials"][int(metrics.parent.name)]["values"] == [value]
    assert "was prepared" not in result.stderr
    reused = [path.read_text().count("reused") for path in directory.glob("logs/*.log")]
    assert sum(reused) == 3  # of four runs, one has prepared the data


@pytest.mark.slow
def test_a_real_run_that_is_killed_with_its_sweep_resumes_from_its_checkpoint(
    quick_overrides: list[str], command: Command, tmp_path: Path
) -> None:
    arguments = [
        "-m",
        *quick_overrides,
        "seed=1,2",
        "train.epochs=60",
        "train.checkpoint_seconds=0.5",
    ]
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "main.py"), *arguments], cwd=tmp_path, stderr=subprocess.PIPE
    )
    wait_for(lambda: list(tmp_path.glob("outputs/sentiment/sweep/*/0000/checkpoints/last.npz")))
    process.kill()
    process.communicate()
    result = command(*arguments)
    assert result.returncode == 0, result.stderr
    assert states(tmp_path) == {"COMPLETE": 2}
    (log, *_) = sorted(tmp_path.glob("outputs/sentiment/sweep/*/logs/*.log"))
    assert "Going on at epoch" in log.read_text()
