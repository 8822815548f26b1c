"""What training continues from."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any


@dataclass
class State:
    """Where training stands. `batch` is the next batch of `epoch`, both from 0.

    seconds, saving  of training and, beside that, of writing checkpoints until the last one.
    clipped, counted  updates since the last evaluation: those whose gradient was clipped, and all.
    kept  score and update of the checkpoints that may be averaged, the best first.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    best: float | None = None
    best_step: int = 0
    stale: int = 0
    seconds: float = 0.0
    saving: float = 0.0
    finished: bool = False
    clipped: int = 0
    counted: int = 0
    kept: list[tuple[float, int]] = dataclasses.field(default_factory=list)
    history: list[dict[str, Any]] = dataclasses.field(default_factory=list)
