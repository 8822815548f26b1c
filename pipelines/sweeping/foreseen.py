"""What runs that were stopped early might have reached, for samplers that learn from values."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, Any

import optuna
from optuna.samplers import BaseSampler
from optuna.trial import TrialState

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial


class Foreseeing(BaseSampler):
    """A sampler that sees pruned trials as finished ones, with a foreseen value.

    Optuna's Gaussian process leaves pruned trials out, and would know little where most are.
    """

    def __init__(self, sampler: BaseSampler):
        self.sampler = sampler

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        self._seen = foreseen(study)
        return self.sampler.infer_relative_search_space(self._seen, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self.sampler.sample_relative(self._seen, trial, search_space)

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        return self.sampler.sample_independent(self._seen, trial, param_name, param_distribution)


def foreseen(study: optuna.Study) -> optuna.Study:
    """The study with its pruned trials finished; itself if there are none.

    To what a trial had reached is added the median of what finished ones gained from there on,
    after as many evaluations.
    """
    trials = study.get_trials(deepcopy=False)
    finished = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    if not finished or all(trial.state != TrialState.PRUNED for trial in trials):
        return study
    best = max if study.direction == optuna.study.StudyDirection.MAXIMIZE else min

    def reached(trial: FrozenTrial, steps: int) -> float:
        return float(best(v for step, v in trial.intermediate_values.items() if step <= steps))

    seen = optuna.create_study(direction=study.direction)
    for trial in trials:
        if trial.state == TrialState.PRUNED and trial.intermediate_values:
            last = max(trial.intermediate_values)
            gains = [
                float(one.value) - reached(one, last)
                for one in finished
                if one.value is not None and min(one.intermediate_values, default=last + 1) <= last
            ]
            trial = optuna.trial.create_trial(
                params=trial.params,
                distributions=trial.distributions,
                value=reached(trial, last) + (median(gains) if gains else 0.0),
            )
        seen.add_trial(trial)
    return seen
