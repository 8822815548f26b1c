"""A sweep in a process of its own with fake runs (fake_run.py), and what it writes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest
from conftest import main_here

from pipelines.core.paths import ROOT

SUPPORT = ROOT / "tests/support"

PRELOADED = ("hydra._internal.hydra", "pipelines.sweep.hydra_sweeper")
"""What main.py imports: each run does so too, since multiprocessing imports the main module."""


def sweep_overrides(*, preloaded: Sequence[str] = (), dead_after: float | None = None) -> list[str]:
    """Of a sweep with fake_run.py for runs, and without a leaderboard.

    preloaded   more modules that are imported before the runs are forked.
    dead_after  seconds without a heartbeat after which a trial is given up.
    """
    settings = {
        "script": str(SUPPORT / "fake_run.py"),
        "preloaded": f"[{','.join([*PRELOADED, *preloaded])}]",
        "leaderboard": "false",
    }
    if dead_after is not None:
        settings |= {"dead_after": f"{dead_after}", "heartbeat": f"{dead_after / 5}"}
    return [f"+hydra.sweeper.{name}={value}" for name, value in settings.items()]


def sweep_here(*arguments: str, folder: Path, **environment: str) -> tuple[int, str]:
    """`python main.py -m` with fake runs in this process; the exit code and the output.

    Quicker than `start_sweep`: the fork server of the runs is started once for all sweeps.
    """
    result = main_here("-m", *arguments, *sweep_overrides(), folder=folder, **environment)
    return result.returncode, result.stdout + result.stderr


def start_sweep(
    *arguments: str,
    folder: Path,
    preloaded: Sequence[str] = (),
    dead_after: float | None = None,
    **environment: str,
) -> subprocess.Popen[str]:
    """As `sweep_here`, but started in a process of its own. See sweep_overrides."""
    overrides = sweep_overrides(preloaded=preloaded, dead_after=dead_after)
    return subprocess.Popen(
        [sys.executable, str(ROOT / "main.py"), "-m", *arguments, *overrides],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{SUPPORT}", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def read_summary(folder: Path) -> dict[str, Any]:
    (path,) = folder.glob("outputs/sentiment/sweep/*/sweep.json")
    return json.loads(path.read_text())


def count_states(folder: Path) -> Counter[str]:
    return Counter(trial["state"] for trial in read_summary(folder)["trials"])


def count_starts(folder: Path) -> list[int]:
    """How often the run of each trial was started."""
    paths = sorted(folder.glob("outputs/sentiment/sweep/*/[0-9]*/starts.txt"))
    return [len(path.read_text().splitlines()) for path in paths]


def children_of(process: subprocess.Popen[str]) -> list[psutil.Process]:
    try:
        return psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def runs_of(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """Its child processes that lead a process group: runs do, the fork server does not."""
    return [one for one in children_of(process) if os.getpgid(one.pid) == one.pid]


def still_running(runs: list[psutil.Process]) -> list[psutil.Process]:
    return [run for run in runs if run.is_running() and run.status() != "zombie"]


def wait_for(condition: Callable[[], object]) -> None:
    for _ in range(3000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("the condition never became true")


@pytest.fixture
def run_sweep(tmp_path: Path) -> Callable[..., tuple[int, str]]:
    """Runs a sweep of fake runs in this process; returns the exit code and the output."""
    return lambda *arguments, **more: sweep_here(*arguments, folder=tmp_path, **more)
