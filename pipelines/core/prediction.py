"""How stages ask a model for predictions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from pipelines.core.contracts import Batch, Codec
from pipelines.core.task import Task
from pipelines.core.types import Nest


class Predict(Protocol):
    """Predicts a batch: predictions by name, of a task and its codec.

    raw  columns that the batch's inputs need besides the task's fields.
    """

    task: Task
    codec: Codec
    raw: tuple[str, ...]

    def __call__(self, batch: Batch) -> Mapping[str, Nest]: ...
