"""A sweep from its first trial to its last: so many at a time, until the study has its total."""

from __future__ import annotations

import json
import logging
import math
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipelines.core.errors import UserError
from pipelines.core.files import atomic_write
from pipelines.core.formatting import duration, label, number
from pipelines.core.settings import SweepSettings
from pipelines.runs.progress import Bar
from pipelines.runs.signals import GracefulExit, Interruption
from pipelines.sweep.study import Study
from pipelines.sweep.trial_attempt import Attempt
from pipelines.sweep.trial_process import share_of_cores
from pipelines.sweep.trials import STOPPED

log = logging.getLogger(__name__)

BETWEEN_ROUNDS = 0.1
"""Seconds between two looks at the runs under way."""

SUMMARY = "sweep.json"


class Sweep:
    """Trials of a study, in processes of their own on this machine."""

    def __init__(self, study: Study, settings: SweepSettings):
        self.study, self.settings = study, settings
        self.attempts: list[Attempt] = []
        self.begun = time.monotonic()
        self.enough = False

    def run(self) -> None:
        """Returns once the total is reached; GracefulExit on a signal, UserError if many fail."""
        done = len(self.study.finished())
        with (
            Interruption() as interruption,
            Bar("sweep", self.study.total, "trials", done=done) as self.bar,
        ):
            try:
                while interruption.requested is None:
                    self._start_more()
                    if not self.attempts:
                        break
                    self._look()
                    time.sleep(BETWEEN_ROUNDS)
            finally:
                self._stop()
                write_summary(self.study)
        if interruption.requested is not None:
            raise stopped(self.study, interruption.requested)

    def _start_more(self) -> None:
        self.enough = self.enough or time_is_over(self.settings, self.begun)
        while len(self.attempts) < self.settings.parallel and not self.enough:
            trial = self.study.next()
            if trial is None:
                return
            threads = share_of_cores(self.settings.parallel)
            self.attempts.append(Attempt(self.study, trial, self.settings, threads))
            if not self.bar.live:
                log.info("trial %d: %s", trial.number, varied(self.study, trial.overrides))

    def _look(self) -> None:
        for attempt in list(self.attempts):
            if attempt.look():
                attempt.trial.release()
                self.attempts.remove(attempt)
                self._told(attempt)

    def _told(self, attempt: Attempt) -> None:
        """Says what became of a trial. UserError once too many have failed."""
        if attempt.ended_by != STOPPED:
            log.info("%s", outcome(self.study, attempt.trial.number, named=self.bar.live))
            self.bar.advance(len(self.study.finished()) - self.bar.done)
        write_summary(self.study)
        check_failures(self.study, self.settings)

    def _stop(self) -> None:
        """Ends what is under way; it goes on from where it stands another time."""
        try:
            for attempt in self.attempts:
                attempt.stop(STOPPED)
            while self.attempts:
                self.attempts = [one for one in self.attempts if not one.look()]
                time.sleep(BETWEEN_ROUNDS)
        except KeyboardInterrupt:  # asked twice
            for attempt in self.attempts:
                attempt.kill()
            raise


def time_is_over(settings: SweepSettings, begun: float) -> bool:
    """Whether a sweep that has begun then may start no more trials; says so."""
    if settings.seconds is None or time.monotonic() - begun <= settings.seconds:
        return False
    log.info("%s are over: no more trials are started.", duration(settings.seconds))
    return True


def stopped(study: Study, number: int) -> GracefulExit:
    """What a sweep ends with that a signal has stopped."""
    done = len(study.finished())
    return GracefulExit(
        f"Stopped; {done} of {study.total} trials are done. The same command goes on.", number
    )


def check_failures(study: Study, settings: SweepSettings) -> None:
    """Raises UserError if more trials have failed than the settings let."""
    failed = study.failed()
    if len(failed) <= math.floor(settings.failures * study.total):
        return
    last = failed[-1]
    raise UserError(
        f"{len(failed)} of {study.total} trials have failed, more than sweep.failures="
        f"{settings.failures:g} lets; trial {last.number}, since {last.user_attrs.get('reason')} "
        f"(see {study.directory}/logs); sweep.retry=true tries them anew"
    )


def varied(study: Study, overrides: Sequence[str]) -> str:
    """Those of the overrides that the sweep varies, numbers to four digits."""
    keys = {parameter.key for parameter in study.space.parameters}
    shown = []
    for text in overrides:
        key, _, value = text.partition("=")
        if key.lstrip("+") in keys:
            shown.append(f"{key}={float(value):.4g}" if re.fullmatch(LONG, value) else text)
    return " ".join(shown) or "as it is"


LONG = r"[\d.]{7,}(e-?\d+)?"
"""A number with more digits than anybody reads."""


def outcome(study: Study, number_of_trial: int, *, named: bool) -> str:
    """A line about a trial that has ended, and the best so far. named: with what it varies."""
    trial = next(one for one in study.trials() if one.number == number_of_trial)
    state, seconds = trial.state.name, trial.user_attrs.get("seconds", 0.0)
    if not trial.state.is_finished():
        return f"trial {trial.number} was stopped, and is taken up another time"
    start = f"trial {trial.number}"
    if named:
        start += f" ({varied(study, trial.user_attrs['overrides'])})"
    if state == "FAIL":
        return f"{start} failed: {trial.user_attrs.get('reason')}"
    best = study.best()
    after = ""
    if best is not None and len(study.objectives) == 1:
        what = "the best so far" if best[0] == trial.number else f"best {_shown(study, 0, best[1])}"
        after = f"; {what}"
    if state == "PRUNED":
        value = _shown(study, 0, trial.value) if trial.value is not None else "nothing"
        return f"{start} pruned at {value} after {duration(seconds)}{after}"
    values = ", ".join(_shown(study, place, value) for place, value in enumerate(trial.values))
    return f"{start}: {values} in {duration(seconds)}{after}"


def _shown(study: Study, place: int, value: float) -> str:
    objective = study.objectives[place]
    score = objective.path[-1] if objective.path[0] == "validation" else ""
    return f"{label(score or objective.name)} {number(value, score)}"


def write_summary(study: Study) -> None:
    """sweep.json: what the study holds, for who has no access to its storage."""
    trials: list[dict[str, Any]] = [
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
        for trial in study.trials()
    ]
    summary = {
        "study": study.study.study_name,
        "total": study.total,
        **study.study.user_attrs.get("question", {}),
        "trials": trials,
    }
    path = Path(study.directory) / SUMMARY
    with atomic_write(path) as temporary:
        text = json.dumps(summary, indent=1, ensure_ascii=False)
        temporary.write_text(text + "\n", encoding="utf-8")
