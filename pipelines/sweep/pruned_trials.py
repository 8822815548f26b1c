"""Values for pruned trials, imputed from finished ones, for samplers that learn from values."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from statistics import median
from typing import TYPE_CHECKING, Any

import optuna
from optuna.samplers import BaseSampler, GPSampler
from optuna.trial import TrialState

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial


class ImputePruned(BaseSampler):
    """Mixin before a sampler class: its sampler sees pruned trials as finished ones.

    Optuna's Gaussian process ignores pruned trials, and would know little where most are pruned.
    """

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        imputed, trial = _copy_with_imputed_values(study, trial)
        return super().infer_relative_search_space(imputed, trial)  # type: ignore[safe-super]

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        imputed, trial = _copy_with_imputed_values(study, trial)
        return super().sample_relative(imputed, trial, search_space)  # type: ignore[safe-super]


class ImputingGPSampler(ImputePruned, GPSampler):
    """Optuna's Gaussian process, which learns from pruned trials too."""


def _copy_with_imputed_values(
    study: optuna.Study, trial: FrozenTrial
) -> tuple[optuna.Study, FrozenTrial]:
    """A copy of the study in memory, with imputed values, and the trial's counterpart in it.

    All trials are copied, in their order: Hyperband passes a study whose public `get_trials` has
    only the trials of one bracket, so the private method is needed.
    """
    trials = study._get_trials(deepcopy=False)
    maximize = study.directions[0] == optuna.study.StudyDirection.MAXIMIZE
    imputed = optuna.create_study(directions=study.directions)
    imputed.add_trials(impute_pruned(trials, maximize=maximize))
    index = [each.number for each in trials].index(trial.number)
    return imputed, imputed.get_trials(deepcopy=False)[index]


def impute_pruned(trials: Sequence[FrozenTrial], *, maximize: bool) -> list[FrozenTrial]:
    """The trials, with pruned ones completed by a value that they might have reached.

    The value is the best that the trial had evaluated, plus the median of what finished trials
    gained from there on, that is, after as many evaluations. It is never better than the best
    finished trial. Without a finished trial, nothing is imputed.
    """
    finished = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    better, worse = (max, min) if maximize else (min, max)

    def best_until(trial: FrozenTrial, last: float) -> float | None:
        """The best finite evaluation up to step `last`; None without any."""
        values = [value for step, value in trial.intermediate_values.items() if step <= last]
        return better(filter(math.isfinite, values), default=None)

    def impute(trial: FrozenTrial) -> FrozenTrial:
        last = max(trial.intermediate_values, default=0)
        best = best_until(trial, last)
        if trial.state != TrialState.PRUNED or best is None:
            return trial
        finals = [(other.values[0], best_until(other, last)) for other in finished]
        gains = [final - reached for final, reached in finals if reached is not None]
        imputed = copy.copy(trial)
        imputed.state = TrialState.COMPLETE
        value = best + (median(gains) if gains else 0.0)
        imputed.values = [worse(value, better(final for final, _ in finals))]
        return imputed

    return [impute(trial) for trial in trials] if finished else list(trials)
