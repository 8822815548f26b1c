"""Settings of runs with several workers, and comparisons of such runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from whole_runs import read_history

NO_DROPOUT = ["task.embedding.dropout=0", "task.embedding.word_dropout=0"]
"""Workers draw different random numbers, so runs are comparable only without any."""


MANY_EPOCHS = [
    "train.epochs=40",
    "train.checkpoint_seconds=0.000001",
    "train.checkpoint_averaging=2",
]


def tf_config(index: int, *addresses: str, job: str = "worker") -> str:
    task = {"type": job, "index": index}
    return json.dumps({"cluster": {job: addresses}, "task": task})


def assert_close(one: Path, other: Path, tolerance: float = 1e-5) -> None:
    """Losses of training and validation, and scores, row by row."""
    rows = list(zip(read_history(one), read_history(other), strict=True))
    assert rows
    for a, b in rows:
        for name in ("epoch", "step", "train.loss", "validation.loss", "validation.perplexity"):
            if name in a:
                assert a[name] == pytest.approx(b[name], rel=tolerance, abs=tolerance), name


def has_evaluated(directory: Path) -> Callable[[], bool]:
    """A condition: the run has evaluated three times."""
    file = directory / "history.jsonl"
    return lambda: file.exists() and len(file.read_text().splitlines()) >= 3
