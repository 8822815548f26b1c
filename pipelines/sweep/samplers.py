"""Which point of a space comes next, and which run isn't worth going on with: Optuna's own."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipelines.core.errors import UserError
from pipelines.core.settings import SweepSettings

if TYPE_CHECKING:
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler

FIRST = 5
"""Trials before a sampler has anything to learn from, the settings as they are among them."""

REDUCTION = 3
"""Of hyperband: one in so many goes on to so many times as many evaluations."""

NEEDED = {"gp": "torch", "cmaes": "cmaes"}
"""Modules that a sampler takes, beside Optuna."""


def check_sampling(settings: SweepSettings) -> None:
    """Raises UserError for what can't go together, or isn't installed."""
    module = NEEDED.get(settings.sampler)
    if module is not None and importlib.util.find_spec(module) is None:
        raise UserError(
            f"sweep.sampler={settings.sampler} needs {module}, which is not installed: "
            f"pip install '.[{settings.sampler}]'"
        )
    several = len(settings.objectives) > 1
    if several and settings.pruner != "none":
        raise UserError(
            f"sweep.pruner={settings.pruner} goes with one objective; received "
            f"{', '.join(settings.objectives)}: use sweep.pruner=none"
        )
    if several and settings.sampler == "cmaes":
        raise UserError("sweep.sampler=cmaes goes with one objective: use tpe, gp or random")
    if settings.sampler != "grid" and settings.trials is None:
        raise UserError(f"sweep.trials: sweep.sampler={settings.sampler} needs their number")


def sampler_of(settings: SweepSettings, seed: int, maximize: Sequence[bool]) -> BaseSampler:
    """A sampler that knows nothing of its own: what it learns from is in the study.

    So that it may be made anew for each draw, with a seed of its own, and a study that is gone on
    with repeats nothing. Runs under way count as bad ones where several are made at a time, so that
    not all look at the same place.
    """
    import optuna.samplers

    if settings.sampler == "tpe":
        return optuna.samplers.TPESampler(
            seed=seed,
            n_startup_trials=FIRST,
            multivariate=True,
            group=True,
            constant_liar=settings.parallel > 1 or settings.storage is not None,
        )
    if settings.sampler == "gp":
        from pipelines.sweep.pruned_trials import GaussianProcess

        return GaussianProcess(seed=seed, n_startup_trials=FIRST, deterministic_objective=False)
    if settings.sampler == "cmaes":
        return optuna.samplers.CmaEsSampler(seed=seed, warn_independent_sampling=False)
    return optuna.samplers.RandomSampler(seed=seed)


def pruner_of(settings: SweepSettings, epochs: int) -> BasePruner:
    """The most evaluations that a run makes are `epochs`, where it evaluates once an epoch."""
    import optuna.pruners

    if settings.pruner == "median":
        return optuna.pruners.PercentilePruner(
            100 * settings.prune_share, n_startup_trials=settings.prune_after
        )
    if settings.pruner == "hyperband":
        return optuna.pruners.HyperbandPruner(
            min_resource=max(1, settings.prune_from),
            max_resource=max(2, epochs),
            reduction_factor=REDUCTION,
        )
    return optuna.pruners.NopPruner()
