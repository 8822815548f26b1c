"""Runs in processes of their own, and what is in their directories."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from pipelines.core.paths import ROOT

FEW_STAGES = ["export.saved_model=false", "evaluate.diagnostics=false"]


def start_main(*arguments: str, log: Path) -> subprocess.Popen[bytes]:
    """main.py in a process of its own, to be stopped; what it tells is appended to `log`."""
    with log.open("ab") as error:
        return subprocess.Popen([sys.executable, str(ROOT / "main.py"), *arguments], stderr=error)


def wait_for(condition: Callable[[], object], process: subprocess.Popen[bytes]) -> None:
    for _ in range(12000):
        if condition():
            return
        assert process.poll() is None, "it ended before it could be stopped"
        time.sleep(0.01)
    raise AssertionError("it never got so far")


def kill(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()


def read_metrics(directory: Path) -> dict:
    return json.loads((directory / "metrics.json").read_text())


def have_same_weights(one: Path, other: Path) -> bool:
    with np.load(one / "checkpoints/best.npz") as a, np.load(other / "checkpoints/best.npz") as b:
        names = [name for name in a.files if name != "state"]
        return sorted(a.files) == sorted(b.files) and all(np.array_equal(a[n], b[n]) for n in names)


def read_history(directory: Path) -> list[dict]:
    """Without what no two runs share: the time they took."""
    rows = [json.loads(line) for line in (directory / "history.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


def find_half_written(directory: Path) -> list[Path]:
    return [path for path in directory.rglob(".*") if path.name != ".hydra"]
