"""A sweep on this machine: concurrent trials until the study has its total."""

from __future__ import annotations

import logging
import math
import re
import time
from collections.abc import Sequence

from pipelines.core.errors import UserError
from pipelines.core.files import atomic_write
from pipelines.core.formatting import duration, number
from pipelines.core.plain_text import json_text
from pipelines.runs.progress import Bar
from pipelines.runs.signals import GracefulExit, Interruption
from pipelines.sweep.study import DEFINITION, Study
from pipelines.sweep.trial_attempt import TrialAttempt
from pipelines.sweep.trial_process import MAIN_SCRIPT, RunScript, threads_per_run
from pipelines.sweep.trials import STOPPED

log = logging.getLogger(__name__)

POLL_SECONDS = 0.1
"""Seconds between two polls of the runs."""

SUMMARY = "sweep.json"

MANY_DIGITS = r"[\d.]{7,}(e-?\d+)?"
"""A number with more digits than people read."""


class LocalSweep:
    """Runs the trials of a study in processes of their own, on this machine."""

    def __init__(self, study: Study, script: RunScript = MAIN_SCRIPT):
        self.study, self.store, self.script = study, study.store, script
        self.settings = study.config.settings
        self.attempts: list[TrialAttempt] = []
        self.started_at = time.monotonic()
        self.is_over = False

    def run(self) -> None:
        """Returns once the study has its total.

        Raises GracefulExit for a signal, and UserError if too many trials fail.
        """
        done = len(self.store.finished_trials())
        with (
            Interruption() as interruption,
            Bar("sweep", self.study.total, "trials", done=done) as self.bar,
        ):
            try:
                while interruption.requested is None:
                    self._start_more()
                    if not self.attempts:
                        break
                    self._poll()
                    time.sleep(POLL_SECONDS)
            finally:
                self._stop_all()
                write_summary(self.study)
        if interruption.requested is not None:
            raise stop_error(self.study, interruption.requested)

    def _start_more(self) -> None:
        self.is_over = self.is_over or is_time_over(self.settings.seconds, self.started_at)
        while len(self.attempts) < self.settings.parallel and not self.is_over:
            trial = self.study.next_trial()
            if trial is None:
                return
            threads = threads_per_run(self.settings.parallel)
            self.attempts.append(
                TrialAttempt(self.store, trial, threads=threads, script=self.script)
            )
            if not self.bar.live:
                log.info("trial %d: %s", trial.number, swept_overrides(self.study, trial.overrides))

    def _poll(self) -> None:
        for attempt in list(self.attempts):
            if attempt.poll():
                attempt.trial.release()
                self.attempts.remove(attempt)
                self._report_outcome(attempt)

    def _report_outcome(self, attempt: TrialAttempt) -> None:
        """Logs the outcome of a trial. Raises UserError once too many have failed."""
        if attempt.stopped_for != STOPPED:
            number, with_settings = attempt.trial.number, self.bar.live
            log.info("%s", describe_outcome(self.study, number, with_settings=with_settings))
            self.bar.advance(len(self.store.finished_trials()) - self.bar.done)
        write_summary(self.study)
        check_failures(self.study)

    def _stop_all(self) -> None:
        """Stops the runs; a later command resumes them from their checkpoints."""
        try:
            for attempt in self.attempts:
                attempt.stop(STOPPED)
            while self.attempts:
                self.attempts = [attempt for attempt in self.attempts if not attempt.poll()]
                time.sleep(POLL_SECONDS)
        except KeyboardInterrupt:  # the second signal
            for attempt in self.attempts:
                attempt.kill()
            raise


def is_time_over(seconds: float | None, started_at: float) -> bool:
    """Whether sweep.seconds have passed, after which no trial is started; logs it if so."""
    if seconds is None or time.monotonic() - started_at <= seconds:
        return False
    log.info("%s are over: no more trials are started.", duration(seconds))
    return True


def stop_error(study: Study, number: int) -> GracefulExit:
    """The exception with which a sweep ends that signal `number` has stopped."""
    done = len(study.store.finished_trials())
    return GracefulExit(
        f"Stopped; {done} of {study.total} trials are done. The same command continues.", number
    )


def check_failures(study: Study) -> None:
    """Raises UserError if more trials have failed than sweep.failures allows."""
    settings, failed = study.config.settings, study.store.failed_trials()
    if len(failed) <= math.floor(settings.failures * study.total):
        return
    last = failed[-1]
    raise UserError(
        f"{len(failed)} of {study.total} trials have failed, more than sweep.failures="
        f"{settings.failures:g} allows; trial {last.number}: {last.user_attrs.get('reason')} "
        f"(see {study.config.directory}/logs); sweep.retry=true repeats them"
    )


def swept_overrides(study: Study, overrides: Sequence[str]) -> str:
    """The overrides that the sweep varies, with numbers to four digits."""
    keys = {parameter.key for parameter in study.space.parameters}
    shown = []
    for text in overrides:
        key, _, value = text.partition("=")
        if key.lstrip("+") in keys:
            shown.append(f"{key}={float(value):.4g}" if re.fullmatch(MANY_DIGITS, value) else text)
    return " ".join(shown) or "no setting varies"


def describe_outcome(study: Study, number_of_trial: int, *, with_settings: bool) -> str:
    """A line about a trial that has ended, and the best trial so far."""
    trial = study.store.get(number_of_trial)
    state, seconds = trial.state.name, trial.user_attrs.get("seconds", 0.0)
    if not trial.state.is_finished():
        return f"trial {trial.number} was stopped; the same command resumes it"
    start = f"trial {trial.number}"
    if with_settings:
        start += f" ({swept_overrides(study, trial.user_attrs['overrides'])})"
    if state == "FAIL":
        return f"{start} failed: {trial.user_attrs.get('reason')}"
    best = study.store.best()
    after = ""
    if best is not None and len(study.config.objectives) == 1:
        outcome = (
            "the best so far"
            if best[0] == trial.number
            else f"best {_format_value(study, 0, best[1])}"
        )
        after = f"; {outcome}"
    if state == "PRUNED":
        value = _format_value(study, 0, trial.value) if trial.value is not None else "nothing"
        return f"{start} pruned at {value} after {duration(seconds)}{after}"
    values = ", ".join(
        _format_value(study, index, value) for index, value in enumerate(trial.values)
    )
    return f"{start}: {values} in {duration(seconds)}{after}"


def _format_value(study: Study, index: int, value: float) -> str:
    objective = study.config.objectives[index]
    return f"{objective.metric.label} {number(value, objective.metric)}"


def write_summary(study: Study) -> None:
    """Writes sweep.json: the study's trials, for programs without access to its storage."""
    trials = [
        {
            "number": trial.number,
            "state": trial.state.name,
            "values": trial.values,
            "parameters": trial.params,
            **{
                name: trial.user_attrs[name]
                for name in ("overrides", "reason", "seconds", "peak_mb", "attempts", "host")
                if name in trial.user_attrs
            },
        }
        for trial in study.store.started_trials()
    ]
    summary = {
        "study": study.config.name,
        "total": study.total,
        **study.store.study.user_attrs[DEFINITION],
        "trials": trials,
    }
    path = study.config.directory / SUMMARY
    with atomic_write(path) as temporary:
        text = json_text(summary, indent=1)
        temporary.write_text(text + "\n", encoding="utf-8")
