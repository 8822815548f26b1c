"""A trial on another machine, where one of Hydra's launchers (Ray, Submitit) has started its job.

The job starts the run in a process of its own, reports its evaluations to the study's storage, and
stops it when the pruner says so. So all machines must see the sweep's directory, and its storage
unless that is a database.
"""

from __future__ import annotations

import dataclasses
import os
import signal
import threading
import time
from pathlib import Path
from types import FrameType

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from pipelines.core.errors import UserError, shown
from pipelines.core.paths import python_path
from pipelines.runs.signals import Interruption
from pipelines.sweep.trial_attempt import TrialAttempt
from pipelines.sweep.trial_process import RunScript
from pipelines.sweep.trials import REQUEUED, STOPPED, StudyConfig, TrialStore

POLL_SECONDS = 0.2
"""Seconds between two polls of a run."""


@dataclasses.dataclass(frozen=True)
class RemoteTrial:
    """The task function that a launcher calls in its job: one trial, from start to outcome.

    threads            that the run computes with; None for all cores.
    working_directory  of the sweep, from which paths on its command line are resolved.
    """

    study: StudyConfig
    threads: int | None
    working_directory: Path
    script: RunScript

    def __call__(self, config: DictConfig) -> str:
        """Returns the trial's directory, whatever the outcome, which the study stores."""
        number = int(Path(HydraConfig.get().runtime.output_dir).name)
        if self.working_directory.is_dir():
            os.chdir(self.working_directory)
        store = TrialStore(self.study)
        trial = store.acquire(number, str(HydraConfig.get().job.id))
        try:
            with Interruption() as interruption, PreemptionNotice() as notice:
                attempt = TrialAttempt(store, trial, threads=self.threads, script=self.script)
                self._wait(attempt, interruption, notice)
                if not store.is_finished(number):
                    store.set_stop_reason(trial, REQUEUED if notice.is_given else STOPPED)
                    try:
                        notice.handle()
                    except Exception:
                        store.set_stop_reason(trial, STOPPED)  # the job isn't requeued
                        raise
        finally:
            trial.release()
        return str(trial.directory)

    def _wait(
        self, attempt: TrialAttempt, interruption: Interruption, notice: PreemptionNotice
    ) -> None:
        try:
            while not attempt.poll():
                if notice.is_given or interruption.requested is not None:
                    attempt.stop(STOPPED)
                time.sleep(POLL_SECONDS)
        except KeyboardInterrupt:  # the second signal
            attempt.kill()
            raise
        except BaseException:  # for example, the storage is unavailable: the run saves and ends
            attempt.stop(STOPPED)
            raise


class PreemptionNotice:
    """SIGUSR2, which announces the end of a job's time, and for which Submitit requeues the job.

    While entered, the signal is only noted, so that the run can save a checkpoint first. `handle`
    then passes it to Submitit: once asked to requeue, Slurm gives a job half a minute.
    """

    def __enter__(self) -> PreemptionNotice:
        self.arguments: tuple[int, FrameType | None] | None = None
        self.handler = signal.getsignal(signal.SIGUSR2)
        in_main_thread = threading.current_thread() is threading.main_thread()
        if in_main_thread and callable(self.handler):
            signal.signal(signal.SIGUSR2, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        if signal.getsignal(signal.SIGUSR2) == self._note:
            signal.signal(signal.SIGUSR2, self.handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.arguments = number, frame

    @property
    def is_given(self) -> bool:
        return self.arguments is not None

    def handle(self) -> None:
        """Calls Submitit's handler, if the signal was given.

        That raises SystemExit if the job is requeued, and Submitit's error otherwise. As soon as
        Slurm is asked to requeue, it sends SIGTERM to all of the job's processes, including the
        command that asks. It inherits the blocked signal from here; otherwise that command would
        often die, and the job would seem to have failed.
        """
        if self.arguments is None or not callable(self.handler):
            return
        previous = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        try:
            self.handler(*self.arguments)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, previous)


def create_remote_trial(
    study: StudyConfig, launcher: DictConfig, script: RunScript, plugins: Path
) -> RemoteTrial:
    """The task function for a launcher's jobs, which import this project by PYTHONPATH.

    plugins  the directory of our Hydra plugins, which jobs must find too.
    """
    os.environ["PYTHONPATH"] = python_path(plugins)
    # Submitit's jobs are `python -m ...`, which else imports from the working directory first.
    os.environ["PYTHONSAFEPATH"] = "1"
    return RemoteTrial(
        dataclasses.replace(study, directory=study.directory.resolve()),
        requested_cores(launcher),
        Path.cwd(),
        script,
    )


def requested_cores(launcher: DictConfig) -> int | None:
    """The cores of a job in the settings of Submitit or Ray; None where they don't say."""
    name = "ray.remote.num_cpus" if "ray" in launcher else "cpus_per_task"
    cores = OmegaConf.select(launcher, name)
    try:
        return max(1, int(float(cores))) if cores else None
    except ValueError:
        raise UserError(
            f"hydra.launcher.{name}: must be a number of cores; received {shown(cores)}"
        ) from None
