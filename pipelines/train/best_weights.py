"""Which weights a run keeps: the best by a validation score, or the mean of some of the best."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import keras

from pipelines.core.files import atomic_write
from pipelines.core.settings import TrainSettings
from pipelines.runs import checkpoint
from pipelines.runs.directory import Run

if TYPE_CHECKING:
    from pipelines.train.state import State

log = logging.getLogger(__name__)

Scores = Mapping[str, tuple[float, bool]]
"""By name, a value and whether higher ones are better."""


class BestWeights:
    """The best weights so far lie beside the checkpoints; how good they are is in the state."""

    def __init__(self, model: keras.Model, settings: TrainSettings, run: Run):
        self.model, self.settings, self.run = model, settings, run

    @property
    def _variables(self) -> dict[str, list[keras.Variable]]:
        return {"model": self.model.variables}

    def offer(self, scores: Scores, state: State) -> str:
        """The model's weights as they are now, with these scores. Returns the one that decides."""
        name, value, higher = self._judged_by(scores)
        if self._is_better(value, higher, state):
            state.best, state.best_step, state.stale = value, state.step, 0
            checkpoint.save(self.run.best, self._variables, {"step": state.step})
        else:
            state.stale += 1
        self._keep(value, higher, state)
        return name

    def _judged_by(self, scores: Scores) -> tuple[str, float, bool]:
        """The score that decides: name, value, and if higher is better."""
        name = self.settings.monitor or next(iter(scores))
        # A score may be undefined on a small split.
        return name, *scores.get(name, (math.nan, True))

    def _is_better(self, value: float, higher: bool, state: State) -> bool:
        best = state.best
        # Anything is better than an undefined score.
        return best is None or math.isnan(best) or (value > best if higher else value < best)

    def _keep(self, value: float, higher: bool, state: State) -> None:
        """Keeps the weights if they are among those to be averaged."""
        most = self.settings.checkpoint_averaging
        if most == 1 or math.isnan(value):
            return
        # asdict makes lists of tuples
        rest = [(float(score), int(step)) for score, step in state.kept]
        ranked = sorted([*rest, (value, state.step)], key=lambda one: one[0], reverse=higher)
        if (value, state.step) in ranked[:most]:
            checkpoint.save(self.run.kept(state.step), self._variables, {"step": state.step})
        state.kept = ranked[:most]
        for _, step in ranked[most:]:
            self.run.kept(step).unlink(missing_ok=True)

    def leave(self, state: State, scored: Callable[[], Scores]) -> None:
        """Leaves the model with its best weights, in model.keras too.

        scored  measures the model as it is: the mean of the best is taken only if it is better.
        """
        if not self._has_better_mean(state, scored):
            checkpoint.restore(self.run.best, self._variables)
        with atomic_write(self.run.model) as temporary:
            self.model.save(temporary)

    def _has_better_mean(self, state: State, scored: Callable[[], Scores]) -> bool:
        """Whether it has; the model is left with the mean."""
        if len(state.kept) < 2:
            return False
        steps = [step for _, step in state.kept]
        checkpoint.restore_mean([self.run.kept(step) for step in steps], self._variables)
        name, value, higher = self._judged_by(scored())
        better = self._is_better(value, higher, state)
        log.info(
            "The mean of the weights of updates %s has validation %s %.4f: %s.",
            ", ".join(map(str, steps)),
            name,
            value,
            "kept" if better else "the best alone is kept",
        )
        return better
