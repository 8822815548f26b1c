"""What runs that were stopped early might have reached, for samplers that learn from values."""

from __future__ import annotations

import copy
import math
from collections.abc import Container, Sequence
from statistics import median
from typing import TYPE_CHECKING, Any

import optuna
from optuna.samplers import BaseSampler, GPSampler
from optuna.trial import TrialState

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial


class Foreseeing(BaseSampler):
    """Before a sampler among a class's bases: it sees pruned trials as finished ones.

    Optuna's Gaussian process leaves pruned trials out, and would know little where most are.
    """

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return super().infer_relative_search_space(foreseen(study), trial)  # type: ignore[safe-super]

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return super().sample_relative(foreseen(study), trial, search_space)  # type: ignore[safe-super]


class GaussianProcess(Foreseeing, GPSampler):
    """Optuna's, that learns from pruned trials too."""


class _Seen(optuna.Study):
    """A study in its own storage, with other trials than are there."""

    def __init__(self, study: optuna.Study, trials: Sequence[FrozenTrial]):
        super().__init__(study.study_name, study._storage, study.sampler, study.pruner)
        self._seen = trials

    def _get_trials(
        self,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
        use_cache: bool = False,
    ) -> list[FrozenTrial]:
        found = [trial for trial in self._seen if states is None or trial.state in states]
        return copy.deepcopy(found) if deepcopy else found


def foreseen(study: optuna.Study) -> optuna.Study:
    """The study with its pruned trials finished; itself if none is pruned or none finished.

    To what a trial had reached is added the median of what finished ones gained from there on,
    after as many evaluations; but it is never foreseen to be better than the best of them.
    """
    trials = study._get_trials(deepcopy=False)
    finished = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    if not finished or all(trial.state != TrialState.PRUNED for trial in trials):
        return study
    rising = study.direction == optuna.study.StudyDirection.MAXIMIZE
    better, worse = (max, min) if rising else (min, max)

    def reached(trial: FrozenTrial, last: float) -> float | None:
        """The best until then; None if there was nothing but what diverged."""
        values = [value for step, value in trial.intermediate_values.items() if step <= last]
        return better(filter(math.isfinite, values), default=None)

    def end(trial: FrozenTrial) -> FrozenTrial:
        last = max(trial.intermediate_values, default=0)
        so_far = reached(trial, last)
        if trial.state != TrialState.PRUNED or so_far is None:
            return trial
        then = [(one.values[0], reached(one, last)) for one in finished]
        gains = [value - before for value, before in then if before is not None]
        ended = copy.copy(trial)
        ended.state = TrialState.COMPLETE
        value = so_far + (median(gains) if gains else 0.0)
        ended.values = [worse(value, better(value for value, _ in then))]
        return ended

    return _Seen(study, [end(trial) for trial in trials])
