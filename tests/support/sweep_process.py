"""A sweep in a process of its own whose runs are stand-ins (fake_run.py), and what it leaves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from pipelines.core.paths import ROOT


def sweep(*arguments: str, folder: Path, **environment: str) -> subprocess.Popen[str]:
    """`python main.py -m` with runs that are stand-ins."""
    return subprocess.Popen(
        [sys.executable, str(ROOT / "tests/support" / "fake_sweep.py"), "-m", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def summary(folder: Path) -> dict[str, Any]:
    (path,) = folder.glob("outputs/sentiment/sweep/*/sweep.json")
    return json.loads(path.read_text())


def states(folder: Path) -> Counter[str]:
    return Counter(trial["state"] for trial in summary(folder)["trials"])


def starts(folder: Path) -> list[int]:
    """By trial, how often its run was started."""
    paths = sorted(folder.glob("outputs/sentiment/sweep/*/[0-9]*/starts.txt"))
    return [len(path.read_text().splitlines()) for path in paths]


def children_of(process: subprocess.Popen[str]) -> list[psutil.Process]:
    try:
        return psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def runs_of(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """Those of its processes that lead a group of their own: runs do, their server does not."""
    return [one for one in children_of(process) if os.getpgid(one.pid) == one.pid]


def alive(runs: list[psutil.Process]) -> list[psutil.Process]:
    return [run for run in runs if run.is_running() and run.status() != "zombie"]


def wait_for(condition: Callable[[], object]) -> None:
    for _ in range(3000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it never got so far")
