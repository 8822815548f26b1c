"""Trials on other machines: Hydra's own launchers (Ray, Submitit) bring them there.

What runs there is a RemoteTrial: it starts the run in a process of its own, reports what it
evaluates to the study's storage, and ends it when it isn't worth more. So the sweep's directory
must be where all machines see it, and so must the storage, or be a database.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from pipelines.command_line import quoted
from pipelines.contracts import UserError
from pipelines.interruption import Interruption, Stopped
from pipelines.progress import Bar
from pipelines.settings import SweepSettings
from pipelines.sweeping import processes
from pipelines.sweeping.attempt import STOPPED, Attempt
from pipelines.sweeping.objectives import Objective
from pipelines.sweeping.running import check_failures, outcome, write_summary
from pipelines.sweeping.stored import HEARTBEAT, JOBS, StoredStudy, hold

if TYPE_CHECKING:
    from hydra.plugins.launcher import Launcher

    from pipelines.sweeping.stored import Trial
    from pipelines.sweeping.study import Study

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class RemoteTrial:
    """What is called in the launcher's process: one trial, from its start to its outcome."""

    name: str
    directory: str
    objectives: list[Objective]
    settings: dict[str, Any]
    epochs: int
    threads: int | None
    folder: str
    script: Path

    def __call__(self, config: DictConfig) -> str:
        """Returns the trial's directory, whatever became of it: the study has that."""
        number = int(Path(HydraConfig.get().runtime.output_dir).name)
        if Path(self.folder).is_dir():
            os.chdir(self.folder)  # paths on the command line were given from there
        processes.SCRIPT = self.script
        settings = SweepSettings(**self.settings)
        directory = Path(self.directory)
        study = StoredStudy(self.name, directory, self.objectives, settings, epochs=self.epochs)
        trial = study.held(number)
        attempt = Attempt(study, trial, settings, self.threads)
        with Interruption() as interruption:
            try:
                while not attempt.look():
                    if interruption.requested is not None:
                        attempt.stop(STOPPED)
                    time.sleep(0.2)
            except KeyboardInterrupt:  # asked twice
                attempt.kill()
                raise
        return str(trial.directory)


def remote_trial(study: Study, launcher: DictConfig) -> RemoteTrial:
    """Of a study's trials. A trial has the cores that the launcher asks for, if it says so."""
    known = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(
        [str(processes.MAIN.parent), *([known] if known else [])]
    )
    directory = str(study.directory.resolve())
    return RemoteTrial(
        study.name,
        directory,
        study.objectives,
        dataclasses.asdict(study.settings),
        study.epochs,
        cores_asked(launcher),
        os.getcwd(),
        processes.SCRIPT,
    )


def cores_asked(launcher: DictConfig) -> int | None:
    """Of a job, by the launcher's settings, Submitit's or Ray's; None where they don't say."""
    name = "ray.remote.num_cpus" if "ray" in launcher else "cpus_per_task"
    cores = OmegaConf.select(launcher, name)
    try:
        return max(1, int(float(cores))) if cores else None
    except ValueError:
        raise UserError(
            f"hydra.launcher.{name}: must be a number of cores; received {cores!r}"
        ) from None


class RemoteSweep:
    """Batches of `sweep.parallel` trials, each batch through a launcher of Hydra's."""

    def __init__(self, study: Study, settings: SweepSettings, launcher: Launcher):
        self.study, self.settings, self.launcher = study, settings, launcher

    def run(self) -> None:
        """Returns once the study has its total; Stopped on a signal, UserError if too many fail."""
        begun, done = time.monotonic(), len(self.study.finished())
        with (
            Interruption() as interruption,
            Bar("sweep", self.study.total, "trials", done=done) as bar,
        ):
            while interruption.requested is None:
                if self.settings.seconds and time.monotonic() - begun > self.settings.seconds:
                    log.info("The time is over: no more trials are started.")
                    break
                batch = self._batch()
                if not batch:
                    break
                self._launch(batch)
                for trial in batch:
                    log.info("%s", outcome(self.study, trial.number, named=True))
                bar.advance(len(batch))
                write_summary(self.study)
                check_failures(self.study, self.settings)
        write_summary(self.study)
        if interruption.requested is not None:
            raise Stopped("Stopped. The same command goes on.", interruption.requested)

    def _batch(self) -> list[Trial]:
        """Trials to hand over."""
        batch: list[Trial] = []
        while len(batch) < self.settings.parallel:
            trial = self.study.next()
            if trial is None:
                break
            batch.append(trial)
        return batch

    @contextlib.contextmanager
    def _handed_over(self, batch: Sequence[Trial]) -> Iterator[None]:
        """Who gets a trial holds its directory, so that we let go of it, but hold its job's.

        So nobody takes it up who finds that it waits in the launcher's queue.
        """
        over = threading.Event()

        def beat() -> None:
            while not over.wait(HEARTBEAT):
                for trial in batch:
                    try:
                        self.study.beat(trial)
                    except Exception as error:  # it has ended, or the storage is away for a while
                        log.debug("trial %d: no sign of life: %s", trial.number, error)

        # Who looks whether it is held has it for a moment.
        jobs = [hold(self.study.job(trial.number), waits=True) for trial in batch]
        for trial in batch:
            trial.release()
        beats = threading.Thread(target=beat, daemon=True)
        beats.start()
        try:
            yield
        finally:
            over.set()
            beats.join()
            for job in jobs:
                if job is not None:
                    os.close(job)

    def _launch(self, batch: Sequence[Trial]) -> None:
        jobs = [
            [
                *map(quoted, trial.overrides),
                quoted(f"hydra.sweep.dir={self.study.directory.resolve()}"),
                f"hydra.sweep.subdir={JOBS}/{trial.number:04d}",
            ]
            for trial in batch
        ]
        reasons: dict[int, str] = {}
        try:
            with self._handed_over(batch):
                returns = self.launcher.launch(jobs, initial_job_idx=batch[0].number)
            for trial, returned in zip(batch, returns, strict=False):
                try:
                    returned.return_value  # noqa: B018 - raises what the job raised
                except Exception as error:  # whatever the launcher's machine met
                    reasons[trial.number] = " ".join(str(error).split())[:300]
        except Exception as error:  # the launcher's own failures have no common class
            reason = " ".join(str(error).split())[:300]
            raise UserError(
                f"hydra/launcher: the jobs could not be started, or were lost: {reason}; the same "
                "command goes on"
            ) from None
        for trial in batch:
            self.study.fail_if_unfinished(trial, reasons.get(trial.number))
