"""The stored trials of a study: their states, locks and heartbeats, on whatever machine they run.

The storage says which trials exist and how each ended. It doesn't say whether a running trial is
still worked on, so a process holds a lock on the directory of its trial; the kernel releases it
when the process ends. Locks aren't visible on other machines: these see heartbeats in the storage.
"""

from __future__ import annotations

import logging
import os
import socket
import time
import warnings
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.core.errors import UserError
from pipelines.core.saved_files import reading
from pipelines.core.settings import SweepSettings
from pipelines.sweep.locks import is_locked, try_lock
from pipelines.sweep.objectives import Objective
from pipelines.sweep.samplers import create_pruner
from pipelines.sweep.storage import JOURNAL, REMEDY, check_attributes, open_storage

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial, TrialState

log = logging.getLogger(__name__)

SURPLUS = "surplus"
"""Attribute of a trial that doesn't count, with the reason: a duplicate, or one too many."""

REPLACED = "replaced"
"""Attribute of the study: numbers of failed trials that others have replaced."""

STOP_REASON = "left"
"""Attribute of a trial: why an unfinished one is not worked on."""

STOPPED, REQUEUED = "stopped", "queued again"
"""Stop reasons: the trial can be resumed; or its launcher's job will resume it."""

JOBS = "jobs"
"""Directory of the launcher's files of each trial, locked while a launcher has the trial."""

LOCK_TIMEOUT = 2.0
"""Seconds to wait for a lock that another process may hold only to check that it is free."""


@dataclass(frozen=True)
class Liveness:
    """Times by which processes on other machines know that a trial is still running.

    heartbeat   seconds between two heartbeats of a trial.
    dead_after  seconds without a heartbeat after which other machines take over the trial.
    """

    heartbeat: float = 60.0
    dead_after: float = 300.0


@dataclass(frozen=True)
class StudyConfig:
    """Everything that a process needs to open the study, also on another machine."""

    name: str
    directory: Path
    objectives: tuple[Objective, ...]
    settings: SweepSettings
    epochs: int
    liveness: Liveness = Liveness()

    def trial_directory(self, number: int) -> Path:
        return self.directory / f"{number:04d}"

    def job_directory(self, number: int) -> Path:
        """The directory of a launcher's own files of a trial."""
        return self.directory / JOBS / f"{number:04d}"


@dataclass
class Trial:
    """A trial that this process works on. lock: a descriptor of its directory; -1 once released."""

    number: int
    directory: Path
    overrides: list[str]
    handle: optuna.Trial
    lock: int
    reported_rows: int = 0
    last_heartbeat: float = 0.0

    def release(self) -> None:
        """Lets other processes work on the trial."""
        if self.lock >= 0:
            os.close(self.lock)
            self.lock = -1


class TrialStore:
    """The trials of a study in its storage."""

    def __init__(self, config: StudyConfig):
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
        self.config = config
        of_file = config.settings.storage is None
        with reading(config.directory / JOURNAL, REMEDY) if of_file else nullcontext():
            self.storage = open_storage(config.settings.storage, config.directory)
            self.study = optuna.create_study(
                storage=self.storage,
                study_name=config.name,
                directions=[
                    "maximize" if objective.maximize else "minimize"
                    for objective in config.objectives
                ],
                load_if_exists=True,
                pruner=create_pruner(config.settings, config.epochs),
            )
            check_attributes(self.study)

    def all_trials(self) -> list[FrozenTrial]:
        """All trials by number, also those that don't count."""
        return self.study.get_trials(deepcopy=False)

    def counted_trials(self) -> list[FrozenTrial]:
        """The trials that count, by number, including enqueued ones that haven't started."""
        replaced = self.study.user_attrs.get(REPLACED, [])
        return [
            trial
            for trial in self.all_trials()
            if SURPLUS not in trial.user_attrs and trial.number not in replaced
        ]

    def started_trials(self) -> list[FrozenTrial]:
        """The trials that count and have started, by number."""
        return [trial for trial in self.counted_trials() if trial.state.name != "WAITING"]

    def finished_trials(self) -> list[FrozenTrial]:
        return [trial for trial in self.started_trials() if trial.state.is_finished()]

    def failed_trials(self) -> list[FrozenTrial]:
        return [trial for trial in self.started_trials() if trial.state.name == "FAIL"]

    def best(self) -> tuple[int, float] | None:
        """Number and first value of the best trial by the first objective."""
        complete = [trial for trial in self.started_trials() if trial.state.name == "COMPLETE"]
        if not complete:
            return None
        sign = 1 if self.config.objectives[0].maximize else -1
        best = max(complete, key=lambda trial: sign * trial.values[0])
        return best.number, best.values[0]

    def get(self, number: int) -> FrozenTrial:
        return next(trial for trial in self.all_trials() if trial.number == number)

    def is_finished(self, number: int) -> bool:
        return bool(self.get(number).state.is_finished())

    def is_running(self, number: int) -> bool:
        """Whether a process, here or on another machine, works on the trial."""
        trial = self.get(number)
        if trial.state.is_finished() or trial.user_attrs.get(STOP_REASON) is not None:
            return False
        return self.is_alive_elsewhere(trial) or is_locked(self.config.trial_directory(number))

    def is_alive_elsewhere(self, trial: FrozenTrial) -> bool:
        """Whether another machine, whose locks can't be seen here, works on the trial."""
        owner, heartbeat = trial.user_attrs.get("host"), trial.user_attrs.get("beat", 0.0)
        if owner == host() or (owner is None and self.config.settings.storage is None):
            return False
        started_at = trial.datetime_start.timestamp() if trial.datetime_start else 0.0
        return time.time() - max(heartbeat, started_at) < self.config.liveness.dead_after

    def open_handle(self, number: int) -> optuna.Trial:
        """Optuna's handle of a trial that was drawn earlier."""
        import optuna

        study_id = self.storage.get_study_id_from_name(self.config.name)
        trial_id = self.storage.get_trial_id_from_study_id_trial_number(study_id, number)
        return optuna.Trial(self.study, trial_id)

    def acquire(self, number: int, job: str) -> Trial:
        """A trial that another process drew, for a launcher's job of that name.

        A requeued job has the name that it had before. Raises UserError if another process works on
        the trial, or if it is finished.
        """
        directory = self.config.trial_directory(number)
        lock = try_lock(directory, timeout=LOCK_TIMEOUT)
        stored = self.get(number)
        is_taken = stored.user_attrs.get("job") not in (None, job) and self.is_alive_elsewhere(
            stored
        )
        if lock is None or stored.state.is_finished() or is_taken:
            if lock is not None:
                os.close(lock)
            raise UserError(f"trial {number} is worked on by another process, or finished")
        handle = self.open_handle(number)
        jobs = stored.user_attrs.get("jobs", 0) + 1
        for name, value in (("host", host()), ("job", job), ("jobs", jobs), (STOP_REASON, None)):
            handle.set_user_attr(name, value)
        overrides = list(stored.user_attrs["overrides"])
        rows = len(stored.intermediate_values)
        trial = Trial(number, directory, overrides, handle, lock, rows)
        self.send_heartbeat(trial)
        return trial

    def release_to_launcher(self, trial: Trial) -> None:
        """Releases the trial, so that the first job that asks can acquire it."""
        for name in (STOP_REASON, "job"):
            trial.handle.set_user_attr(name, None)
        trial.release()

    def set_stop_reason(self, trial: Trial, reason: str) -> None:
        """Stores why the trial, which is released next, isn't worked on: STOPPED or REQUEUED."""
        trial.handle.set_user_attr(STOP_REASON, reason)

    def stop_reason(self, number: int) -> str | None:
        """The last stop reason; None while the trial is worked on, or if its job was lost."""
        return self.get(number).user_attrs.get(STOP_REASON)

    def count_jobs(self, number: int) -> int:
        """The number of a launcher's jobs that have acquired the trial so far."""
        return int(self.get(number).user_attrs.get("jobs", 0))

    def send_heartbeat(self, trial: Trial) -> None:
        """Stores that the trial is worked on, if the last heartbeat is long enough ago."""
        now = time.time()
        if now - trial.last_heartbeat > self.config.liveness.heartbeat:
            trial.handle.set_user_attr("beat", now)
            trial.last_heartbeat = now

    def report(self, trial: Trial, rows: Sequence[Mapping[str, object]]) -> bool:
        """Stores the new evaluations among the history's `rows`; True to prune the trial."""
        should_prune = False
        for index in range(trial.reported_rows, len(rows)):
            value = self.config.objectives[0].read_history_row(rows[index])
            if value is None or len(self.config.objectives) > 1:
                continue
            step = index + 1
            trial.handle.report(value, step)
            may_prune = step >= self.config.settings.prune_from
            should_prune = may_prune and trial.handle.should_prune()
        trial.reported_rows = max(trial.reported_rows, len(rows))
        return should_prune

    def complete(self, trial: Trial, values: Sequence[float], **attributes: object) -> None:
        self._finish(trial, "COMPLETE", attributes, list(values))

    def prune(self, trial: Trial, **attributes: object) -> None:
        self._finish(trial, "PRUNED", attributes)

    def fail(self, trial: Trial, reason: str, **attributes: object) -> None:
        self._finish(trial, "FAIL", {"reason": reason, **attributes})

    def fail_if_unfinished(self, trial: Trial, reason: str | None) -> None:
        """Fails a trial whose job has ended, unless the job itself has stored an outcome.

        reason  None if the job was stopped on purpose: the trial can then be resumed.
        """
        lock = try_lock(trial.directory, timeout=LOCK_TIMEOUT)
        if lock is None:
            return  # a process works on it
        if not self.is_finished(trial.number):
            if reason is None:
                trial.handle.set_user_attr("host", host())  # no other machine has it any more
            else:
                trial.handle.set_user_attr("reason", reason)
                self.study.tell(trial.handle, state=trial_state("FAIL"))
        os.close(lock)

    def _finish(
        self,
        trial: Trial,
        state: str,
        attributes: Mapping[str, object],
        values: list[float] | None = None,
    ) -> None:
        if self.is_finished(trial.number):
            log.warning(
                "Another machine had given up trial %d as dead; in fact it is %s.",
                trial.number,
                state.lower(),
            )
        else:
            for name, value in attributes.items():
                trial.handle.set_user_attr(name, value)
            self.study.tell(trial.handle, values, state=trial_state(state))
        trial.release()


def trial_state(name: str) -> TrialState:
    from optuna.trial import TrialState

    return TrialState[name]


def host() -> str:
    return socket.gethostname()
