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

from pipelines.contracts import UserError
from pipelines.settings import SweepSettings
from pipelines.sweeping.objectives import Objective
from pipelines.sweeping.samplers import pruner_of
from pipelines.sweeping.storage import open_storage

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
        os.close(self.held)


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

    def held(self, number: int) -> Trial:
        """A trial that somebody else drew, to be worked on here. UserError if it can't be."""
        import optuna

        stored = next(trial for trial in self._all() if trial.number == number)
        directory = self._directory(number)
        held = hold(directory)
        if held is None or stored.state.is_finished():
            raise UserError(f"trial {number} is worked on by another process, or done")
        asked = optuna.Trial(self.study, stored._trial_id)
        asked.set_user_attr("host", host())
        asked.set_user_attr("jobs", stored.user_attrs.get("jobs", 0) + 1)
        overrides = list(stored.user_attrs["overrides"])
        reported = len(stored.intermediate_values)
        return Trial(number, directory, overrides, asked, held, reported)

    def jobs_begun(self, number: int) -> int:
        """How many jobs of a launcher's have begun to work on the trial."""
        stored = next(trial for trial in self._all() if trial.number == number)
        return int(stored.user_attrs.get("jobs", 0))

    def worked_on(self, number: int) -> bool:
        """Whether somebody, here or elsewhere, works on the trial."""
        stored = next(trial for trial in self._all() if trial.number == number)
        if stored.state.is_finished():
            return False
        if self._alive_elsewhere(stored):
            return True
        held = hold(self._directory(number))
        if held is not None:
            os.close(held)
        return held is None

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
        """Of a trial that was handed over: unless who had it knows better, it has failed.

        Without a reason its job was told to stop, and it is taken up another time.
        """
        held = hold(trial.directory)
        if held is None:
            return  # somebody works on it
        if not self._has_ended(trial) and reason is not None:
            trial.asked.set_user_attr("reason", reason)
            self.study.tell(trial.asked, state=state_named("FAIL"))
        os.close(held)

    def _has_ended(self, trial: Trial) -> bool:
        return bool(self.study._storage.get_trial(trial.asked._trial_id).state.is_finished())

    def _end(
        self, trial: Trial, state: str, facts: Mapping[str, Any], values: list[float] | None = None
    ) -> None:
        if self._has_ended(trial):  # another machine took it for dead
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


def hold(directory: Path, *, waits: bool = False) -> int | None:
    """The directory's lock, to be closed, which ends with its process; None if another has it.

    waits  for the other to let go of it, if that is a matter of a moment.
    """
    directory.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if waits else fcntl.LOCK_NB))
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def state_named(name: str) -> Any:
    from optuna.trial import TrialState

    return TrialState[name]


def host() -> str:
    return socket.gethostname()
