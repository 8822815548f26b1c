"""A study: the trials there are, which comes next, and what became of each. All of it is stored.

A trial is exactly one run. Whoever holds a trial's directory works on it; a trial that is under way
in the storage and that nobody holds was cut off, and is taken up again.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.core.errors import UserError
from pipelines.core.settings import SweepSettings
from pipelines.sweep.objectives import Objective
from pipelines.sweep.overrides import Setting, Value
from pipelines.sweep.samplers import sampler_of
from pipelines.sweep.space import Parameter, Space
from pipelines.sweep.trials import (
    REPLACED,
    SURPLUS,
    StoredStudy,
    Trial,
    hold,
    host,
    state_named,
)

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

log = logging.getLogger(__name__)

FREE_DRAWS = 3
"""Draws that were there before, after which one of the points that are left is taken."""

DRAWING = "drawing.lock"
"""A file: network file systems keep locks of directories to one machine."""

MOST_REPEATED = 100
"""Draws in a row that were all there before, after which a space is taken to be exhausted."""


class Study(StoredStudy):
    """Where a sweep's trials come from, with rules of its own: exact totals, no trial twice."""

    def __init__(
        self,
        name: str,
        directory: Path,
        space: Space,
        setting: Setting,
        objectives: Sequence[Objective],
        settings: SweepSettings,
        *,
        seed: int,
        epochs: int,
    ):
        super().__init__(name, directory, objectives, settings, epochs=epochs)
        self.space, self.setting, self.seed = space, setting, seed
        self._check_question()
        self.grid = settings.sampler == "grid"
        self.points = space.points(setting) if self.grid else space.few_points(setting)
        if self.grid and settings.trials is not None:
            self.points = (self.points or [])[: settings.trials]
        self.total = settings.trials or len(self.points or [])
        if self.points is not None:
            self.total = min(self.total, len(self.points))

    def _check_question(self) -> None:
        """Raises UserError if the study was made for another question than this command's."""
        asked = {
            "fixed": sorted(self.space.fixed),
            "space": self.space.described(),
            "objectives": [objective.name for objective in self.objectives],
            "sampler": self.settings.sampler,
        }
        known = self.study.user_attrs
        if "question" not in known:
            self.study.set_user_attr("question", asked)
            self.study.set_metric_names([objective.name for objective in self.objectives])
            return
        for part, value in known["question"].items():
            if value != asked[part]:
                what = _difference(part, value, asked[part])
                raise UserError(
                    f"{self.directory} holds a sweep with other {what}: choose another sweep.name"
                )

    def retry_failed(self) -> int:
        """Failed trials no longer count, and their points are tried anew. Returns how many."""
        with self._alone():
            failed = self.failed()
            for trial in failed:
                if trial.params and not self.grid:  # a grid finds what it lacks by itself
                    self.study.enqueue_trial(trial.params)
            replaced = self.study.user_attrs.get(REPLACED, [])
            self.study.set_user_attr(REPLACED, [*replaced, *(trial.number for trial in failed)])
        return len(failed)

    def next(self) -> Trial | None:
        """A trial to work on: one that was cut off, else a new one; None if there is none now."""
        for trial in self.trials():
            if trial.state.name == "RUNNING":
                taken = self._take_up(trial)
                if taken:
                    return taken
        return self._new()

    def _take_up(self, trial: FrozenTrial) -> Trial | None:
        """The trial, if nobody works on it any more."""
        import optuna

        if self._alive_elsewhere(trial):
            return None
        if self._has_launcher(trial.number):
            return None
        directory = self._directory(trial.number)
        if trial.user_attrs.get("host") == host():
            directory = Path(trial.user_attrs.get("directory", directory))
        held = hold(directory)
        if held is None:
            return None
        if self._has_launcher(trial.number):  # since a moment ago
            os.close(held)
            return None
        current = self._stored(trial.number)
        if current.state.is_finished():  # by who held it until now
            os.close(held)
            return None
        self._draw_from(trial.number)
        asked = optuna.Trial(self.study, trial._trial_id)
        taken = self._prepared(asked, directory, held)
        if taken is not None:
            taken.reported = len(current.intermediate_values)
        return taken

    def _has_launcher(self, number: int) -> bool:
        """Whether it was handed to a launcher, which will start it or has."""
        if not self.job(number).is_dir():
            return False
        held = hold(self.job(number))
        if held is not None:
            os.close(held)
        return held is None

    def _new(self) -> Trial | None:
        for attempt in range(MOST_REPEATED):
            with self._alone():
                if not self.grid and len(self.trials()) >= self.total:
                    return None
                if not self._enqueue(attempt):
                    return None
                taken = self._asked()
            if taken is not None:
                return taken
        log.warning("%d draws in a row were there before: the space is exhausted.", MOST_REPEATED)
        return None

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """No other process that sees the directory draws meanwhile: it would draw the same."""
        self.directory.mkdir(parents=True, exist_ok=True)
        with (self.directory / DRAWING).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _enqueue(self, attempt: int) -> bool:
        """Decides the next point, where it isn't left to the sampler. False if none is left."""
        counted = self.counted()
        if any(trial.state.name == "WAITING" for trial in counted):
            return True
        if not self.grid and not self._all() and self.settings.first == "given":
            # So that a search ends with nothing worse than what there was.
            self.study.enqueue_trial(self.space.given(self.setting))
        elif self.points is not None and (self.grid or attempt >= FREE_DRAWS):
            known = {_key(self._drawn(trial)) for trial in counted}
            missing = [point for point in self.points if _key(point) not in known]
            if not missing:
                return False
            place = 0 if self.grid else self._sampling_seed(len(counted)) % len(missing)
            self.study.enqueue_trial(missing[place], user_attrs={"point": missing[place]})
        return True

    def _asked(self) -> Trial | None:
        """A new trial, unless it turns out to be one too many or one that was there before."""
        self._draw_from(len(self._all()))
        asked = self.study.ask()
        directory = self._directory(asked.number)
        held = hold(directory)
        if held is None:
            return None  # somebody took it for one that was cut off, and works on it
        if any(directory.iterdir()):
            raise UserError(f"{directory} holds other things: choose another sweep.name")
        return self._prepared(asked, directory, held)

    def _draw_from(self, count: int) -> None:
        maximize = [objective.maximize for objective in self.objectives]
        self.study.sampler = sampler_of(self.settings, self._sampling_seed(count), maximize)

    def _prepared(self, asked: optuna.Trial, directory: Path, held: int) -> Trial | None:
        point = self._draw(asked)
        why = self._surplus(asked.number, point)
        if why:
            asked.set_user_attr(SURPLUS, why)
            self.study.tell(asked, state=state_named("FAIL"))
            os.close(held)
            if directory.is_dir() and not any(directory.iterdir()):
                directory.rmdir()
            return None
        overrides = self.space.overrides(point)
        asked.set_user_attr("overrides", overrides)
        asked.set_user_attr("directory", str(directory.resolve()))
        asked.set_user_attr("host", host())
        trial = Trial(asked.number, directory, overrides, asked, held)
        self.beat(trial)
        return trial

    def _surplus(self, number: int, point: Mapping[str, Value]) -> str | None:
        """Why the trial doesn't count, by what those before it are; all processes agree on it."""
        before = [trial for trial in self.counted() if trial.number < number]
        if not self.grid and len(before) >= self.total:
            return "there are enough"
        for trial in before:
            if (drawn := self._drawn(trial)) and _key(drawn) == _key(point):
                return f"the same as trial {trial.number}"
        return None

    def _drawn(self, trial: FrozenTrial) -> dict[str, Value]:
        asked = trial.system_attrs.get("fixed_params", {})  # of a trial that hasn't drawn yet
        return dict(trial.user_attrs.get("point") or trial.params or asked)

    def _draw(self, asked: optuna.Trial) -> dict[str, Value]:
        point: dict[str, Value] = {}
        for parameter in self.space.parameters:
            if self.space.active(parameter, point, self.setting):
                point[parameter.key] = _suggested(asked, parameter)
        return point

    def _sampling_seed(self, count: int) -> int:
        """Another one for each draw; and for each machine, where several may draw at once."""
        parts = [self.seed, count, *([host(), os.getpid()] if self.settings.storage else [])]
        digest = hashlib.sha256(json.dumps(parts).encode()).digest()
        return int.from_bytes(digest[:4], "little")


def _suggested(asked: optuna.Trial, parameter: Parameter) -> Value:
    key, low, high = parameter.key, parameter.low, parameter.high
    if parameter.choices:
        return str(asked.suggest_categorical(key, parameter.choices))
    if parameter.whole:
        step = 1 if parameter.log else int(parameter.step or 1)
        return asked.suggest_int(key, int(low), int(high), step=step, log=parameter.log)
    drawn = asked.suggest_float(key, low, high, step=parameter.step, log=parameter.log)
    return drawn if parameter.step is None else round(drawn, 12)  # 0.3, not 0.30000000000000004


def _key(point: Mapping[str, Value]) -> str:
    """The same for points that are the same but for rounding."""
    texts = {
        key: f"{value:.12g}" if isinstance(value, float) else str(value)
        for key, value in point.items()
    }
    return json.dumps(texts, sort_keys=True)


def _difference(part: str, known: Any, asked: Any) -> str:
    """The part of the question that differs, and one of its differences."""
    if isinstance(known, Mapping) and isinstance(asked, Mapping):
        keys: Iterator[str] = (
            key for key in {**known, **asked} if known.get(key) != asked.get(key)
        )
        key = next(keys)
        return f"values of {key} ({known.get(key, 'none')})"
    if part == "fixed":
        odd = sorted(set(known) ^ set(asked))
        return f"settings ({odd[0]})"
    shown = known if isinstance(known, str) else ", ".join(known)
    return f"{part} ({shown})"
