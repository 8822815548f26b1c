"""A sweep whose trials Hydra's own launchers (Ray, Submitit) bring elsewhere, in batches."""

from __future__ import annotations

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
from pipelines.core.settings import SweepSettings
from pipelines.runs.progress import Bar
from pipelines.runs.signals import Interruption
from pipelines.sweep.local_sweep import (
    check_failures,
    outcome,
    stopped,
    time_is_over,
    write_summary,
)
from pipelines.sweep.trial_process import LONGEST_REASON
from pipelines.sweep.trials import (
    HEARTBEAT,
    JOBS,
    QUEUED,
    SECONDS_OF_A_LOOK,
    STOPPED,
    hold,
)

if TYPE_CHECKING:
    from hydra.plugins.launcher import Launcher

    from pipelines.sweep.study import Study
    from pipelines.sweep.trials import Trial

log = logging.getLogger(__name__)

BETWEEN_ROUNDS = 1.0
"""Seconds between two looks at trials whose jobs nobody tells of."""


class RemoteSweep:
    """Batches of `sweep.parallel` trials, each batch through a launcher of Hydra's."""

    def __init__(self, study: Study, settings: SweepSettings, launcher: Launcher):
        self.study, self.settings, self.launcher = study, settings, launcher
        self.interruption = Interruption()
        self.begun = time.monotonic()
        self.queued: list[int] = []

    def run(self) -> None:
        """Returns once the total is reached; GracefulExit on a signal, UserError if many fail."""
        done = len(self.study.finished())
        with self.interruption, Bar("sweep", self.study.total, "trials", done=done) as bar:
            try:
                while self.interruption.requested is None:
                    if time_is_over(self.settings, self.begun) or not (batch := self._batch()):
                        break
                    self._launch(batch)
                    for trial in batch:
                        log.info("%s", self._outcome(trial.number))
                    bar.advance(len(self.study.finished()) - bar.done)
                    write_summary(self.study)
                    check_failures(self.study, self.settings)
            finally:
                write_summary(self.study)
        if self.interruption.requested is not None:
            raise stopped(self.study, self.interruption.requested)

    def _batch(self) -> list[Trial]:
        """Trials to hand over."""
        batch: list[Trial] = []
        while len(batch) < self.settings.parallel:
            trial = self.study.next()
            if trial is None:
                break
            batch.append(trial)
        return batch

    def _outcome(self, number: int) -> str:
        if self._worked_on(number):
            return f"trial {number} is still under way; its job goes on by itself"
        if number in self.queued:
            return f"trial {number} may still be in the launcher's queue"
        return outcome(self.study, number, named=True)

    def _launch(self, batch: Sequence[Trial]) -> None:
        jobs = [
            [
                *map(quote_free_text, trial.overrides),
                quote_free_text(f"hydra.sweep.dir={self.study.directory.resolve()}"),
                f"hydra.sweep.subdir={JOBS}/{trial.number:04d}",
            ]
            for trial in batch
        ]
        handed = HandedOver(self.study, batch)
        try:
            returns = self.launcher.launch(jobs, initial_job_idx=batch[0].number)
            reasons = {
                trial.number: _reason(returned)
                for trial, returned in itertools.zip_longest(batch, returns[: len(batch)])
            }
        except Exception as error:  # the launcher's own failures have no common class
            reasons = self._lost(handed, _in_a_line(error))
            self.queued += [one.number for one in batch if one.number not in reasons]
        finally:
            handed.over(self.queued)
        for trial in batch:
            if trial.number in reasons:
                self.study.fail_if_unfinished(trial, reasons[trial.number])

    def _lost(self, handed: HandedOver, why: str) -> dict[int, str | None]:
        """By trial whose job is over, why it failed, if it did. UserError if no job has begun.

        A launcher tells of the first job that is lost, and then of none; others may be under way,
        which is waited for, or in its queue.
        """
        begun = [trial.number for trial in handed.batch if handed.has_begun(trial.number)]
        if not begun:
            raise UserError(
                f"hydra/launcher: the jobs could not be started, or were lost: {why}; the same "
                "command goes on"
            )
        while self.interruption.requested is None and any(map(self._worked_on, begun)):
            time.sleep(BETWEEN_ROUNDS)
        reasons: dict[int, str | None] = {}
        for trial in handed.batch:
            number, left = trial.number, self.study.left(trial.number)
            if self.study.is_finished(number) or left == STOPPED:
                reasons[number] = None
            elif number in begun and left != QUEUED and not self._worked_on(number):
                reasons[number] = f"its job, or another of its batch, was lost: {why}"
        return reasons

    def _worked_on(self, number: int) -> bool:
        try:
            return self.study.worked_on(number)
        except Exception as error:  # the storage is away for a while
            log.warning("trial %d: nothing is known of it now: %s", number, _in_a_line(error))
            return True


class HandedOver:
    """Trials that a launcher has. Nobody takes them up who finds that they wait in its queue.

    Who gets a trial holds its directory, so that we let go of that, but hold its job's, and give
    signs of life while nobody has it.
    """

    def __init__(self, study: Study, batch: Sequence[Trial]):
        self.study, self.batch = study, list(batch)
        self.jobs = {
            trial.number: hold(study.job(trial.number), seconds=SECONDS_OF_A_LOOK)
            for trial in batch
        }
        self._before = {trial.number: study.jobs_begun(trial.number) for trial in batch}
        for trial in batch:
            study.hand_over(trial)
        self._over = threading.Event()
        self._beats = threading.Thread(target=self._beat, daemon=True)
        self._beats.start()

    def _beat(self) -> None:
        while not self._over.wait(HEARTBEAT):
            for trial in self.batch:
                try:
                    number = trial.number
                    if not self.has_begun(number) or self.study.left(number) == QUEUED:
                        self.study.beat(trial)
                except Exception as error:  # it has ended, or the storage is away for a while
                    log.debug("trial %d: no sign of life: %s", trial.number, error)

    def has_begun(self, number: int) -> bool:
        """Whether a job has begun to work on the trial since it was handed over."""
        return self.study.jobs_begun(number) > self._before[number]

    def over(self, queued: Sequence[int] = ()) -> None:
        """Lets go of all but those that may still be in the queue: these until we end."""
        self.batch = [trial for trial in self.batch if trial.number in queued]
        if not self.batch:
            self._over.set()
            self._beats.join()
        for number, job in self.jobs.items():
            if job is not None and number not in queued:
                os.close(job)


def _reason(returned: JobReturn | None) -> str | None:
    """Why a job has failed by what it returned; None if it hasn't."""
    if returned is None:
        return "the launcher told nothing of its job"
    if returned.status == JobStatus.COMPLETED:
        return None
    return _in_a_line(returned._return_value)  # the property would print all overrides again


def _in_a_line(error: Exception) -> str:
    return " ".join(str(error).split())[:LONGEST_REASON]
