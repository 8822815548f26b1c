"""A run's directory: its files, and how they are written.

.hydra/ config.yaml   the configuration
codec/                what was fitted on data
checkpoints/          last.npz (to resume from), older ones last.1.npz ..., best.npz
history.jsonl         a line for each evaluation during training
model.keras saved_model/ exports/ metrics.json report.html plots/ tensorboard/
predictions.jsonl     for people; predictions.npz is for comparing a later run with this one
"""

from __future__ import annotations

import fcntl
import importlib
import os
import pkgutil
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.core.errors import UserError
from pipelines.core.files import ASIDE, atomic_write
from pipelines.core.plain_text import json_text
from pipelines.core.saved_files import check_regular, read_json, read_json_lines, reading, typed
from pipelines.runs.metrics import RunMetrics

if TYPE_CHECKING:
    import keras


AGAIN = "delete it and run again"

HistoryRow = dict[str, int | float]
"""Numbers of an evaluation during training, by name."""


class Run:
    """Paths in a run's directory. Each file is written as a whole or not at all."""

    def __init__(self, directory: str | Path):
        self.directory = Path(directory)
        self.config = self.directory / "config.yaml"
        self.codec = self.directory / "codec"
        self.last = self.directory / "checkpoints" / "last.npz"
        self.best = self.directory / "checkpoints" / "best.npz"
        self.history = self.directory / "history.jsonl"
        self.model = self.directory / "model.keras"
        self.saved_model = self.directory / "saved_model"
        self.card = self.saved_model / "assets.extra" / "MODEL_CARD.md"
        self.exports = self.directory / "exports"
        self.metrics = self.directory / "metrics.json"
        self.predictions = self.directory / "predictions.jsonl"
        self.prediction_arrays = self.directory / "predictions.npz"
        self.report = self.directory / "report.html"
        self.tensorboard = self.directory / "tensorboard"

    def checkpoint(self, age: int) -> Path:
        """The latest checkpoint (age 0), the one before it (age 1), ..."""
        return self.last.with_name(f"last.{age}.npz") if age else self.last

    def best_checkpoint(self, step: int) -> Path:
        """The weights of a training step, one of the best that are averaged."""
        return self.directory / "checkpoints" / f"kept_{step}.npz"

    def load_metrics(self) -> RunMetrics:
        """The metrics of earlier stages; empty before the first. UserError if they are damaged."""
        if not self.metrics.exists():
            return RunMetrics()
        remedy = f"delete it and run mode=evaluate run={self.directory}"
        with reading(self.metrics, remedy):
            return typed(RunMetrics, read_json(self.metrics, remedy))

    def save_metrics(self, metrics: RunMetrics) -> None:
        text = json_text(metrics.to_json(), indent=2)
        with atomic_write(self.metrics) as temporary:
            temporary.write_text(text + "\n", encoding="utf-8")

    def read_history(self) -> list[HistoryRow]:
        if not self.history.exists():
            return []
        with reading(self.history, AGAIN):
            return [typed(HistoryRow, row) for row in read_json_lines(self.history, AGAIN)]

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Locks the directory for this process. Raises UserError if another one has the lock.

        A process that was killed may have left files half-written, which are removed, and files
        moved aside for new ones, which are put back.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        with (self.directory / "run.log").open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(f"another process is using {self.directory}") from None
            for leftover in [*self.directory.glob(".[0-9]*"), *self.last.parent.glob(".[0-9]*")]:
                shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
            for aside in self.directory.glob(f"{ASIDE}*"):
                place = aside.with_name(aside.name.removeprefix(ASIDE))
                shutil.rmtree(aside) if place.exists() else os.replace(aside, place)
            yield


def load_model(run: Run) -> keras.Model:
    """The run's model with its best weights. Raises UserError if it is missing or damaged."""
    if not run.model.exists():
        raise UserError(
            f"{run.directory} holds no trained model (model.keras): resume with "
            f"mode=train run={run.directory}"
        )
    import keras

    import models

    for module in pkgutil.iter_modules(models.__path__):
        importlib.import_module(f"models.{module.name}")  # registers its layers

    with reading(run.model, f"resume with mode=train run={run.directory}"):
        check_regular(run.model)
        return keras.models.load_model(run.model)
