"""Trials that a launcher of Hydra's brings elsewhere: here, its basic one, which runs them itself.

As in test_sweeps.py, runs are stand-ins, and all else is real.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, Command
from omegaconf import OmegaConf
from sweep_process import starts, states, summary, sweep, wait_for

from pipelines.core.errors import UserError
from pipelines.sweep.remote_trial import cores_asked

ELSEWHERE = "hydra/launcher=basic"


@pytest.fixture
def swept(tmp_path: Path) -> Callable[..., tuple[int, str]]:
    """Exit code and all that is told."""

    def run(*arguments: str, **environment: str) -> tuple[int, str]:
        process = sweep(ELSEWHERE, *arguments, folder=tmp_path, **environment)
        told, _ = process.communicate(timeout=120)
        return process.returncode, told

    return run


def test_failures_elsewhere_are_recorded_and_the_sweep_goes_on(swept, tmp_path) -> None:
    grid = ["seed=1,13,2", "sweep.parallel=2", "sweep.name=grid"]
    code, told = swept(*grid)
    assert code == 0, told
    trials = summary(tmp_path)["trials"]
    assert [trial["state"] for trial in trials] == ["COMPLETE", "FAIL", "COMPLETE"]
    assert trials[1]["reason"] == "this seed brings no luck"
    code, told = swept(*grid)
    assert "of which 3 are done" in told
    assert starts(tmp_path) == [1] * 3


def test_what_is_worse_than_the_median_is_pruned_elsewhere_too(swept, tmp_path) -> None:
    rates = "train.learning_rate=0.001,0.0011,0.1"
    code, told = swept(
        rates, "sweep.pruner=median", "sweep.prune_after=2", "train.epochs=8", FAKE_SECONDS="0.3"
    )
    assert code == 0, told
    assert [trial["state"] for trial in summary(tmp_path)["trials"]] == [
        "COMPLETE", "COMPLETE", "PRUNED",
    ]  # fmt: skip


def test_nobody_takes_up_what_waits_for_a_launcher(tmp_path: Path) -> None:
    """Of two trials that are handed over at once, the second waits; another command comes by."""
    grid = [ELSEWHERE, "seed=1,2,3,4", "sweep.parallel=2", "sweep.name=grid"]
    first = sweep(*grid, folder=tmp_path, FAKE_SECONDS="0.5")
    wait_for(lambda: starts(tmp_path))
    second = sweep(*grid, folder=tmp_path, FAKE_SECONDS="0.5")
    for process in (first, second):
        told, _ = process.communicate(timeout=120)
        assert process.returncode == 0, told
    assert states(tmp_path) == {"COMPLETE": 4}
    assert starts(tmp_path) == [1] * 4


def test_what_waited_for_a_launcher_that_was_killed_is_taken_up(swept, tmp_path) -> None:
    grid = ["seed=1,2", "sweep.parallel=2", "sweep.name=grid"]
    process = sweep(ELSEWHERE, *grid, folder=tmp_path, FAKE_SECONDS="1")
    wait_for(lambda: starts(tmp_path))
    process.kill()
    process.communicate()
    code, told = swept(*grid)
    assert code == 0, told
    assert states(tmp_path) == {"COMPLETE": 2}


def test_a_trial_has_the_threads_that_its_launcher_asks_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CORES", "4")
    asked: list[tuple[dict[str, Any], int | None]] = [
        ({"ray": {"init": {}, "remote": {"num_cpus": 2}}}, 2),
        ({"ray": {"remote": {"num_cpus": 0.5}}}, 1),
        ({"ray": {"remote": {}}}, None),
        ({"cpus_per_task": 3}, 3),
        ({"cpus_per_task": "${oc.env:CORES}"}, 4),
        ({"cpus_per_task": None}, None),
        ({}, None),
    ]
    for launcher, cores in asked:
        assert cores_asked(OmegaConf.create(launcher)) == cores
    with pytest.raises(UserError, match="must be a number of cores; received 'all'"):
        cores_asked(OmegaConf.create({"cpus_per_task": "all"}))


@pytest.mark.parametrize(
    ("launcher", "plugin", "told"),
    [
        ("ray", "hydra-ray-launcher", "hydra/launcher=ray is not installed: pip install '.[ray]'"),
        (
            "submitit_slurm",
            "hydra-submitit-launcher",
            "hydra/launcher=submitit_slurm is not installed: pip install '.[submitit]'",
        ),
    ],
)
def test_a_launcher_that_is_not_installed_is_a_line_with_its_extra(
    command_here: Command, launcher: str, plugin: str, told: str
) -> None:
    if any(one.name == plugin for one in metadata.distributions()):
        pytest.skip(f"{plugin} is installed")
    done = command_here("-m", "seed=1,2", f"hydra/launcher={launcher}")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert told in line


def with_launcher(name: str, settings: str, *arguments: str, folder: Path, **environment: str):
    """A sweep by a launcher of tests/support/plugins."""
    (folder / "conf" / "hydra" / "launcher").mkdir(parents=True, exist_ok=True)
    (folder / "conf" / "hydra" / "launcher" / "mine.yaml").write_text(
        f"_target_: hydra_plugins.{name}\n{settings}\n"
    )
    process = sweep(
        "--config-dir", str(folder / "conf"), "hydra/launcher=mine", *arguments, folder=folder,
        PYTHONPATH=f"{ROOT}:{ROOT}/tests/support/plugins", **environment,
    )  # fmt: skip
    told, _ = process.communicate(timeout=120)
    return process.returncode, told


def test_a_run_elsewhere_computes_with_these_threads(tmp_path: Path) -> None:
    code, told = with_launcher(
        "three_cores.ThreeCores", "cpus_per_task: 3", "seed=1", folder=tmp_path
    )
    assert code == 0, told
    (metrics,) = tmp_path.glob("outputs/sentiment/sweep/*/0000/metrics.json")
    assert json.loads(metrics.read_text())["threads"] == "3"


def test_a_run_whose_jobs_time_is_over_has_ended_and_failed(tmp_path: Path) -> None:
    code, told = with_launcher(
        "time_limit.TimeLimit", "seconds: 2\nturns: 1", "seed=15", "sweep.failures=1",
        folder=tmp_path,
    )  # fmt: skip
    assert code == 0, told
    (trial,) = summary(tmp_path)["trials"]
    assert (trial["state"], trial["reason"]) == ("FAIL", "the job's time is over")
    assert "Error executing job" not in told


def test_a_job_that_is_queued_again_goes_on_with_its_run(tmp_path: Path) -> None:
    code, told = with_launcher(
        "time_limit.TimeLimit", "seconds: 2\nturns: 20", "seed=1", "train.epochs=3",
        folder=tmp_path, FAKE_SECONDS="0.9",
    )  # fmt: skip
    assert code == 0, told
    assert states(tmp_path) == {"COMPLETE": 1}
    (begun,) = starts(tmp_path)
    assert begun > 1
    (history,) = tmp_path.glob("outputs/sentiment/sweep/*/0000/history.jsonl")
    assert [json.loads(line)["epoch"] for line in history.read_text().splitlines()] == [1, 2, 3]


def test_when_a_job_is_lost_its_trial_has_failed_and_the_others_go_on(tmp_path: Path) -> None:
    code, told = with_launcher(
        "lost_job.LostJob", "first: killed", "seed=1,2,3,4", "sweep.parallel=2",
        folder=tmp_path, FAKE_SECONDS="1", FAKE_DEAD="3",
    )  # fmt: skip
    assert code == 0, told
    trials = summary(tmp_path)["trials"]
    assert [trial["state"] for trial in trials] == ["FAIL", *["COMPLETE"] * 3]
    reason = "its job, or another of its batch, was lost: job 0 has not produced any output"
    assert trials[0]["reason"].startswith(reason)
    assert [trial["host"] for trial in trials] == [f"node{number}" for number in range(4)]
    assert starts(tmp_path) == [1] * 4


def test_a_trial_whose_job_may_still_be_queued_is_not_handed_over_twice(tmp_path: Path) -> None:
    grid = ["seed=1,2,3", "sweep.parallel=2", "sweep.name=grid"]
    code, told = with_launcher(
        "lost_job.LostJob", "first: killed\nsecond: waits", *grid,
        folder=tmp_path, FAKE_SECONDS="0.2", FAKE_DEAD="1",
    )  # fmt: skip
    assert code == 0, told
    assert "trial 1 may still be in the launcher's queue" in told
    assert "Under way elsewhere, or in a launcher's queue: 1." in told
    wait_for(lambda: list(tmp_path.glob("outputs/sentiment/sweep/grid/0001/metrics.json")))
    code, told = with_launcher(
        "lost_job.LostJob", "first: killed", *grid, folder=tmp_path, FAKE_DEAD="1"
    )
    assert code == 0, told
    assert states(tmp_path) == {"FAIL": 1, "COMPLETE": 2}
    assert starts(tmp_path) == [1] * 3


def test_a_launcher_that_takes_no_jobs_ends_the_sweep_and_no_trial(tmp_path: Path) -> None:
    code, told = with_launcher("lost_job.LostJob", "first: refused", "seed=1,2", folder=tmp_path)
    assert code == 1
    assert "the jobs could not be started, or were lost: nobody takes jobs" in told
    assert states(tmp_path) == {"RUNNING": 1}


def test_a_job_that_cant_begin_its_run_ends_the_sweep_in_time(swept, tmp_path: Path) -> None:
    """In the sweep's own process, which would hold the trial."""
    logs = tmp_path / "outputs/sentiment/sweep/grid/logs"
    logs.parent.mkdir(parents=True)
    logs.write_text("no directory")
    code, told = swept("seed=1,2", "sweep.name=grid", "sweep.failures=1")
    assert code == 0, told
    assert states(tmp_path) == {"FAIL": 2}
