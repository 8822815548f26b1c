"""A sweep whose trials Hydra's launchers (Ray, Submitit) run on other machines, in batches."""

from __future__ import annotations

import contextlib
import io
import itertools
import logging
import os
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from hydra.core.utils import JobReturn, JobStatus

from pipelines.config.quoting import quote_free_text
from pipelines.core.errors import UserError
from pipelines.runs.progress import Bar
from pipelines.runs.signals import Interruption
from pipelines.sweep.local_sweep import (
    check_failures,
    describe_outcome,
    is_time_over,
    stop_error,
    write_summary,
)
from pipelines.sweep.locks import try_lock
from pipelines.sweep.trial_process import MAX_REASON_LENGTH
from pipelines.sweep.trials import JOBS, LOCK_TIMEOUT, REQUEUED, STOPPED, TrialStore

if TYPE_CHECKING:
    from hydra.plugins.launcher import Launcher

    from pipelines.sweep.study import Study
    from pipelines.sweep.trials import Trial

log = logging.getLogger(__name__)

POLL_SECONDS = 1.0
"""Seconds between two polls of trials whose jobs the launcher no longer reports on."""


class RemoteSweep:
    """Batches of `sweep.parallel` trials, each batch through one of Hydra's launchers."""

    def __init__(self, study: Study, launcher: Launcher):
        self.study, self.store, self.launcher = study, study.store, launcher
        self.settings = study.config.settings
        self.interruption = Interruption()
        self.started_at = time.monotonic()
        self.queued: list[int] = []

    def run(self) -> None:
        """Returns once the study has its total.

        Raises GracefulExit for a signal, and UserError if too many trials fail.
        """
        done = len(self.store.finished_trials())
        with self.interruption, Bar("sweep", self.study.total, "trials", done=done) as bar:
            try:
                while self.interruption.requested is None:
                    is_over = is_time_over(self.settings.seconds, self.started_at)
                    if is_over or not (batch := self._draw_batch()):
                        break
                    self._launch(batch)
                    for trial in batch:
                        log.info("%s", self._describe_outcome(trial.number))
                    bar.advance(len(self.store.finished_trials()) - bar.done)
                    write_summary(self.study)
                    check_failures(self.study)
            finally:
                write_summary(self.study)
        if self.interruption.requested is not None:
            raise stop_error(self.study, self.interruption.requested)

    def _draw_batch(self) -> list[Trial]:
        batch: list[Trial] = []
        while len(batch) < self.settings.parallel:
            trial = self.study.next_trial()
            if trial is None:
                break
            batch.append(trial)
        return batch

    def _describe_outcome(self, number: int) -> str:
        if self._is_running(number):
            return f"trial {number} is still running; its job continues by itself"
        if number in self.queued:
            return f"trial {number} may still be in the launcher's queue"
        return describe_outcome(self.study, number, with_settings=True)

    def _launch(self, batch: Sequence[Trial]) -> None:
        """Runs a batch through the launcher, and fails the trials whose jobs have failed."""
        sweep_directory = quote_free_text(
            f"hydra.sweep.dir={self.study.config.directory.resolve()}"
        )
        jobs = [
            [
                *map(quote_free_text, trial.overrides),
                sweep_directory,
                f"hydra.sweep.subdir={JOBS}/{trial.number:04d}",
            ]
            for trial in batch
        ]
        launched = LaunchedBatch(self.store, batch)
        try:
            returns = self.launcher.launch(jobs, initial_job_idx=batch[0].number)
            reasons = {
                trial.number: _failure_reason(returned)
                for trial, returned in itertools.zip_longest(batch, returns[: len(batch)])
            }
        except Exception as error:  # launchers' own errors have no common class
            reasons = self._wait_after_loss(launched, _one_line(error))
            self.queued += [trial.number for trial in batch if trial.number not in reasons]
        finally:
            launched.release(keep=self.queued)
        for trial in batch:
            if trial.number in reasons:
                self.store.fail_if_unfinished(trial, reasons[trial.number])

    def _wait_after_loss(self, launched: LaunchedBatch, error: str) -> dict[int, str | None]:
        """The trials whose jobs have ended, and why each failed; None if it didn't.

        A launcher reports the first lost job, and nothing of the others. Those that are running are
        waited for; the rest may still be in its queue. Raises UserError if no job has started.
        """
        started = [trial.number for trial in launched.batch if launched.has_started(trial.number)]
        if not started:
            raise UserError(
                f"hydra/launcher: the jobs could not be started, or were lost: {error}; the same "
                "command continues"
            )
        while self.interruption.requested is None and any(map(self._is_running, started)):
            time.sleep(POLL_SECONDS)
        reasons: dict[int, str | None] = {}
        for trial in launched.batch:
            number, stop_reason = trial.number, self.store.stop_reason(trial.number)
            if self.store.is_finished(number) or stop_reason == STOPPED:
                reasons[number] = None
            elif number in started and stop_reason != REQUEUED and not self._is_running(number):
                reasons[number] = f"its job, or another of its batch, was lost: {error}"
        return reasons

    def _is_running(self, number: int) -> bool:
        try:
            return self.store.is_running(number)
        except Exception as error:  # the storage may be unavailable for a while
            log.warning("trial %d: its state is unknown for now: %s", number, _one_line(error))
            return True


class LaunchedBatch:
    """Trials that a launcher has. No other process resumes one that waits in its queue.

    A job locks its trial's directory, so this process releases that lock. It holds the lock of the
    job's directory instead, and sends heartbeats for the trials that no job works on.
    """

    def __init__(self, store: TrialStore, batch: Sequence[Trial]):
        self.store, self.batch = store, list(batch)
        self.locks = {
            trial.number: try_lock(store.config.job_directory(trial.number), timeout=LOCK_TIMEOUT)
            for trial in batch
        }
        self._jobs_before = {trial.number: store.count_jobs(trial.number) for trial in batch}
        for trial in batch:
            store.release_to_launcher(trial)
        self._released = threading.Event()
        self._thread = threading.Thread(target=self._send_heartbeats, daemon=True)
        self._thread.start()

    def _send_heartbeats(self) -> None:
        while not self._released.wait(self.store.config.liveness.heartbeat):
            for trial in self.batch:
                number = trial.number
                try:
                    has_job = self.has_started(number)
                    if not has_job or self.store.stop_reason(number) == REQUEUED:
                        self.store.send_heartbeat(trial)
                except Exception as error:  # it has ended, or the storage is unavailable
                    log.debug("trial %d: no heartbeat: %s", number, error)

    def has_started(self, number: int) -> bool:
        """Whether a job has acquired the trial since the launch."""
        return self.store.count_jobs(number) > self._jobs_before[number]

    def release(self, keep: Sequence[int] = ()) -> None:
        """Releases the trials, except those that may still be queued: kept until this process ends.

        keep  their numbers.
        """
        self.batch = [trial for trial in self.batch if trial.number in keep]
        if not self.batch:
            self._released.set()
            self._thread.join()
        for number, lock in self.locks.items():
            if lock is not None and number not in keep:
                os.close(lock)


def _failure_reason(job: JobReturn | None) -> str | None:
    """Why a job has failed, by what it returned; None if it hasn't."""
    if job is None:
        return "the launcher returned nothing for its job"
    if job.status == JobStatus.COMPLETED:
        return None
    # The property raises the job's error, and prints all overrides to standard error before.
    with contextlib.redirect_stderr(io.StringIO()):
        try:
            return _one_line(job.return_value)
        except Exception as error:
            return _one_line(error)


def _one_line(error: object) -> str:
    return " ".join(str(error).split())[:MAX_REASON_LENGTH]
