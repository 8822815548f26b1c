"""Training that is killed again and again, at random: nothing of it can be told from the weights.

A checkpoint is written after each update here, so that kills hit updates, evaluations and the
writing of checkpoints alike. Moments are drawn anew each time: what fails is told with its seed.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import QUICK as SENTIMENT
from tiny_captioning import QUICK as CAPTIONING
from tiny_translation import QUICK as TRANSLATION
from whole_runs import find_half_written, have_same_weights, read_history, read_metrics

from pipelines.core.paths import ROOT
from pipelines.runs.directory import Run, load_model

KILLS = 9
"""Of each task and cell: more than fifty in all."""


def longest(whole: Path) -> float:
    """Seconds from the start of training to a kill, such that so many of them don't see its end.

    Each start traces its graphs anew, before its first update.
    """
    rows = (whole / "history.jsonl").read_text().splitlines()
    seconds = [json.loads(row)["seconds"] for row in rows]
    updates = (seconds[-1] - seconds[0]) * len(seconds) / (len(seconds) - 1)
    tracing = seconds[-1] - updates
    return 1.5 * tracing + updates / KILLS


class Trained:
    """A run in processes of their own, of which each goes on where the one before was killed."""

    def __init__(self, directory: Path, overrides: list[str], script: Path):
        self.directory, self.script = directory, script
        self.log = directory.with_name(f"{directory.name}.log")
        self.overrides = [*overrides, f"hydra.run.dir={directory}"]

    def start(self) -> subprocess.Popen[bytes]:
        begun = (self.directory / "config.yaml").exists()
        asked = ["mode=train", f"run={self.directory}"] if begun else self.overrides
        with self.log.open("ab") as log:
            command = [sys.executable, str(self.script), *asked]
            environment = {**os.environ, "PYTHONPATH": str(ROOT)}
            return subprocess.Popen(command, stderr=log, env=environment)

    def finish(self) -> None:
        assert self.start().wait(timeout=600) == 0, self.log.read_text()[-2000:]

    def killed_after(self, seconds: float) -> bool:
        """Whether it was killed in training, `seconds` after it began; else it has finished."""
        before = self.log.read_text().count(" parameters") if self.log.exists() else 0
        process = self.start()
        while self.log.read_text().count(" parameters") == before:
            assert process.poll() is None, self.log.read_text()[-2000:]
            time.sleep(0.02)
        time.sleep(seconds)
        process.send_signal(signal.SIGKILL)
        process.wait()
        return not (self.directory / "model.keras").exists()


@pytest.mark.slow
@pytest.mark.parametrize("model", ["lstm", "bi_gru"])
@pytest.mark.parametrize("task", ["sentiment", "translation", "captioning"])
def test_a_run_killed_at_random_moments_ends_with_the_weights_of_one_that_was_not(
    task: str, model: str, reviews: Path, pairs: list[str], tmp_path: Path
) -> None:
    data = {
        "sentiment": [*SENTIMENT, "data=text_files", f"data.path={reviews}"],
        "translation": [*TRANSLATION, *pairs],
        "captioning": CAPTIONING,
    }[task]
    overrides = [
        f"task={task}", f"model={model}", *data, "train.epochs=90", "train.patience=null",
        "train.checkpoint_seconds=0.000001", "train.checkpoint_averaging=2",
        "evaluate.diagnostics=false", "export.saved_model=false",
    ]  # fmt: skip
    # The embeddings are small, and yet must be updated by rows as large ones are.
    script = ROOT / ("tests/support/by_rows.py" if model == "bi_gru" else "main.py")
    whole = Trained(tmp_path / "whole", overrides, script)
    whole.finish()
    seed = time.time_ns()
    moments = random.Random(seed)
    hurt, most = Trained(tmp_path / "hurt", overrides, script), longest(whole.directory)
    kills = 0
    for _ in range(KILLS):
        if not hurt.killed_after(moments.uniform(0, most)):
            break
        kills += 1
    hurt.finish()
    print(f"{kills} kills in training, seed {seed}")
    assert kills >= KILLS - 1, "it was too quick to be killed often"
    assert have_same_weights(whole.directory, hurt.directory), seed
    assert read_history(whole.directory) == read_history(hurt.directory), seed
    assert read_metrics(whole.directory)["test"] == read_metrics(hurt.directory)["test"], seed
    assert not find_half_written(hurt.directory), seed
    models = [load_model(Run(trained.directory)) for trained in (whole, hurt)]
    for one, other in zip(*(made.variables for made in models), strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy(), err_msg=str(seed))
