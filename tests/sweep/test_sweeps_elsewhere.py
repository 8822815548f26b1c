"""Trials through Hydra's launchers; mostly its basic one, which runs jobs in its own process.

As in test_sweeps.py, runs are fake and all else is real.
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
from sweep_process import SUPPORT, count_starts, count_states, read_summary, start_sweep, wait_for

from pipelines.core.errors import UserError
from pipelines.sweep.remote_trial import requested_cores

LAUNCHER = "hydra/launcher=basic"


@pytest.fixture
def run_sweep(tmp_path: Path) -> Callable[..., tuple[int, str]]:
    """Runs a sweep; returns the exit code and the output."""

    def run(*arguments: str, **environment: str) -> tuple[int, str]:
        process = start_sweep(LAUNCHER, *arguments, folder=tmp_path, **environment)
        output, _ = process.communicate(timeout=120)
        return process.returncode, output

    return run


def test_failures_of_jobs_are_stored_and_the_sweep_continues(run_sweep, tmp_path) -> None:
    grid = ["seed=1,13,2", "sweep.parallel=2", "sweep.name=grid"]
    code, output = run_sweep(*grid)
    assert code == 0, output
    trials = read_summary(tmp_path)["trials"]
    assert [trial["state"] for trial in trials] == ["COMPLETE", "FAIL", "COMPLETE"]
    assert trials[1]["reason"] == "this seed brings no luck"
    code, output = run_sweep(*grid)
    assert "of which 3 are done" in output
    assert count_starts(tmp_path) == [1] * 3


def test_trials_of_a_launcher_are_pruned_too(run_sweep, tmp_path) -> None:
    rates = "train.learning_rate=0.001,0.0011,0.1"
    code, output = run_sweep(
        rates, "sweep.pruner=median", "sweep.prune_after=2", "train.epochs=8", FAKE_SECONDS="0.3"
    )
    assert code == 0, output
    assert [trial["state"] for trial in read_summary(tmp_path)["trials"]] == [
        "COMPLETE", "COMPLETE", "PRUNED",
    ]  # fmt: skip


def test_no_process_resumes_a_trial_that_waits_for_a_launcher(tmp_path: Path) -> None:
    """The second trial of a batch waits when another command looks for trials to resume."""
    grid = [LAUNCHER, "seed=1,2,3,4", "sweep.parallel=2", "sweep.name=grid"]
    first = start_sweep(*grid, folder=tmp_path, FAKE_SECONDS="0.5")
    wait_for(lambda: count_starts(tmp_path))
    second = start_sweep(*grid, folder=tmp_path, FAKE_SECONDS="0.5")
    for process in (first, second):
        output, _ = process.communicate(timeout=120)
        assert process.returncode == 0, output
    assert count_states(tmp_path) == {"COMPLETE": 4}
    assert count_starts(tmp_path) == [1] * 4


def test_trials_of_a_killed_launcher_are_resumed(run_sweep, tmp_path) -> None:
    grid = ["seed=1,2", "sweep.parallel=2", "sweep.name=grid"]
    process = start_sweep(LAUNCHER, *grid, folder=tmp_path, FAKE_SECONDS="1")
    wait_for(lambda: count_starts(tmp_path))
    process.kill()
    process.communicate()
    code, output = run_sweep(*grid)
    assert code == 0, output
    assert count_states(tmp_path) == {"COMPLETE": 2}


def test_a_trial_has_as_many_threads_as_its_job_has_cores(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CORES", "4")
    cases: list[tuple[dict[str, Any], int | None]] = [
        ({"ray": {"init": {}, "remote": {"num_cpus": 2}}}, 2),
        ({"ray": {"remote": {"num_cpus": 0.5}}}, 1),
        ({"ray": {"remote": {}}}, None),
        ({"cpus_per_task": 3}, 3),
        ({"cpus_per_task": "${oc.env:CORES}"}, 4),
        ({"cpus_per_task": None}, None),
        ({}, None),
    ]
    for launcher, cores in cases:
        assert requested_cores(OmegaConf.create(launcher)) == cores
    with pytest.raises(UserError, match="must be a number of cores; received 'all'"):
        requested_cores(OmegaConf.create({"cpus_per_task": "all"}))


@pytest.mark.parametrize(
    ("launcher", "plugin", "output"),
    [
        ("ray", "hydra-ray-launcher", "hydra/launcher=ray is not installed: pip install '.[ray]'"),
        (
            "submitit_slurm",
            "hydra-submitit-launcher",
            "hydra/launcher=submitit_slurm is not installed: pip install '.[submitit]'",
        ),
    ],
)
def test_a_launcher_that_is_not_installed_is_one_line_with_its_extra(
    command_here: Command, launcher: str, plugin: str, output: str
) -> None:
    if any(one.name == plugin for one in metadata.distributions()):
        pytest.skip(f"{plugin} is installed")
    result = command_here("-m", "seed=1,2", f"hydra/launcher={launcher}")
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert output in line


def sweep_with_launcher(
    name: str,
    settings: str,
    *arguments: str,
    folder: Path,
    dead_after: float | None = None,
    **environment: str,
) -> tuple[int, str]:
    """A sweep with a launcher of tests/support/plugins. Returns the exit code and the output."""
    (folder / "conf" / "hydra" / "launcher").mkdir(parents=True, exist_ok=True)
    (folder / "conf" / "hydra" / "launcher" / "mine.yaml").write_text(
        f"_target_: hydra_plugins.{name}\n{settings}\n"
    )
    process = start_sweep(
        "--config-dir", str(folder / "conf"), "hydra/launcher=mine", *arguments, folder=folder,
        dead_after=dead_after,
        PYTHONPATH=f"{ROOT}:{SUPPORT}/plugins", **environment,
    )  # fmt: skip
    output, _ = process.communicate(timeout=120)
    return process.returncode, output


def test_a_run_of_a_job_uses_the_cores_of_the_job(tmp_path: Path) -> None:
    code, output = sweep_with_launcher(
        "three_cores.ThreeCores", "cpus_per_task: 3", "seed=1", folder=tmp_path
    )
    assert code == 0, output
    (metrics,) = tmp_path.glob("outputs/sentiment/sweep/*/0000/metrics.json")
    assert json.loads(metrics.read_text())["threads"] == "3"


def test_a_trial_whose_job_exceeds_its_time_limit_fails(tmp_path: Path) -> None:
    code, output = sweep_with_launcher(
        "time_limit.TimeLimit", "seconds: 2\nturns: 1", "seed=15", "sweep.failures=1",
        folder=tmp_path,
    )  # fmt: skip
    assert code == 0, output
    (trial,) = read_summary(tmp_path)["trials"]
    assert (trial["state"], trial["reason"]) == ("FAIL", "the job's time is over")
    assert "Error executing job" not in output


def test_a_requeued_job_resumes_its_run(tmp_path: Path) -> None:
    code, output = sweep_with_launcher(
        "time_limit.TimeLimit", "seconds: 2\nturns: 20", "seed=1", "train.epochs=3",
        folder=tmp_path, FAKE_SECONDS="0.9",
    )  # fmt: skip
    assert code == 0, output
    assert count_states(tmp_path) == {"COMPLETE": 1}
    (started_at,) = count_starts(tmp_path)
    assert started_at > 1
    (history,) = tmp_path.glob("outputs/sentiment/sweep/*/0000/history.jsonl")
    assert [json.loads(line)["epoch"] for line in history.read_text().splitlines()] == [1, 2, 3]


def test_the_trial_of_a_lost_job_fails_and_the_others_continue(tmp_path: Path) -> None:
    code, output = sweep_with_launcher(
        "lost_job.LostJob", "first: killed", "seed=1,2,3,4", "sweep.parallel=2",
        folder=tmp_path, FAKE_SECONDS="1", dead_after=3,
    )  # fmt: skip
    assert code == 0, output
    trials = read_summary(tmp_path)["trials"]
    assert [trial["state"] for trial in trials] == ["FAIL", *["COMPLETE"] * 3]
    reason = "its job, or another of its batch, was lost: job 0 has not produced any output"
    assert trials[0]["reason"].startswith(reason)
    assert [trial["host"] for trial in trials] == [f"node{number}" for number in range(4)]
    assert count_starts(tmp_path) == [1] * 4


def test_a_trial_whose_job_may_still_be_queued_is_launched_once(tmp_path: Path) -> None:
    grid = ["seed=1,2,3", "sweep.parallel=2", "sweep.name=grid"]
    code, output = sweep_with_launcher(
        "lost_job.LostJob", "first: killed\nsecond: waits", *grid,
        folder=tmp_path, FAKE_SECONDS="0.2", dead_after=1,
    )  # fmt: skip
    assert code == 0, output
    assert "trial 1 may still be in the launcher's queue" in output
    assert "Running elsewhere, or in a launcher's queue: 1." in output
    wait_for(lambda: list(tmp_path.glob("outputs/sentiment/sweep/grid/0001/metrics.json")))
    code, output = sweep_with_launcher(
        "lost_job.LostJob", "first: killed", *grid, folder=tmp_path, dead_after=1
    )
    assert code == 0, output
    assert count_states(tmp_path) == {"FAIL": 1, "COMPLETE": 2}
    assert count_starts(tmp_path) == [1] * 3


def test_a_launcher_that_rejects_jobs_ends_the_sweep_but_fails_no_trial(tmp_path: Path) -> None:
    code, output = sweep_with_launcher(
        "lost_job.LostJob", "first: refused", "seed=1,2", folder=tmp_path
    )
    assert code == 1
    assert "the jobs could not be started, or were lost: no jobs are accepted" in output
    assert count_states(tmp_path) == {"RUNNING": 1}


def test_a_job_that_cannot_start_its_run_fails_its_trial(run_sweep, tmp_path: Path) -> None:
    """The basic launcher runs the job in the sweep's process, which must release the trial."""
    logs = tmp_path / "outputs/sentiment/sweep/grid/logs"
    logs.parent.mkdir(parents=True)
    logs.write_text("no directory")
    code, output = run_sweep("seed=1,2", "sweep.name=grid", "sweep.failures=1")
    assert code == 0, output
    assert count_states(tmp_path) == {"FAIL": 2}
