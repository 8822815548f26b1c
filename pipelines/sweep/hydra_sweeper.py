"""Hydra's plugins for sweeps: a sweep is read and checked as a whole, then its trials start.

Nothing here imports TensorFlow or, before the checks have passed, Optuna.
"""

from __future__ import annotations

import importlib
import logging
import subprocess
import sys
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus, configure_log
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from pipelines.config.quoting import quote_free_text
from pipelines.config.restore import to_plain_values
from pipelines.config.schema import Config, check, parse, sweep_settings
from pipelines.core.errors import UserError
from pipelines.core.paths import MAIN
from pipelines.core.saved_files import describe
from pipelines.core.settings import SweepSettings
from pipelines.distributed.ray_cluster import connect_to_ray
from pipelines.runs.signals import sigterm_as_interrupt
from pipelines.sweep.objectives import resolve_objectives
from pipelines.sweep.overrides import SettingLookup, create_lookup
from pipelines.sweep.samplers import check_sampling
from pipelines.sweep.space import Space, check_conditions
from pipelines.sweep.space_parser import parse_space
from pipelines.sweep.storage import read_url

if TYPE_CHECKING:
    from pipelines.sweep.study import Study

log = logging.getLogger(__name__)

MAX_CHECKED = 500
"""Points that are composed before the first trial, at about a tenth of a second each."""

PLUGINS = Path(__file__).parent / "plugins"
"""Directory of the module hydra_plugins.recurrent."""

LOCAL_LAUNCHER = "hydra_plugins.recurrent.LocalLauncher"


class LocalLauncher(Launcher):
    """Runs on this machine, each in a process of its own. Our sweeper doesn't use this class."""

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        self.config = config

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """For other sweepers than ours: one run after the other."""
        returns = []
        for number, overrides in enumerate(job_overrides, initial_job_idx):
            directory = Path(self.config.hydra.sweep.dir) / f"{number:04d}"
            command = [sys.executable, str(MAIN), *overrides, f"hydra.run.dir={directory}"]
            done = subprocess.run(command, check=False)
            result = JobReturn(overrides=overrides, working_dir=str(directory))
            result.status = JobStatus.FAILED if done.returncode else JobStatus.COMPLETED
            result.return_value = (
                UserError(f"the run in {directory} failed") if done.returncode else None
            )
            returns.append(result)
        return returns


class RecurrentSweeper(Sweeper):
    """A grid or a search; see conf/sweep.

    The arguments are for tests, which set them as hydra.sweeper.NAME.

    script       what a trial runs; main.py if None.
    preloaded    modules that are imported once for all trials; those of main.py if None.
    heartbeat, dead_after  seconds; see Liveness.
    leaderboard  whether one is written at the end.
    """

    def __init__(
        self,
        script: str | None = None,
        preloaded: Sequence[str] | None = None,
        heartbeat: float | None = None,
        dead_after: float | None = None,
        leaderboard: bool = True,
    ):
        self.script, self.preloaded, self.leaderboard = script, preloaded, leaderboard
        self.heartbeat, self.dead_after = heartbeat, dead_after

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        self.context, self.composed = hydra_context, config

    def sweep(self, arguments: list[str]) -> None:
        """Raises UserError for mistakes, before the first trial; GracefulExit for a signal."""
        HydraConfig.instance().set_config(self.composed)
        configure_log(self.composed.hydra.hydra_logging, self.composed.hydra.verbose)
        settings, space, config = self._check(arguments)
        sigterm_as_interrupt()
        study = self._create_study(settings, space, config)
        store, directory = study.store, study.config.directory
        if settings.retry and (failed := study.retry_failed()):
            log.info("%d failed trials are repeated.", failed)
        done = len(store.finished_trials())
        progress = f", of which {done} are done" if done else ""
        log.info("Sweep of %d trials%s: %s", study.total, progress, directory)
        self._run(study)
        unfinished = [
            str(trial.number) for trial in store.started_trials() if not trial.state.is_finished()
        ]
        if unfinished:
            log.info(
                "Running elsewhere, or in a launcher's queue: %s. The same command resumes them if "
                "they don't finish.",
                ", ".join(unfinished),
            )
        if store.finished_trials() and self.leaderboard:
            write_leaderboard(directory)

    def _create_study(self, settings: SweepSettings, space: Space, config: Config) -> Study:
        from pipelines.sweep.study import Study
        from pipelines.sweep.trials import Liveness, StudyConfig

        directory = Path(self.composed.hydra.sweep.dir)
        objectives = resolve_objectives(settings.objectives, config.task, config.train.monitor)
        liveness = Liveness(
            self.heartbeat or Liveness.heartbeat, self.dead_after or Liveness.dead_after
        )
        study_config = StudyConfig(
            f"{config.task.name}/{directory.name}",
            directory,
            tuple(objectives),
            settings,
            config.train.epochs,
            liveness,
        )
        return Study(study_config, space, self._lookup, seed=config.seed)

    def _run(self, study: Study) -> None:
        from pipelines.sweep.local_sweep import LocalSweep
        from pipelines.sweep.trial_process import RunScript

        preloaded = RunScript.preloaded if self.preloaded is None else tuple(self.preloaded)
        script = RunScript(Path(self.script or MAIN), preloaded)
        settings = self.composed.hydra.launcher
        if settings["_target_"] == LOCAL_LAUNCHER:
            LocalSweep(study, script).run()
            return
        from pipelines.sweep.remote_sweep import RemoteSweep
        from pipelines.sweep.remote_trial import create_remote_trial

        launcher = Plugins.instance().instantiate_launcher(
            hydra_context=self.context,
            task_function=create_remote_trial(study.config, settings, script, PLUGINS),
            config=self.composed,
        )
        if "ray" in settings:  # before the launcher does so itself, from the working directory
            _connect_to_ray(settings.ray.init)
        RemoteSweep(study, launcher).run()

    def _check(self, arguments: list[str]) -> tuple[SweepSettings, Space, Config]:
        """Finds all mistakes that can be found before anything is written."""
        settings = sweep_settings(OmegaConf.to_container(self.composed.sweep, resolve=True))
        check_sampling(settings)
        if settings.storage is not None:
            read_url(settings.storage)
        check_launcher(self.composed.hydra.launcher)
        space = parse_space(settings.space or {}, arguments, settings.fixed)
        composed = self._compose(list(space.fixed))
        values = to_plain_values(composed)
        choices = {str(key): value for key, value in composed.hydra.runtime.choices.items()}
        self._lookup: SettingLookup = create_lookup(values, choices)
        check_conditions(space, [*_dotted_keys(values), *choices])
        config = self._check_points(space, settings)
        resolve_objectives(settings.objectives, config.task, config.train.monitor)
        return settings, space, config

    def _check_points(self, space: Space, settings: SweepSettings) -> Config:
        """Composes and checks points of the space. Returns the first one's configuration."""
        is_grid = settings.sampler == "grid"
        points = space.grid_points(self._lookup) if is_grid else space.covering_points(self._lookup)
        first, checked = None, set()
        for number, point in enumerate(points):
            if number >= MAX_CHECKED:
                break
            overrides = space.overrides_at(point)
            if tuple(overrides) in checked:
                continue
            checked.add(tuple(overrides))
            try:
                config = parse(to_plain_values(self._compose(overrides)))
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

    def _compose(self, overrides: list[str]) -> DictConfig:
        """The configuration as a run with these overrides composes it."""
        typed = self.composed.hydra.overrides.task
        sweep_overrides = [text for text in typed if text.lstrip("+~").startswith("sweep")]
        return self.context.config_loader.load_sweep_config(
            self.composed, [*sweep_overrides, *map(quote_free_text, overrides)]
        )


def check_launcher(launcher: DictConfig) -> None:
    """Raises UserError if the launcher's plugin isn't installed; conf/hydra has settings for it."""
    target = launcher["_target_"]
    if target in Plugins.instance().class_name_to_class:
        return
    if "ray" in launcher:
        raise UserError(
            "hydra/launcher=ray is not installed: pip install '.[ray]', in an environment of its "
            "own (see README)"
        )
    raise UserError(f"hydra/launcher: Hydra has no plugin {target}: install it")


def _connect_to_ray(settings: DictConfig) -> None:
    try:
        connect_to_ray(**cast(dict, OmegaConf.to_container(settings, resolve=True)))
    except Exception as error:  # Ray's own have no common class
        raise UserError(
            f"hydra/launcher=ray: the jobs could not be started: {describe(error)}; the same "
            "command continues"
        ) from None


def _dotted_keys(values: Mapping[str, object], prefix: str = "") -> Iterable[str]:
    for key, value in values.items():
        yield f"{prefix}{key}"
        if isinstance(value, dict):
            yield from _dotted_keys(value, f"{prefix}{key}.")


def write_leaderboard(directory: Path) -> None:
    """Compares the sweep's runs in a process of its own: TensorFlow never frees its memory."""
    command = [sys.executable, str(MAIN), "mode=compare", f"runs={directory}"]
    if subprocess.run(command, check=False).returncode:
        log.warning("The leaderboard failed: python main.py mode=compare runs=%s", directory)


def register_plugins() -> None:
    """Registers the classes with Hydra by their names in conf/hydra.

    Hydra finds them by itself if the directory is on the path before its first use of plugins. In a
    process that has used Hydra before, they must be registered.
    """
    # Our conf/hydra/launcher/ray.yaml extends the plugin's own, of which Hydra warns at length.
    warnings.filterwarnings("ignore", message=r"[\s\S]*validated against ConfigStore schema")
    if str(PLUGINS) not in sys.path:
        sys.path.append(str(PLUGINS))
    plugins = Plugins.instance()
    module = importlib.import_module("hydra_plugins.recurrent")
    for cls in (module.RecurrentSweeper, module.LocalLauncher):
        plugins.register(cls)
