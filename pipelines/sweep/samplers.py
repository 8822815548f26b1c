"""Optuna's samplers, which choose points of a space, and its pruners, which stop bad runs early."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

from pipelines.core.errors import UserError
from pipelines.core.settings import SweepSettings

if TYPE_CHECKING:
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler

STARTUP_TRIALS = 5
"""Random trials before a sampler's model is used, including the one with the defaults."""

REDUCTION_FACTOR = 3
"""Hyperband continues one of this many runs, with this many times the evaluations."""

EXTRA_MODULES = {"gp": "torch", "cmaes": "cmaes"}
"""Modules that a sampler needs in addition to Optuna."""


def check_sampling(settings: SweepSettings) -> None:
    """Raises UserError for settings that exclude each other, or a module that isn't installed."""
    module = EXTRA_MODULES.get(settings.sampler)
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


def create_sampler(settings: SweepSettings, seed: int) -> BaseSampler:
    """A sampler without a state of its own: it learns only from the trials in the study.

    So each draw can have a new sampler with its own seed, and a resumed study repeats no draws.
    With concurrent runs, TPE treats running trials as bad ones (the "constant liar"), so that
    concurrent draws differ.
    """
    import optuna.samplers

    if settings.sampler == "tpe":
        return optuna.samplers.TPESampler(
            seed=seed,
            n_startup_trials=STARTUP_TRIALS,
            multivariate=True,
            group=True,
            constant_liar=settings.parallel > 1 or settings.storage is not None,
        )
    if settings.sampler == "gp":
        from pipelines.sweep.pruned_trials import ImputingGPSampler

        return ImputingGPSampler(
            seed=seed, n_startup_trials=STARTUP_TRIALS, deterministic_objective=False
        )
    if settings.sampler == "cmaes":
        return optuna.samplers.CmaEsSampler(seed=seed, warn_independent_sampling=False)
    return optuna.samplers.RandomSampler(seed=seed)


def create_pruner(settings: SweepSettings, epochs: int) -> BasePruner:
    """The pruner. A run evaluates at most `epochs` times, if it evaluates once an epoch."""
    import optuna.pruners

    if settings.pruner == "median":
        return optuna.pruners.PercentilePruner(
            100 * settings.prune_share, n_startup_trials=settings.prune_after
        )
    if settings.pruner == "hyperband":
        return optuna.pruners.HyperbandPruner(
            min_resource=max(1, settings.prune_from),
            max_resource=max(2, epochs),
            reduction_factor=REDUCTION_FACTOR,
        )
    return optuna.pruners.NopPruner()
