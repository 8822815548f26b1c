"""A trial where one of Hydra's launchers (Ray, Submitit) has brought it.

It starts the run in a process of its own, reports what it evaluates to the study's storage, and
ends it when it isn't worth more. So the sweep's directory must be where all machines see it, and
so must the storage, or be a database.
"""

from __future__ import annotations

import dataclasses
import os
import signal
import threading
import time
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from pipelines.core.errors import UserError
from pipelines.core.settings import SweepSettings
from pipelines.runs.signals import Interruption
from pipelines.sweep import trial_process as processes
from pipelines.sweep.objectives import Objective
from pipelines.sweep.trial_attempt import Attempt
from pipelines.sweep.trials import QUEUED, STOPPED, StoredStudy

if TYPE_CHECKING:
    from pipelines.sweep.study import Study

BETWEEN_LOOKS = 0.2
"""Seconds between two looks at a run under way."""


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
        trial = study.held(number, str(HydraConfig.get().job.id))
        try:
            with Interruption() as interruption, Notice() as notice:
                self._work(Attempt(study, trial, settings, self.threads), interruption, notice)
                if not study.is_finished(number):
                    study.leave(trial, QUEUED if notice.given else STOPPED)
                    try:
                        notice.answer()
                    except Exception:
                        study.leave(trial, STOPPED)  # it doesn't come back
                        raise
        finally:
            trial.release()
        return str(trial.directory)

    def _work(self, attempt: Attempt, interruption: Interruption, notice: Notice) -> None:
        try:
            while not attempt.look():
                if notice.given or interruption.requested is not None:
                    attempt.stop(STOPPED)
                time.sleep(BETWEEN_LOOKS)
        except KeyboardInterrupt:  # asked twice
            attempt.kill()
            raise
        except BaseException:  # the storage is away, say: the run saves where it stands
            attempt.stop(STOPPED)
            raise


class Notice:
    """The signal that a job's time is nearly over, SIGUSR2, by which Submitit has it queued again.

    It is kept until the run has saved: from when Slurm is asked it gives a job half a minute.
    """

    def __enter__(self) -> Notice:
        self.arguments: tuple[int, FrameType | None] | None = None
        self.handler = signal.getsignal(signal.SIGUSR2)
        main = threading.current_thread() is threading.main_thread()
        if main and callable(self.handler):
            signal.signal(signal.SIGUSR2, self._keep)
        return self

    def __exit__(self, *_: object) -> None:
        if signal.getsignal(signal.SIGUSR2) == self._keep:
            signal.signal(signal.SIGUSR2, self.handler)

    def _keep(self, number: int, frame: FrameType | None) -> None:
        self.arguments = number, frame

    @property
    def given(self) -> bool:
        return self.arguments is not None

    def answer(self) -> None:
        """If it was given, raises SystemExit if the job is queued again, else Submitit's error.

        Slurm sends SIGTERM to all of the job's processes as soon as it is asked, also to the one
        that asks. That inherits that it is held back; else the job would often seem to have failed.
        """
        if self.arguments is None or not callable(self.handler):
            return
        before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        try:
            self.handler(*self.arguments)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


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
