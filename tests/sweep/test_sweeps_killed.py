"""Sweeps and runs that are stopped or killed: no trial is lost, and none is repeated."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sweep_process import (
    children_of,
    count_starts,
    count_states,
    read_summary,
    runs_of,
    start_sweep,
    still_running,
    wait_for,
)

from pipelines.core.paths import ROOT
from pipelines.sweep.storage import JournalLock


def test_runs_end_with_a_sweep_that_is_killed(tmp_path: Path) -> None:
    process = start_sweep("seed=15", "model.width=8,16", "sweep.parallel=2", folder=tmp_path)
    wait_for(lambda: len(count_starts(tmp_path)) == 2)
    runs = runs_of(process)
    process.kill()
    assert len(runs) == 2
    wait_for(lambda: not still_running(runs))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_all_processes_while_the_fork_server_starts_is_one_line(
    tmp_path: Path, number: int
) -> None:
    process = start_sweep("seed=1,2", folder=tmp_path, preloaded=["slow_import"], SLOW_IMPORT="2")
    wait_for(lambda: children_of(process))
    time.sleep(0.5)
    os.killpg(process.pid, number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + number, output
    assert "Traceback" not in output


def test_a_second_signal_kills_the_runs(tmp_path: Path) -> None:
    process = start_sweep("seed=17", folder=tmp_path)  # it ends slowly
    wait_for(lambda: count_starts(tmp_path))
    runs = runs_of(process)
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert still_running(runs)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=10)
    assert process.returncode == 128 + signal.SIGINT, output
    wait_for(lambda: not still_running(runs))


def test_slow_modules_are_imported_before_runs_are_forked(tmp_path: Path) -> None:
    script, found = tmp_path / "script.py", tmp_path / "found.json"
    script.write_text(
        "import json, pathlib, sys\n"
        f"pathlib.Path({str(found)!r}).write_text(json.dumps(sorted(sys.modules)))\n"
    )
    starter = tmp_path / "starter.py"
    starter.write_text(
        "import time\n"
        "from pathlib import Path\n"
        "from pipelines.sweep.trial_process import RunProcess, RunScript\n"
        "if __name__ == '__main__':\n"
        f"    script, folder = RunScript(Path({str(script)!r})), Path({str(tmp_path)!r})\n"
        "    log = folder / 'log'\n"
        "    run = RunProcess([], folder / 'run', log, threads=None, script=script)\n"
        "    while not run.has_ended():\n"
        "        time.sleep(0.1)\n"
        "    assert run.returncode == 0, log.read_text()\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, str(starter)], check=True, env=environment, timeout=120)
    modules = set(json.loads(found.read_text()))
    assert {
        "tensorflow",
        "keras",
        "hydra",
        "pipelines.train.loop",
        "pipelines.evaluate.against",
    } <= modules


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_all_runs_and_the_same_command_resumes_them(
    tmp_path: Path, signal_number: int
) -> None:
    arguments = ["model.width=8,16", "seed=1,2", "sweep.parallel=2"]
    process = start_sweep(*arguments, folder=tmp_path, FAKE_SECONDS="0.5")
    wait_for(lambda: count_starts(tmp_path))
    runs = runs_of(process)
    process.send_signal(signal_number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + signal_number, output
    assert "The same command continues." in output
    assert "Traceback" not in output
    assert runs
    assert not still_running(runs)
    output, _ = start_sweep(*arguments, folder=tmp_path).communicate(timeout=60)
    assert count_states(tmp_path) == {"COMPLETE": 4}, output


@pytest.mark.parametrize(
    "way",
    [
        ["model.width=4,8,16,32", "seed=1,2"],
        ["sweep=optuna", "sweep.trials=8", "sweep.pruner=none"],
    ],
)
def test_sweeps_killed_at_random_moments_lose_and_repeat_no_trial(
    tmp_path: Path, way: list[str]
) -> None:
    rng = random.Random(len(way))
    arguments = [*way, "sweep.parallel=2", "train.epochs=4"]
    for _ in range(3):
        process = start_sweep(*arguments, folder=tmp_path, FAKE_SECONDS="0.15")
        before = len(count_starts(tmp_path))
        more = lambda b=before, p=process: len(count_starts(tmp_path)) > b or p.poll() is not None  # noqa: E731
        wait_for(more)
        time.sleep(rng.uniform(0.0, 1.0))
        runs = runs_of(process)
        process.kill()
        process.communicate()
        wait_for(lambda these=runs: not still_running(these))
    output, _ = start_sweep(*arguments, folder=tmp_path).communicate(timeout=120)
    trials = read_summary(tmp_path)["trials"]
    assert [trial["state"] for trial in trials] == ["COMPLETE"] * 8, output
    assert [trial["number"] for trial in trials] == list(range(8))
    assert len({json.dumps(trial["parameters"]) for trial in trials}) == 8
    for path in tmp_path.glob("outputs/sentiment/sweep/*/[0-9]*/history.jsonl"):
        epochs = [json.loads(line)["epoch"] for line in path.read_text().splitlines()]
        assert epochs == [1, 2, 3, 4]  # resumed, not restarted
    # A run is started once, and once more for each time that the sweep was killed under it.
    assert sum(count_starts(tmp_path)) <= 8 + 2 * 3


def test_killed_runs_are_resumed_and_the_total_is_exact(tmp_path: Path) -> None:
    arguments = ["sweep=optuna", "sweep.trials=6", "sweep.pruner=none", "train.epochs=4"]
    process = start_sweep(*arguments, folder=tmp_path, FAKE_SECONDS="0.2")
    killed = set()
    while process.poll() is None and len(killed) < 3:
        for run in runs_of(process):
            if run.pid not in killed:
                time.sleep(0.3)
                run.send_signal(signal.SIGKILL) if run.is_running() else None
                killed.add(run.pid)
        time.sleep(0.05)
    output, _ = process.communicate(timeout=120)
    trials = read_summary(tmp_path)["trials"]
    assert len(trials) == 6, output
    assert all(trial["state"] == "COMPLETE" or "killed" in trial["reason"] for trial in trials)


def test_a_sweep_survives_the_loss_of_its_fork_server(tmp_path: Path) -> None:
    process = start_sweep("seed=1,2", "train.epochs=4", folder=tmp_path, FAKE_SECONDS="0.2")
    wait_for(lambda: count_starts(tmp_path))
    (run,) = runs_of(process)
    server = run.parent()
    assert server is not None
    server.kill()
    output, _ = process.communicate(timeout=120)
    assert count_states(tmp_path) == {"COMPLETE": 2}, output
    assert sum(count_starts(tmp_path)) == 3


def test_half_a_line_at_the_end_of_a_journal_is_removed(tmp_path: Path) -> None:
    journal = tmp_path / "study.journal"
    journal.write_bytes(b'{"a": 1}\n{"b": 2}\n{"c"')
    lock = JournalLock(journal)
    lock.acquire()
    lock.release()
    assert journal.read_bytes() == b'{"a": 1}\n{"b": 2}\n'
