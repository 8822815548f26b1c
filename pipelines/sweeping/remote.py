"""Trials on other machines: Hydra's own launchers (Ray, Submitit) bring them there.

What runs there is a RemoteTrial: it starts the run in a process of its own, reports what it
evaluates to the study's storage, and ends it when it isn't worth more. So the sweep's directory
must be where all machines see it, and so must the storage, or be a database.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import logging
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
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
from pipelines.sweeping.processes import LONGEST_REASON
from pipelines.sweeping.running import check_failures, outcome, write_summary
from pipelines.sweeping.stored import HEARTBEAT, JOBS, StoredStudy, hold

if TYPE_CHECKING:
    from hydra.plugins.launcher import Launcher

    from pipelines.sweeping.stored import Trial
    from pipelines.sweeping.study import Study

log = logging.getLogger(__name__)

BETWEEN_LOOKS, BETWEEN_ROUNDS = 0.2, 1.0
"""Seconds between two looks at a run under way, and at those of other jobs."""


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
        with Interruption() as interruption, _asking_undisturbed():
            try:
                _watch(attempt, interruption)
            except KeyboardInterrupt:  # asked twice
                attempt.kill()
                raise
            except BaseException:
                # Submitit raises in a signal's handler when the job's time is nearly over. The run
                # saves where it stands, to go on if the job is queued again.
                attempt.stop(STOPPED)
                _watch(attempt, interruption)
                raise
        return str(trial.directory)


@contextlib.contextmanager
def _asking_undisturbed() -> Iterator[None]:
    """Holds SIGTERM back while Submitit's handler of SIGUSR2 has Slurm queue the job again.

    Slurm sends it to all of the job's processes as soon as it is asked, also to the one that asks,
    which inherits what is held back; without that the job would often seem to have failed.
    """
    handler = signal.getsignal(signal.SIGUSR2)
    if not callable(handler) or threading.current_thread() is not threading.main_thread():
        yield
        return

    def undisturbed(number: int, frame: FrameType | None) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        try:
            handler(number, frame)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])

    signal.signal(signal.SIGUSR2, undisturbed)
    try:
        yield
    finally:
        signal.signal(signal.SIGUSR2, handler)


def _watch(attempt: Attempt, interruption: Interruption) -> None:
    """Until the attempt has ended; asks it to once somebody asks us."""
    while not attempt.look():
        if interruption.requested is not None:
            attempt.stop(STOPPED)
        time.sleep(BETWEEN_LOOKS)


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
            Interruption() as self.interruption,
            Bar("sweep", self.study.total, "trials", done=done) as bar,
        ):
            try:
                while self.interruption.requested is None and not self._time_is_over(begun):
                    batch = self._batch()
                    if not batch:
                        break
                    self._launch(batch)
                    for trial in batch:
                        log.info("%s", outcome(self.study, trial.number, named=True))
                    bar.advance(len(self.study.finished()) - bar.done)
                    write_summary(self.study)
                    check_failures(self.study, self.settings)
            finally:
                write_summary(self.study)
        if self.interruption.requested is not None:
            raise Stopped("Stopped. The same command goes on.", self.interruption.requested)

    def _time_is_over(self, begun: float) -> bool:
        seconds = self.settings.seconds
        over = seconds is not None and time.monotonic() - begun > seconds
        if over:
            log.info("The time is over: no more trials are started.")
        return over

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
        before = [self.study.jobs_begun(trial.number) for trial in batch]
        reasons: dict[int, str] = {}
        try:
            with self._handed_over(batch):
                returns = self.launcher.launch(jobs, initial_job_idx=batch[0].number)
            for trial, returned in zip(batch, returns, strict=False):
                try:
                    with contextlib.redirect_stderr(io.StringIO()):  # Hydra repeats the overrides
                        returned.return_value  # noqa: B018 - raises what the job raised
                except Exception as error:  # whatever the launcher's machine met
                    reasons[trial.number] = _in_a_line(error)
        except Exception as error:  # the launcher's own failures have no common class
            begun = [
                trial.number
                for trial, jobs_before in zip(batch, before, strict=True)
                if self.study.jobs_begun(trial.number) > jobs_before
            ]
            if not begun:
                raise UserError(
                    f"hydra/launcher: the jobs could not be started, or were lost: "
                    f"{_in_a_line(error)}; the same command goes on"
                ) from None
            reasons = dict.fromkeys(begun, f"its job was lost: {_in_a_line(error)}")
        # Of the first job that is lost a launcher tells at once, while others are under way.
        self._wait_for(batch)
        for trial in batch:
            if not self.study.worked_on(trial.number):
                self.study.fail_if_unfinished(trial, reasons.get(trial.number))

    def _wait_for(self, batch: Sequence[Trial]) -> None:
        """Until nobody works on these trials any more, or somebody asks us to stop."""
        while any(self.study.worked_on(trial.number) for trial in batch):
            if self.interruption.requested is not None:
                return
            time.sleep(BETWEEN_ROUNDS)


def _in_a_line(error: Exception) -> str:
    return " ".join(str(error).split())[:LONGEST_REASON]
