"""A trial in progress: its process, its reports to the study, and its outcome."""

from __future__ import annotations

import fcntl
import logging
import shutil
import signal
import time
from pathlib import Path

from pipelines.core.errors import UserError
from pipelines.core.formatting import duration
from pipelines.runs.directory import Run
from pipelines.runs.signals import SIGNALS
from pipelines.sweep.objectives import read_values
from pipelines.sweep.trial_process import (
    GRACE_SECONDS,
    MAIN_SCRIPT,
    SERVER_LOST,
    RunProcess,
    RunScript,
)
from pipelines.sweep.trials import STOPPED, Trial, TrialStore

log = logging.getLogger(__name__)

MAX_STARTS = 2
"""A killed run is resumed once: other processes may have used up the memory."""

KILLED_EXIT_CODES = (
    SERVER_LOST,
    -signal.SIGKILL,
    *(-number for number in SIGNALS),
    *(128 + number for number in SIGNALS),
)
"""Exit codes of a run that another process ended."""

MEMORY_POLL_SECONDS = 1.0
"""Seconds between two measurements of a run's memory."""

PRUNED, TIMED_OUT, OUT_OF_MEMORY = "pruned", "too long", "too large"
"""Reasons for which a run is stopped, in addition to STOPPED."""


class TrialAttempt:
    """A trial's process from its start to its outcome, which is stored in the study."""

    def __init__(
        self,
        store: TrialStore,
        trial: Trial,
        *,
        threads: int | None,
        script: RunScript = MAIN_SCRIPT,
    ):
        self.store, self.trial, self.threads, self.script = store, trial, threads, script
        self.settings = store.config.settings
        self.run = Run(trial.directory)
        self.stopped_for: str | None = None
        self.starts = 0
        self._history_mtime = 0.0
        self._memory_polled_at = 0.0
        self._seconds, self._peak_bytes = 0.0, 0
        self.process: RunProcess | None = None
        if self._read_values() is None:
            self._start()

    def _start(self) -> None:
        self.starts += 1
        _wait_for_run_lock(self.run)
        if not self.run.config.exists():
            _clear_directory(self.trial.directory)  # it was interrupted before it saved anything
        log_path = self.trial.directory.parent / "logs" / f"{self.trial.number:04d}.log"
        self.process = RunProcess(
            self.trial.overrides,
            self.trial.directory,
            log_path,
            threads=self.threads,
            script=self.script,
        )

    def _read_values(self) -> list[float] | None:
        """The objectives' values; None if the run isn't finished or its files can't be read."""
        try:
            return read_values(self.run, self.store.config.objectives)
        except UserError:
            return None

    def stop(self, reason: str) -> None:
        """Asks the run to save a checkpoint and end."""
        if self.stopped_for is None:
            self.stopped_for = reason
        if self.process is not None:
            self.process.terminate()

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()

    def poll(self) -> bool:
        """Reports new evaluations; True once the trial has ended and its outcome is stored."""
        process = self.process
        if process is None:
            self._store_outcome()  # the run was finished, but its outcome wasn't stored
            return True
        has_ended = process.has_ended()
        self._report()
        if not has_ended:
            self.store.send_heartbeat(self.trial)
            self._check_limits(process)
            return False
        self._seconds += process.seconds
        self._peak_bytes = max(self._peak_bytes, process.peak_bytes)
        was_killed = self.stopped_for is None and process.returncode in KILLED_EXIT_CODES
        if was_killed and self.starts < MAX_STARTS:
            log.info("trial %d: %s; it is resumed", self.trial.number, process.failure_reason())
            self._start()
            return False
        self._store_outcome()
        return True

    def _report(self) -> None:
        try:
            mtime = self.run.history.stat().st_mtime
        except OSError:
            return
        if mtime == self._history_mtime:
            return
        self._history_mtime = mtime
        try:
            rows = self.run.read_history()
        except UserError:
            return  # the run itself reports a damaged file
        if self.store.report(self.trial, rows) and self._is_training():
            self.stop(PRUNED)

    def _is_training(self) -> bool:
        """After training there is little to save by pruning, and a complete value to gain."""
        return not self.run.model.exists()

    def _check_limits(self, process: RunProcess) -> None:
        max_seconds = self.settings.run_seconds
        if max_seconds is not None and self._seconds + process.seconds > max_seconds:
            self.stop(TIMED_OUT)
        if time.monotonic() - self._memory_polled_at < MEMORY_POLL_SECONDS:
            return
        self._memory_polled_at = time.monotonic()
        max_gigabytes = self.settings.run_gigabytes
        if process.resident_bytes() > (max_gigabytes or float("inf")) * 1e9:
            self.stop(OUT_OF_MEMORY)
            process.kill()

    def _store_outcome(self) -> None:
        attributes = {
            "seconds": round(self._seconds, 2),
            "peak_mb": round(self._peak_bytes / 1e6, 1),
            "attempts": self.starts,
        }
        code = 0 if self.process is None else self.process.returncode
        try:
            values = read_values(self.run, self.store.config.objectives) if code == 0 else None
        except UserError as error:
            self.store.fail(self.trial, str(error), **attributes)
            return
        if values is not None:
            self.store.complete(self.trial, values, **attributes)
        elif self.stopped_for == PRUNED:
            self.store.prune(self.trial, **attributes)
        elif self.stopped_for != STOPPED:  # a stopped trial stays unfinished, to be resumed
            self.store.fail(self.trial, self._failure_reason(), **attributes)

    def _failure_reason(self) -> str:
        if self.stopped_for == TIMED_OUT:
            limit = self.settings.run_seconds or 0.0
            return f"it took longer than {duration(limit)} (sweep.run_seconds)"
        if self.stopped_for == OUT_OF_MEMORY:
            limit = self.settings.run_gigabytes or 0.0
            return f"it took more than {limit:g} GB (sweep.run_gigabytes)"
        if self.process is None or self.process.returncode == 0:
            return "it ended without results"
        return self.process.failure_reason()


def _wait_for_run_lock(run: Run) -> None:
    """Waits for a run that is still saving a checkpoint after its sweep was killed."""
    path = run.directory / "run.log"
    deadline = time.monotonic() + GRACE_SECONDS
    while path.exists() and time.monotonic() < deadline:
        with path.open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                time.sleep(0.2)


def _clear_directory(directory: Path) -> None:
    for path in directory.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
