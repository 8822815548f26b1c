"""One trial under way: its process, what it reports, and what became of it."""

from __future__ import annotations

import fcntl
import logging
import shutil
import signal
import time
from pathlib import Path

from pipelines.core.errors import UserError
from pipelines.core.formatting import duration
from pipelines.core.settings import SweepSettings
from pipelines.runs.directory import Run
from pipelines.runs.signals import SIGNALS
from pipelines.sweep.objectives import values_of
from pipelines.sweep.trial_process import GRACE, WITH_SERVER, RunProcess
from pipelines.sweep.trials import STOPPED, StoredStudy, Trial

log = logging.getLogger(__name__)

MOST_ATTEMPTS = 2
"""A run that was killed goes on once: it may have been for want of memory that others took."""

KILLED = (
    WITH_SERVER,
    -signal.SIGKILL,
    *(-number for number in SIGNALS),
    *(128 + n for n in SIGNALS),
)
"""Exit codes of a run that somebody else ended."""

BETWEEN_LOOKS = 1.0
"""Seconds between two looks at a run's memory."""

PRUNED, TOO_LONG, TOO_LARGE = "pruned", "too long", "too large"


class Attempt:
    """A trial's process from its start to its outcome, which is stored in the study."""

    def __init__(
        self, study: StoredStudy, trial: Trial, settings: SweepSettings, threads: int | None
    ):
        self.study, self.trial, self.settings, self.threads = study, trial, settings, threads
        self.run = Run(trial.directory)
        self.ended_by: str | None = None
        self.number_of_attempts = 0
        self._history_seen = 0.0
        self._looked = 0.0
        self._spent, self._peak = 0.0, 0
        self.process: RunProcess | None = None
        if self._values() is None:
            self._start()

    def _start(self) -> None:
        self.number_of_attempts += 1
        _wait_until_free(self.run)
        if not self.run.config.exists():
            _empty(self.trial.directory)  # it was cut off before it began
        logs = self.trial.directory.parent / "logs" / f"{self.trial.number:04d}.log"
        self.process = RunProcess(
            self.trial.overrides, self.trial.directory, logs, threads=self.threads
        )

    def _values(self) -> list[float] | None:
        """None while the run isn't finished, and where what it left can't be read."""
        try:
            return values_of(self.run, self.study.objectives)
        except UserError:
            return None

    def stop(self, why: str) -> None:
        """Asks the run to save where it stands and end."""
        if self.ended_by is None:
            self.ended_by = why
        if self.process is not None:
            self.process.end()

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()

    def look(self) -> bool:
        """Reports what is new; True once the trial has ended, and its outcome is stored."""
        process = self.process
        if process is None:
            self._finish()  # all was done but the study hadn't been told
            return True
        ended = process.ended()
        self._report()
        if not ended:
            self.study.beat(self.trial)
            self._check_limits(process)
            return False
        self._spent += process.seconds
        self._peak = max(self._peak, process.peak_bytes)
        code = process.returncode
        killed = self.ended_by is None and code in KILLED
        if killed and self.number_of_attempts < MOST_ATTEMPTS:
            log.info("trial %d: %s; it goes on", self.trial.number, process.reason())
            self._start()
            return False
        self._finish()
        return True

    def _report(self) -> None:
        try:
            changed = self.run.history.stat().st_mtime
        except OSError:
            return
        if changed == self._history_seen:
            return
        self._history_seen = changed
        try:
            rows = self.run.read_history()
        except UserError:
            return  # the run itself will tell that it is damaged
        if self.study.report(self.trial, rows) and self._can_be_pruned():
            self.stop(PRUNED)

    def _can_be_pruned(self) -> bool:
        """A run whose training has ended costs little more, and gives a better value."""
        return not self.run.model.exists()

    def _check_limits(self, process: RunProcess) -> None:
        limit = self.settings.run_seconds
        if limit is not None and self._spent + process.seconds > limit:
            self.stop(TOO_LONG)
        if time.monotonic() - self._looked < BETWEEN_LOOKS:
            return
        self._looked = time.monotonic()
        most = self.settings.run_gigabytes
        if process.resident_bytes() > (most or float("inf")) * 1e9:
            self.stop(TOO_LARGE)
            process.kill()

    def _finish(self) -> None:
        facts = {"seconds": round(self._spent, 2), "peak_mb": round(self._peak / 1e6, 1)}
        facts["attempts"] = self.number_of_attempts
        study, trial = self.study, self.trial
        code = 0 if self.process is None else self.process.returncode
        try:
            values = values_of(self.run, study.objectives) if code == 0 else None
        except UserError as error:
            study.fail(trial, str(error), **facts)
            return
        if values is not None:
            study.complete(trial, values, **facts)
        elif self.ended_by == PRUNED:
            study.prune(trial, **facts)
        elif self.ended_by == STOPPED:
            return  # to be taken up again, once who has the trial lets go of it
        elif self.ended_by == TOO_LONG:
            limit = self.settings.run_seconds or 0.0
            study.fail(trial, f"it took longer than {duration(limit)} (sweep.run_seconds)", **facts)
        elif self.ended_by == TOO_LARGE:
            limit = self.settings.run_gigabytes or 0.0
            study.fail(trial, f"it took more than {limit:g} GB (sweep.run_gigabytes)", **facts)
        else:
            reason = self.process.reason() if self.process is not None and code else "it is no run"
            study.fail(trial, reason, **facts)


def _wait_until_free(run: Run) -> None:
    """Until a run whose sweep was killed, and which saves where it stands, has ended."""
    path = run.directory / "run.log"
    deadline = time.monotonic() + GRACE
    while path.exists() and time.monotonic() < deadline:
        with path.open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                time.sleep(0.2)


def _empty(directory: Path) -> None:
    for path in directory.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
