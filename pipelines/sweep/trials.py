"""What is stored of a study's trials, by whoever works on them, on whatever machine."""

from __future__ import annotations

import fcntl
import logging
import os
import socket
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.core.errors import UserError
from pipelines.core.settings import SweepSettings
from pipelines.sweep.objectives import Objective
from pipelines.sweep.samplers import pruner_of
from pipelines.sweep.storage import open_storage

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

log = logging.getLogger(__name__)

SURPLUS = "surplus"
"""Why a trial doesn't count: another has its values, or there are enough."""

REPLACED = "replaced"
"""The study's list of failed trials that others took the place of."""

JOBS = "jobs"
"""Directory of what a launcher of Hydra's leaves of each trial; the trial's is held meanwhile."""

STOPPED, QUEUED = "stopped", "queued again"
"""Why a trial that isn't finished isn't worked on: to be taken up; or its job comes back."""

LEFT = "left"
"""The attribute of a trial that says so."""

SECONDS_OF_A_LOOK = 2.0
"""Who only looks whether somebody has a directory has it for a moment."""

HEARTBEAT, DEAD = 60.0, 300.0
"""Seconds between two signs of life of a trial, and until other machines give it up."""


@dataclass
class Trial:
    """One run of the study, held by this process. `held` is its directory's lock."""

    number: int
    directory: Path
    overrides: list[str]
    asked: optuna.Trial
    held: int
    reported: int = 0
    beat: float = 0.0

    def release(self) -> None:
        """Lets go of it, once; nothing if that was done."""
        if self.held >= 0:
            os.close(self.held)
            self.held = -1


class StoredStudy:
    """A study's trials: how they go, and what becomes of them."""

    def __init__(
        self,
        name: str,
        directory: Path,
        objectives: Sequence[Objective],
        settings: SweepSettings,
        *,
        epochs: int,
    ):
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
        self.name, self.directory, self.epochs = name, directory, epochs
        self.objectives, self.settings = list(objectives), settings
        both = optuna.study.StudyDirection
        self.study = optuna.create_study(
            storage=open_storage(settings.storage, directory),
            study_name=name,
            directions=[both.MAXIMIZE if one.maximize else both.MINIMIZE for one in objectives],
            load_if_exists=True,
            pruner=pruner_of(settings, epochs),
        )

    def trials(self) -> list[FrozenTrial]:
        """Those that count and have begun, by number."""
        return [trial for trial in self.counted() if trial.state.name != "WAITING"]

    def counted(self) -> list[FrozenTrial]:
        """Those that count, by number, also those that somebody has asked for and nobody begun."""
        replaced = self.study.user_attrs.get(REPLACED, [])
        return [
            trial
            for trial in self._all()
            if SURPLUS not in trial.user_attrs and trial.number not in replaced
        ]

    def _all(self) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False)

    def finished(self) -> list[FrozenTrial]:
        return [trial for trial in self.trials() if trial.state.is_finished()]

    def failed(self) -> list[FrozenTrial]:
        return [trial for trial in self.trials() if trial.state.name == "FAIL"]

    def held(self, number: int, job: str) -> Trial:
        """A trial that somebody else drew, to be worked on by a launcher's job of that name.

        UserError if it can't be. A job that is queued again comes back by its name.
        """
        import optuna

        directory = self._directory(number)
        held = hold(directory, seconds=SECONDS_OF_A_LOOK)
        stored = self._stored(number)
        others = stored.user_attrs.get("job") not in (None, job)
        if held is None or stored.state.is_finished() or (others and self._alive_elsewhere(stored)):
            if held is not None:
                os.close(held)
            raise UserError(f"trial {number} is worked on by another process, or done")
        asked = optuna.Trial(self.study, stored._trial_id)
        facts = {"host": host(), "job": job, "jobs": stored.user_attrs.get("jobs", 0) + 1}
        for name, value in (*facts.items(), (LEFT, None)):
            asked.set_user_attr(name, value)
        overrides = list(stored.user_attrs["overrides"])
        reported = len(stored.intermediate_values)
        trial = Trial(number, directory, overrides, asked, held, reported)
        self.beat(trial)
        return trial

    def hand_over(self, trial: Trial) -> None:
        """Lets go of it for whoever comes first."""
        for name in (LEFT, "job"):
            trial.asked.set_user_attr(name, None)
        trial.release()

    def leave(self, trial: Trial, how: str) -> None:
        """Says why a trial that is now let go of isn't worked on any more: STOPPED, QUEUED."""
        trial.asked.set_user_attr(LEFT, how)

    def left(self, number: int) -> str | None:
        """What was said so last; None while somebody works on it, or if its job is lost."""
        return self._stored(number).user_attrs.get(LEFT)

    def jobs_begun(self, number: int) -> int:
        """How many jobs of a launcher's have begun to work on the trial."""
        return int(self._stored(number).user_attrs.get("jobs", 0))

    def is_finished(self, number: int) -> bool:
        return bool(self._stored(number).state.is_finished())

    def worked_on(self, number: int) -> bool:
        """Whether somebody, here or elsewhere, works on the trial."""
        stored = self._stored(number)
        if stored.state.is_finished() or stored.user_attrs.get(LEFT) is not None:
            return False
        if self._alive_elsewhere(stored):
            return True
        held = hold(self._directory(number))
        if held is not None:
            os.close(held)
        return held is None

    def _stored(self, number: int) -> FrozenTrial:
        return next(trial for trial in self._all() if trial.number == number)

    def _alive_elsewhere(self, trial: FrozenTrial) -> bool:
        """Whether another machine, whose locks we can't see, works on it."""
        owner, beat = trial.user_attrs.get("host"), trial.user_attrs.get("beat", 0.0)
        if owner == host() or (owner is None and self.settings.storage is None):
            return False
        begun = trial.datetime_start.timestamp() if trial.datetime_start else 0.0
        return time.time() - max(beat, begun) < DEAD

    def _directory(self, number: int) -> Path:
        return self.directory / f"{number:04d}"

    def job(self, number: int) -> Path:
        """Where a launcher leaves what is its own of a trial; held while it has the trial."""
        return self.directory / JOBS / f"{number:04d}"

    def beat(self, trial: Trial) -> None:
        """Says from time to time that somebody is at work."""
        now = time.time()
        if now - trial.beat > HEARTBEAT:
            trial.asked.set_user_attr("beat", now)
            trial.beat = now

    def report(self, trial: Trial, rows: Sequence[Mapping[str, Any]]) -> bool:
        """Stores the evaluations that are new among `rows`; True if the trial isn't worth more."""
        hopeless = False
        for place in range(trial.reported, len(rows)):
            value = self.objectives[0].evaluated(rows[place])
            if value is None or len(self.objectives) > 1:
                continue
            trial.asked.report(value, place + 1)
            hopeless = place + 1 >= self.settings.prune_from and trial.asked.should_prune()
        trial.reported = max(trial.reported, len(rows))
        return hopeless

    def complete(self, trial: Trial, values: Sequence[float], **facts: Any) -> None:
        self._end(trial, "COMPLETE", facts, list(values))

    def prune(self, trial: Trial, **facts: Any) -> None:
        self._end(trial, "PRUNED", facts)

    def fail(self, trial: Trial, reason: str, **facts: Any) -> None:
        self._end(trial, "FAIL", {"reason": reason, **facts})

    def fail_if_unfinished(self, trial: Trial, reason: str | None) -> None:
        """Of a trial whose job is over: unless who had it knows better, it has failed.

        Without a reason its job was told to stop, and it is taken up another time.
        """
        held = hold(trial.directory, seconds=SECONDS_OF_A_LOOK)
        if held is None:
            return  # somebody works on it
        if not self.is_finished(trial.number):
            if reason is None:
                trial.asked.set_user_attr("host", host())  # nobody elsewhere has it
            else:
                trial.asked.set_user_attr("reason", reason)
                self.study.tell(trial.asked, state=state_named("FAIL"))
        os.close(held)

    def _end(
        self, trial: Trial, state: str, facts: Mapping[str, Any], values: list[float] | None = None
    ) -> None:
        if self.is_finished(trial.number):  # another machine took it for dead
            log.warning(
                "Trial %d had been given up as dead; it is %s.", trial.number, state.lower()
            )
        else:
            for name, value in facts.items():
                trial.asked.set_user_attr(name, value)
            self.study.tell(trial.asked, values, state=state_named(state))
        trial.release()

    def best(self) -> tuple[int, float] | None:
        """Number and first value of the best trial by the first objective."""
        complete = [t for t in self.trials() if t.state.name == "COMPLETE"]
        if not complete:
            return None
        sign = 1 if self.objectives[0].maximize else -1
        best = max(complete, key=lambda trial: sign * trial.values[0])
        return best.number, best.values[0]


def hold(directory: Path, *, seconds: float = 0.0) -> int | None:
    """The directory's lock, to be closed, which ends with its process; None if another has it.

    seconds  to wait for the other to let go of it.
    """
    directory.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(directory, os.O_RDONLY)
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return descriptor
        except BlockingIOError:
            if time.monotonic() >= deadline:
                os.close(descriptor)
                return None
            time.sleep(0.05)


def state_named(name: str) -> Any:
    from optuna.trial import TrialState

    return TrialState[name]


def host() -> str:
    return socket.gethostname()
