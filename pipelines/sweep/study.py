"""The rules of a study: which trial comes next, an exact total, and no point twice.

A trial is exactly one run. Whoever holds the lock of a trial's directory works on it. A trial that
is running in the storage, but whose lock nobody holds, was interrupted and is resumed.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.core.errors import UserError
from pipelines.sweep.locks import is_locked, try_lock
from pipelines.sweep.overrides import SettingLookup, Value
from pipelines.sweep.samplers import create_sampler
from pipelines.sweep.space import Parameter, Space
from pipelines.sweep.trials import (
    REPLACED,
    SURPLUS,
    StudyConfig,
    Trial,
    TrialStore,
    host,
    trial_state,
)

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

log = logging.getLogger(__name__)

FREE_DRAWS = 3
"""Duplicate draws after which one of a small space's remaining points is taken."""

DRAWING_LOCK = "drawing.lock"
"""A file, not a directory: network file systems keep locks of directories to one machine."""

MAX_DUPLICATE_DRAWS = 100
"""Duplicate draws in a row after which a space is taken to be exhausted."""

DEFINITION = "question"
"""Attribute of the study: what it searches, which no later command may change."""

POINT, ENQUEUED = "point", "enqueued"
"""Attributes of an enqueued trial: its whole point; or a part of it, the rest being drawn."""


class Study:
    """The source of a sweep's trials."""

    def __init__(self, config: StudyConfig, space: Space, lookup: SettingLookup, *, seed: int):
        """lookup: the settings that the space doesn't vary."""
        self.config, self.store = config, TrialStore(config)
        self.space, self.lookup, self.seed = space, lookup, seed
        self._check_definition()
        settings = config.settings
        self.is_grid = settings.sampler == "grid"
        self.points = (
            space.grid_points(lookup) if self.is_grid else space.enumerate_if_small(lookup)
        )
        if self.is_grid and settings.trials is not None:
            self.points = (self.points or [])[: settings.trials]
        self.total = settings.trials or len(self.points or [])
        if self.points is not None:
            self.total = min(self.total, len(self.points))

    def _check_definition(self) -> None:
        """Raises UserError if the stored study searches something else than this command."""
        names = [objective.name for objective in self.config.objectives]
        definition = {
            "fixed": sorted(self.space.fixed),
            "space": self.space.describe(),
            "objectives": names,
            "sampler": self.config.settings.sampler,
        }
        attributes = self.store.study.user_attrs
        if DEFINITION not in attributes:
            self.store.study.set_user_attr(DEFINITION, definition)
            self.store.study.set_metric_names(names)
            return
        for part, stored in attributes[DEFINITION].items():
            if stored != definition.get(part):
                difference = _describe_difference(part, stored, definition.get(part))
                raise UserError(
                    f"{self.config.directory} holds a sweep with other {difference}: choose "
                    "another sweep.name"
                )

    def retry_failed(self) -> int:
        """Replaces failed trials by new ones at the same points. Returns how many."""
        with self._drawing_lock():
            failed = self.store.failed_trials()
            for trial in failed:
                if trial.params and not self.is_grid:  # a grid finds its missing points by itself
                    self.store.study.enqueue_trial(
                        trial.params, user_attrs={ENQUEUED: trial.params}
                    )
            replaced = self.store.study.user_attrs.get(REPLACED, [])
            numbers = [trial.number for trial in failed]
            self.store.study.set_user_attr(REPLACED, [*replaced, *numbers])
        return len(failed)

    def next_trial(self) -> Trial | None:
        """An interrupted trial, or else a new one; None if there is none now."""
        for trial in self.store.started_trials():
            if trial.state.name == "RUNNING" and (resumed := self._resume(trial)):
                return resumed
        return self._draw_trial()

    def _resume(self, trial: FrozenTrial) -> Trial | None:
        """The trial, if no process works on it any more."""
        number = trial.number
        if self.store.is_alive_elsewhere(trial) or self._has_launcher(number):
            return None
        directory = self.config.trial_directory(number)
        if trial.user_attrs.get("host") == host():
            directory = Path(trial.user_attrs.get("directory", directory))
        lock = try_lock(directory)
        if lock is None:
            return None
        # Between the checks above and the lock, a launcher may have got it or its owner finished.
        current = self.store.get(number)
        if self._has_launcher(number) or current.state.is_finished():
            os.close(lock)
            return None
        self._set_sampler(number)
        resumed = self._start(self.store.open_handle(number), directory, lock)
        if resumed is not None:
            resumed.reported_rows = len(current.intermediate_values)
        return resumed

    def _has_launcher(self, number: int) -> bool:
        """Whether a launcher has the trial and has started its job, or will."""
        directory = self.config.job_directory(number)
        return directory.is_dir() and is_locked(directory)

    def _draw_trial(self) -> Trial | None:
        for attempt in range(MAX_DUPLICATE_DRAWS):
            with self._drawing_lock():
                if not self.is_grid and len(self.store.started_trials()) >= self.total:
                    return None
                if not self._enqueue_point(attempt):
                    return None
                trial = self._ask()
            if trial is not None:
                return trial
        log.warning("%d draws in a row were duplicates: the space is exhausted.", attempt + 1)
        return None

    @contextlib.contextmanager
    def _drawing_lock(self) -> Iterator[None]:
        """Keeps other processes that see the directory from drawing the same point."""
        self.config.directory.mkdir(parents=True, exist_ok=True)
        with (self.config.directory / DRAWING_LOCK).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _enqueue_point(self, attempt: int) -> bool:
        """Enqueues the next point, unless the sampler is to choose it. False if none is left."""
        trials = self.store.counted_trials()
        if any(trial.state.name == "WAITING" for trial in trials):
            return True
        starts_from_defaults = self.config.settings.start_from == "defaults"
        if not self.is_grid and starts_from_defaults and not self.store.all_trials():
            # A search that starts with the defaults never ends with anything worse.
            point = self.space.default_point(self.lookup)
            self.store.study.enqueue_trial(point, user_attrs={ENQUEUED: point})
        elif self.points is not None and (self.is_grid or attempt >= FREE_DRAWS):
            existing = {_point_key(_point_of(trial)) for trial in trials}
            missing = [point for point in self.points if _point_key(point) not in existing]
            if not missing:
                return False
            index = 0 if self.is_grid else self._sampling_seed(len(trials)) % len(missing)
            self.store.study.enqueue_trial(missing[index], user_attrs={POINT: missing[index]})
        return True

    def _ask(self) -> Trial | None:
        """A new trial; None if it turns out to be a duplicate or one too many."""
        self._set_sampler(len(self.store.all_trials()))
        handle = self.store.study.ask()
        directory = self.config.trial_directory(handle.number)
        lock = try_lock(directory)
        if lock is None:
            return None  # another process took it for an interrupted one, and works on it
        if any(directory.iterdir()):
            raise UserError(f"{directory} holds other things: choose another sweep.name")
        return self._start(handle, directory, lock)

    def _set_sampler(self, count: int) -> None:
        self.store.study.sampler = create_sampler(self.config.settings, self._sampling_seed(count))

    def _start(self, handle: optuna.Trial, directory: Path, lock: int) -> Trial | None:
        """Draws the trial's point and stores its command line; None if the trial is surplus."""
        point = self._suggest_point(handle)
        surplus = self._surplus_reason(handle.number, point)
        if surplus:
            handle.set_user_attr(SURPLUS, surplus)
            self.store.study.tell(handle, state=trial_state("FAIL"))
            os.close(lock)
            if directory.is_dir() and not any(directory.iterdir()):
                directory.rmdir()
            return None
        overrides = self.space.overrides_at(point)
        handle.set_user_attr("overrides", overrides)
        handle.set_user_attr("directory", str(directory.resolve()))
        handle.set_user_attr("host", host())
        trial = Trial(handle.number, directory, overrides, handle, lock)
        self.store.send_heartbeat(trial)
        return trial

    def _surplus_reason(self, number: int, point: Mapping[str, Value]) -> str | None:
        """The reason why the trial doesn't count; None if it does.

        Only trials with smaller numbers matter, so all processes come to the same answer.
        """
        earlier = [trial for trial in self.store.counted_trials() if trial.number < number]
        if not self.is_grid and len(earlier) >= self.total:
            return "there are enough"
        for trial in earlier:
            if (other := _point_of(trial)) and _point_key(other) == _point_key(point):
                return f"the same as trial {trial.number}"
        return None

    def _suggest_point(self, handle: optuna.Trial) -> dict[str, Value]:
        point: dict[str, Value] = {}
        for parameter in self.space.parameters:
            if self.space.is_active(parameter, point, self.lookup):
                point[parameter.key] = _suggest(handle, parameter)
        return point

    def _sampling_seed(self, count: int) -> int:
        """A seed of its own for each draw; with a database, also for each process.

        Processes on one machine take turns by the drawing lock, so the count differs.
        """
        process = [host(), os.getpid()] if self.config.settings.storage else []
        digest = hashlib.sha256(json.dumps([self.seed, count, *process]).encode()).digest()
        return int.from_bytes(digest[:4], "little")


def _point_of(trial: FrozenTrial) -> dict[str, Value]:
    """A trial's point, or its known part before it is drawn."""
    attributes = trial.user_attrs
    return dict(attributes.get(POINT) or trial.params or attributes.get(ENQUEUED, {}))


def _suggest(handle: optuna.Trial, parameter: Parameter) -> Value:
    key, low, high = parameter.key, parameter.low, parameter.high
    if parameter.choices:
        return str(handle.suggest_categorical(key, parameter.choices))
    if parameter.is_integer:
        step = 1 if parameter.log else int(parameter.step or 1)
        return handle.suggest_int(key, int(low), int(high), step=step, log=parameter.log)
    value = handle.suggest_float(key, low, high, step=parameter.step, log=parameter.log)
    return value if parameter.step is None else round(value, 12)  # 0.3, not 0.30000000000000004


def _point_key(point: Mapping[str, Value]) -> str:
    """Equal for points that are equal up to rounding."""
    texts = {
        key: f"{value:.12g}" if isinstance(value, float) else str(value)
        for key, value in point.items()
    }
    return json.dumps(texts, sort_keys=True)


def _describe_difference(part: str, stored: object, requested: object) -> str:
    """The part of the definition that differs, and one of its differences."""
    if isinstance(stored, Mapping) and isinstance(requested, Mapping):
        keys = {**stored, **requested}
        key = next(key for key in keys if stored.get(key) != requested.get(key))
        return f"values of {key} ({stored.get(key, 'none')})"
    texts = [stored] if isinstance(stored, str) else list(map(str, _as_list(stored)))
    if part == "fixed":
        odd = sorted(set(texts) ^ set(map(str, _as_list(requested))))
        return f"settings ({odd[0]})"
    return f"{part} ({', '.join(texts)})"


def _as_list(value: object) -> list[object]:
    return value if isinstance(value, list) else [value]
