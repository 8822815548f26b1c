"""The state that training resumes from."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from pydantic import NonNegativeInt

from pipelines.core.saved_files import typed
from pipelines.core.types import JsonObject
from pipelines.runs.directory import HistoryRow

FORMER_NAMES = {
    "stale": "evaluations_without_improvement",
    "seconds": "training_seconds",
    "saving": "checkpoint_seconds",
    "clipped": "clipped_steps",
    "counted": "steps_since_evaluation",
    "kept": "best_checkpoints",
}
"""Former names of fields, in checkpoints of earlier versions."""


@dataclass
class TrainingState:
    """The progress of training.

    batch             the next batch of `epoch`, both from 0.
    step              training steps so far.
    best, best_step   the best validation score so far, and the step at which it was measured.
    training_seconds, checkpoint_seconds  time spent in training and, apart from that, in writing
                      checkpoints.
    clipped_steps, steps_since_evaluation  training steps since the last evaluation: those whose
                      gradient was clipped, and all of them.
    best_checkpoints  score and step of the checkpoints that may be averaged, the best first.
    history           a row for each evaluation.
    """

    epoch: NonNegativeInt = 0
    batch: NonNegativeInt = 0
    step: NonNegativeInt = 0
    best: float | None = None
    best_step: NonNegativeInt = 0
    evaluations_without_improvement: NonNegativeInt = 0
    training_seconds: float = 0.0
    checkpoint_seconds: float = 0.0
    finished: bool = False
    clipped_steps: NonNegativeInt = 0
    steps_since_evaluation: NonNegativeInt = 0
    best_checkpoints: list[tuple[float, NonNegativeInt]] = dataclasses.field(default_factory=list)
    history: list[HistoryRow] = dataclasses.field(default_factory=list)

    @classmethod
    def from_checkpoint(cls, saved: JsonObject) -> TrainingState:
        """The state that a checkpoint holds as plain values. ValueError if it is none."""
        state = typed(cls, {FORMER_NAMES.get(name, name): value for name, value in saved.items()})
        if not all("step" in row for row in state.history):
            raise ValueError("history: each row must have its step")
        return state
