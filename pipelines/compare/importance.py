"""Importance of settings: the share of the scores' variance that each explains (fANOVA).

Hutter, Hoos & Leyton-Brown 2014, "An Efficient Approach for Assessing Hyperparameter Importance".
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipelines.compare.ranking import SEED, Ranking
from pipelines.compare.run_records import Record

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

MIN_RUNS = 6
"""Runs that an estimate needs."""

MAX_CHOICES = 5
"""Different numbers up to which a setting counts as a choice, not as a quantity."""


def compute_importances(ranking: Ranking) -> dict[str, float]:
    """Shares by setting, which sum to 1, the largest first; empty for too few or equal runs.

    Pruned runs count with the best value that they had reached: that they were pruned is
    information about their settings.
    """
    pairs = [
        *(pair for configuration in ranking.scored for pair in ranking.values(configuration)),
        *ranking.pruned,
    ]
    runs, values = [record for record, _ in pairs], [value for _, value in pairs]
    keys = [*ranking.searched]
    if len({record.seed for record in runs}) > 1:
        keys.append(SEED)
    if len(runs) < MIN_RUNS or not keys or len(set(values)) == 1:
        return {}
    import optuna
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    distributions = {key: _distribution([_text(record, key) for record in runs]) for key in keys}
    study = optuna.create_study(direction="maximize" if ranking.maximize else "minimize")
    for record, value in zip(runs, values, strict=True):
        params = {key: _value(_text(record, key), distributions[key]) for key in keys}
        study.add_trial(
            optuna.create_trial(params=params, distributions=distributions, value=value)
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        shares = get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0))
    return {key: float(share) for key, share in shares.items() if math.isfinite(share)}


def parse_quantity(texts: Sequence[str]) -> list[float] | None:
    """The values of a setting as numbers, if it is a quantity; None if it is a choice."""
    try:
        numbers = [float(text) for text in texts]
    except ValueError:
        return None
    return numbers if len(set(numbers)) > MAX_CHOICES and all(map(math.isfinite, numbers)) else None


def needs_log_scale(numbers: Sequence[float]) -> bool:
    """Whether positive numbers span more than a factor of ten."""
    return min(numbers) > 0 and max(numbers) / min(numbers) > 10


def _text(record: Record, key: str) -> str:
    return str(record.seed) if key == SEED else record.setting(key)


def _distribution(texts: Sequence[str]) -> BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    numbers = parse_quantity(texts)
    if numbers is None:
        return CategoricalDistribution(sorted(set(texts)))
    return FloatDistribution(min(numbers), max(numbers), log=needs_log_scale(numbers))


def _value(text: str, distribution: BaseDistribution) -> str | float:
    from optuna.distributions import CategoricalDistribution

    return text if isinstance(distribution, CategoricalDistribution) else float(text)
