"""The weights that a run keeps: the best by a validation score, or the mean of the best few."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping

import keras

from pipelines.core.files import atomic_write
from pipelines.core.settings import TrainSettings
from pipelines.runs import checkpoint
from pipelines.runs.directory import Run
from pipelines.train.state import TrainingState

log = logging.getLogger(__name__)

Scores = Mapping[str, tuple[float, bool]]
"""Scores by name: the value, and whether higher values are better."""


class BestWeights:
    """The best weights so far. They are files of the run; their score is in the training state."""

    def __init__(self, model: keras.Model, settings: TrainSettings, run: Run):
        self.model, self.settings, self.run = model, settings, run

    @property
    def _variables(self) -> dict[str, list[keras.Variable]]:
        return {"model": self.model.variables}

    def update(self, scores: Scores, state: TrainingState) -> str:
        """Saves the model's present weights if their scores are the best so far.

        Returns the name of the score that decides.
        """
        name, value, higher = self._monitored_score(scores)
        if self._is_better(value, higher, state):
            state.best, state.best_step = value, state.step
            state.evaluations_without_improvement = 0
            checkpoint.save(self.run.best, self._variables, {"step": state.step})
        else:
            state.evaluations_without_improvement += 1
        self._save_for_averaging(value, higher, state)
        return name

    def _monitored_score(self, scores: Scores) -> tuple[str, float, bool]:
        """The score that decides: its name, its value, and whether higher is better."""
        name = self.settings.monitor or next(iter(scores))
        # A score may be undefined on a small split.
        return name, *scores.get(name, (math.nan, True))

    def _is_better(self, value: float, higher: bool, state: TrainingState) -> bool:
        best = state.best
        # Anything is better than an undefined score.
        return best is None or math.isnan(best) or (value > best if higher else value < best)

    def _save_for_averaging(self, value: float, higher: bool, state: TrainingState) -> None:
        """Saves the weights if they are among those to be averaged; deletes the worst of those."""
        most = self.settings.checkpoint_averaging
        if most == 1 or math.isnan(value):
            return
        # A restored state has lists where tuples were.
        others = [(float(score), int(step)) for score, step in state.best_checkpoints]
        ranked = sorted([*others, (value, state.step)], key=lambda pair: pair[0], reverse=higher)
        if (value, state.step) in ranked[:most]:
            checkpoint.save(
                self.run.best_checkpoint(state.step), self._variables, {"step": state.step}
            )
        state.best_checkpoints = ranked[:most]
        for _, step in ranked[most:]:
            self.run.best_checkpoint(step).unlink(missing_ok=True)

    def restore_best(self, state: TrainingState, evaluate: Callable[[], Scores]) -> None:
        """Gives the model its best weights and saves it as model.keras.

        evaluate  scores the model's present weights: the mean of the best is only taken if it
                  scores better than they.
        """
        if not self._restore_mean(state, evaluate):
            checkpoint.restore(self.run.best, self._variables)
        with atomic_write(self.run.model) as temporary:
            self.model.save(temporary)

    def _restore_mean(self, state: TrainingState, evaluate: Callable[[], Scores]) -> bool:
        """Gives the model the mean of the best checkpoints. Returns whether that is better."""
        if len(state.best_checkpoints) < 2:
            return False
        steps = [step for _, step in state.best_checkpoints]
        checkpoint.restore_mean([self.run.best_checkpoint(step) for step in steps], self._variables)
        name, value, higher = self._monitored_score(evaluate())
        better = self._is_better(value, higher, state)
        log.info(
            "The mean of the weights of steps %s has validation %s %.4f: %s.",
            ", ".join(map(str, steps)),
            name,
            value,
            "used" if better else "the best alone is kept",
        )
        return better
