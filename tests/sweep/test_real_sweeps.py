"""Sweeps of real runs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, Command
from sweep_process import (
    count_states,
    read_summary,
    wait_for,
)


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
    assert read_summary(tmp_path)["trials"][int(metrics.parent.name)]["values"] == [value]
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
    assert count_states(tmp_path) == {"COMPLETE": 2}
    (log, *_) = sorted(tmp_path.glob("outputs/sentiment/sweep/*/logs/*.log"))
    assert "Going on at epoch" in log.read_text()
