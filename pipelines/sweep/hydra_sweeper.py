"""Hydra's side of a sweep: everything is read and checked, then the trials begin.

Hydra takes plugins from packages named hydra_plugins only; ours say they are of one, so that they
can lie here. Nothing here imports TensorFlow or, before all is checked, Optuna.
"""

from __future__ import annotations

import logging
import subprocess
import sys
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus, configure_log
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from pipelines.config.restore import resolved
from pipelines.config.schema import Config, check, parse, sweep_settings
from pipelines.core.errors import UserError
from pipelines.core.settings import SweepSettings
from pipelines.runs.signals import sigterm_as_interrupt
from pipelines.sweep.objectives import objectives_of
from pipelines.sweep.overrides import Value, settings_in
from pipelines.sweep.samplers import check_sampling
from pipelines.sweep.space import Space, check_conditions, read_space

log = logging.getLogger(__name__)

MOST_CHECKED = 500
"""Combinations that are composed before the first trial; about a tenth of a second each."""


class Here(Launcher):
    """Runs on this machine, each in a process of its own. Our sweeper starts them by itself."""

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        self.config = config

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """For other sweepers than ours: one after the other."""
        from pipelines.sweep.trial_process import SCRIPT

        returns = []
        for place, overrides in enumerate(job_overrides, initial_job_idx):
            directory = Path(self.config.hydra.sweep.dir) / f"{place:04d}"
            command = [sys.executable, str(SCRIPT), *overrides, f"hydra.run.dir={directory}"]
            done = subprocess.run(command, check=False)
            result = JobReturn(overrides=overrides, working_dir=str(directory))
            result.status = JobStatus.FAILED if done.returncode else JobStatus.COMPLETED
            result.return_value = (
                UserError(f"the run in {directory} failed") if done.returncode else None
            )
            returns.append(result)
        return returns


class Trials(Sweeper):
    """A grid or a search; see conf/sweep."""

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        self.context, self.task, self.composed = hydra_context, task_function, config

    def sweep(self, arguments: list[str]) -> Any:
        """Raises UserError for mistakes, before the first trial; GracefulExit on a signal."""
        HydraConfig.instance().set_config(self.composed)
        configure_log(self.composed.hydra.hydra_logging, self.composed.hydra.verbose)
        settings, space, config = self._checked(arguments)
        directory = Path(self.composed.hydra.sweep.dir)
        sigterm_as_interrupt()
        from pipelines.sweep.study import Study

        objectives = objectives_of(settings.objectives, config.task, config.train.monitor)
        study = Study(
            f"{config.task.name}/{directory.name}",
            directory,
            space,
            self._setting,
            objectives,
            settings,
            seed=config.seed,
            epochs=config.train.epochs,
        )
        if settings.retry and (failed := study.retry_failed()):
            log.info("%d failed trials are tried anew.", failed)
        done = len(study.finished())
        before = f", of which {done} are done" if done else ""
        log.info("Sweep of %d trials%s: %s", study.total, before, directory)
        self._run(study, settings)
        if others := [str(one.number) for one in study.trials() if not one.state.is_finished()]:
            log.info(
                "Under way elsewhere, or in a launcher's queue: %s. The same command takes up what "
                "is left of them.",
                ", ".join(others),
            )
        if study.finished():
            compare_at_end(directory)

    def _run(self, study: Any, settings: SweepSettings) -> None:
        from pipelines.sweep.local_sweep import Sweep

        launcher = self.composed.hydra.launcher
        if launcher["_target_"] == TARGETS["Here"]:
            Sweep(study, settings).run()
            return
        from pipelines.sweep.remote_sweep import RemoteSweep
        from pipelines.sweep.remote_trial import remote_trial

        remote = Plugins.instance().instantiate_launcher(
            hydra_context=self.context,
            task_function=remote_trial(study, launcher),
            config=self.composed,
        )
        RemoteSweep(study, settings, remote).run()

    def _checked(self, arguments: list[str]) -> tuple[SweepSettings, Space, Config]:
        """Everything that can be known to be wrong is, before anything is written."""
        settings = sweep_settings(OmegaConf.to_container(self.composed.sweep, resolve=True))
        check_sampling(settings)
        check_launcher(self.composed.hydra.launcher)
        space = read_space(settings.space or {}, arguments, settings.each)
        values = resolved(self._composed(list(space.fixed)))
        choices = {str(key): one for key, one in self._last.hydra.runtime.choices.items()}
        self._setting = settings_in(values, choices)
        check_conditions(space, [*_dotted(values), *choices])
        config = self._check_points(space, settings)
        objectives_of(settings.objectives, config.task, config.train.monitor)
        return settings, space, config

    def _check_points(self, space: Space, settings: SweepSettings) -> Config:
        """The configuration of the first point."""
        points: Iterable[dict[str, Value]] = (
            space.points(self._setting)
            if settings.sampler == "grid"
            else space.samples(self._setting)
        )
        first, seen = None, set()
        for number, point in enumerate(points):
            if number >= MOST_CHECKED:
                break
            overrides = space.overrides(point)
            if tuple(overrides) in seen:
                continue
            seen.add(tuple(overrides))
            try:
                config = parse(resolved(self._composed(overrides)))
                if config.mode != "train" or config.run is not None:
                    raise UserError("a sweep is of new runs: leave out mode and run")
                check(config)
            except UserError as error:
                where = " ".join(overrides[len(space.fixed) :])
                raise UserError(f"{error} (with {where})" if where else str(error)) from None
            first = first or config
        if first is None:
            raise UserError("there is nothing to run: a parameter has no values")
        return first

    def _composed(self, overrides: list[str]) -> DictConfig:
        """As the run with these overrides composes it."""
        from pipelines.config.quoting import quote_free_text

        given = self.composed.hydra.overrides.task
        sweeps = [text for text in given if text.lstrip("+~").startswith("sweep")]
        typed = [*sweeps, *map(quote_free_text, overrides)]
        self._last = self.context.config_loader.load_sweep_config(self.composed, typed)
        return self._last


def check_launcher(launcher: DictConfig) -> None:
    """Raises UserError where Hydra lacks the plugin: Ray's settings are ours, the plugin isn't."""
    target = launcher["_target_"]
    if target in Plugins.instance().class_name_to_class:
        return
    if "ray" in launcher:
        raise UserError(
            "hydra/launcher=ray is not installed: pip install '.[ray]', in an environment of its "
            "own (see README)"
        )
    raise UserError(f"hydra/launcher: Hydra has no plugin {target}: install it")


def _dotted(values: Any, prefix: str = "") -> Iterable[str]:
    for key, value in values.items():
        yield f"{prefix}{key}"
        if isinstance(value, dict):
            yield from _dotted(value, f"{prefix}{key}.")


def compare_at_end(directory: Path) -> None:
    """The leaderboard, by a process of its own: it needs TensorFlow, which keeps its memory."""
    from pipelines.sweep.trial_process import MAIN

    done = subprocess.run(
        [sys.executable, str(MAIN), "mode=compare", f"runs={directory}"],
        check=False,
    )
    if done.returncode:
        log.warning("The leaderboard failed: python main.py mode=compare runs=%s", directory)


PACKAGE = "hydra_plugins.recurrent"
TARGETS = {cls.__name__: f"{PACKAGE}.{cls.__name__}" for cls in (Trials, Here)}


def register_plugins() -> None:
    """Makes the classes known to Hydra by the names that conf/hydra has."""
    # Our conf/hydra/launcher/ray.yaml completes the plugin's own, which Hydra remarks on at length.
    warnings.filterwarnings("ignore", message=r"[\s\S]*validated against ConfigStore schema")
    plugins = Plugins.instance()  # has imported hydra_plugins, if there are others
    parent = sys.modules.setdefault("hydra_plugins", ModuleType("hydra_plugins"))
    ours = sys.modules.setdefault(PACKAGE, ModuleType(PACKAGE))
    parent.__dict__["recurrent"] = ours
    for cls in (Trials, Here):
        ours.__dict__[cls.__name__] = cls
        cls.__module__ = PACKAGE
        plugins.register(cls)
