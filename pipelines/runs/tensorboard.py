"""Learning curves for TensorBoard: each evaluation once, also after training has resumed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import tensorflow as tf

from pipelines.core.errors import UserError


class Curves:
    """Writes a point for each value and training step into the directory's event files."""

    def __init__(self, directory: Path):
        """Raises UserError if the path is no directory."""
        if directory.exists() and not directory.is_dir():
            raise UserError(f"{directory} must be a directory: move the file away")
        self.directory = directory
        self._writer: tf.summary.SummaryWriter | None = None

    def start_over(self, history: Iterable[Mapping[str, float]]) -> None:
        """Writes the history again: a process that was killed may have written points beyond it."""
        for events in self.directory.glob("events.out.tfevents.*"):
            events.unlink()
        for row in history:
            self.add(row)

    def add(self, row: Mapping[str, float]) -> None:
        """Adds the numbers of one evaluation, by name; `step` is its training step."""
        if self._writer is None:
            self._writer = tf.summary.create_file_writer(str(self.directory))
        with self._writer.as_default(step=row["step"]):
            for key, value in row.items():
                tf.summary.scalar(key.replace(".", "/"), value)
        self._writer.flush()
