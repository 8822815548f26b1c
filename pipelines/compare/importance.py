"""Which settings matter: how much of the scores' variance each explains (fANOVA, Hutter 2014)."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pipelines.compare.ranking import SEED, Board
from pipelines.compare.run_records import Record

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

FEWEST = 6
"""Runs below which nothing can be said."""

SEVERAL = 5
"""Different numbers above which a setting is taken as a quantity, not as so many choices."""


def importances(board: Board) -> dict[str, float]:
    """Shares that sum to 1, the largest first; empty where the runs are too few or all alike.

    Pruned runs count by what they had reached: to have been stopped says something of a setting.
    """
    pairs = [*(pair for one in board.scored for pair in board.values(one)), *board.pruned]
    runs, values = [record for record, _ in pairs], [value for _, value in pairs]
    keys = [*board.searched]
    if len({record.seed for record in runs}) > 1:
        keys.append(SEED)
    if len(runs) < FEWEST or not keys or len(set(values)) == 1:
        return {}
    import optuna
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    distributions = {key: _distribution([_text(record, key) for record in runs]) for key in keys}
    study = optuna.create_study(direction="maximize" if board.maximize else "minimize")
    for record, value in zip(runs, values, strict=True):
        params = {key: _value(_text(record, key), distributions[key]) for key in keys}
        study.add_trial(
            optuna.create_trial(params=params, distributions=distributions, value=value)
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0))
    return {key: float(share) for key, share in found.items() if math.isfinite(share)}


def quantity(texts: Sequence[str]) -> list[float] | None:
    """The numbers, where a setting has so many that it is one; None for a choice."""
    try:
        numbers = [float(text) for text in texts]
    except ValueError:
        return None
    return numbers if len(set(numbers)) > SEVERAL and all(map(math.isfinite, numbers)) else None


def is_wide(numbers: Sequence[float]) -> bool:
    """Whether a logarithmic scale shows them better."""
    return min(numbers) > 0 and max(numbers) / min(numbers) > 10


def _text(record: Record, key: str) -> str:
    return str(record.seed) if key == SEED else record.setting(key)


def _distribution(texts: Sequence[str]) -> BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    numbers = quantity(texts)
    if numbers is None:
        return CategoricalDistribution(sorted(set(texts)))
    return FloatDistribution(min(numbers), max(numbers), log=is_wide(numbers))


def _value(text: str, distribution: BaseDistribution) -> Any:
    from optuna.distributions import CategoricalDistribution

    return text if isinstance(distribution, CategoricalDistribution) else float(text)
