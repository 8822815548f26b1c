"""Records of runs, read from their directories, and of trials whose directories are elsewhere."""

from __future__ import annotations

import dataclasses
import glob
import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeInt

from pipelines.core.errors import UserError
from pipelines.core.saved_files import DamagedError, read_json, read_yaml, reading, typed
from pipelines.runs.directory import Run
from pipelines.runs.metrics import RunMetrics, ScoreEntry
from pipelines.runs.overrides import is_option, overridden_keys, recorded_overrides
from pipelines.sweep.local_sweep import SUMMARY
from pipelines.sweep.overrides import create_lookup, format_value
from pipelines.sweep.trials import host

log = logging.getLogger(__name__)

JsonObject = Mapping[str, Any]
"""What a JSON or YAML file holds: its values are of any type."""

FINISHED, PRUNED, FAILED, UNFINISHED = "finished", "pruned", "failed", "unfinished"

ELSEWHERE = "elsewhere"
"""A finished or pruned trial whose directory is on another machine, or gone."""

_STATES = {"COMPLETE": FINISHED, "PRUNED": PRUNED, "FAIL": FAILED}

_STATES_WITHOUT_DIRECTORY = {
    "FAIL": (FAILED, ""),
    "RUNNING": (UNFINISHED, "not finished"),
    "COMPLETE": (ELSEWHERE, "finished"),
    "PRUNED": (ELSEWHERE, "pruned"),
}
"""State of a trial without a directory, and its description; '' keeps the trial's own reason."""

UNRELATED_KEYS = (
    "hydra",
    "mode",
    "run",
    "runs",
    "input",
    "output",
    "sweep",
    "export",
    "evaluate",
    "predict",
    "serve",
)
"""First parts of settings that don't change the trained model."""


@dataclass(frozen=True)
class TrialFacts:
    """What sweep.json says of a trial."""

    number: Annotated[int, Field(ge=0, le=10**9)]
    state: Literal["COMPLETE", "PRUNED", "FAIL", "RUNNING"]
    overrides: Sequence[str] = ()
    reason: str | None = None
    host: str | None = None

    @property
    def name(self) -> str:
        """The name of its directory."""
        return f"{self.number:04d}"


@dataclass(frozen=True)
class SweepFacts:
    """What sweep.json says of a sweep; empty where there is none."""

    objectives: Sequence[str] = ()
    trials: Sequence[TrialFacts] = ()


@dataclass(frozen=True)
class _Runtime:
    choices: dict[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True)
class _HydraSettings:
    runtime: _Runtime = field(default_factory=_Runtime)


@dataclass(frozen=True)
class _HydraFile:
    """Of .hydra/hydra.yaml, what is used."""

    hydra: _HydraSettings = field(default_factory=_HydraSettings)


@dataclass(frozen=True)
class _ConfigFile:
    """Of config.yaml, what is used before it is checked whole."""

    seed: NonNegativeInt = 1
    task: dict[str, Any] = field(default_factory=dict)
    prepare: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Record:
    """A run as its directory describes it.

    choices    the option of each group: {"model": "gru"}.
    overrides  those on the command line that change the model, its data or its training.
    trial      the run's entry in sweep.json; None if it isn't part of a sweep.
    """

    run: Run
    state: str
    config: JsonObject
    choices: Mapping[str, str]
    overrides: Sequence[str]
    metrics: RunMetrics
    history: Sequence[Mapping[str, Any]]
    trial: TrialFacts | None

    @property
    def reason(self) -> str:
        """Why a trial of a sweep has no result; "" where that isn't known."""
        return (self.trial and self.trial.reason) or ""

    @property
    def seed(self) -> int:
        return int(self.config.get("seed", 1))

    def entry(self, split: str, name: str) -> ScoreEntry | None:
        """A score with its interval, as in metrics.json; None if it wasn't measured."""
        return self.metrics.scores(split).get(name)

    @property
    def problem(self) -> str:
        """Equal for runs whose scores can be compared: same task, same data, same splits."""
        prepare = self.config.get("prepare", {})
        splits = {key: value for key, value in prepare.items() if key != "cache_dir"}
        task = self.config.get("task", {}).get("name")
        return json.dumps([task, self.config.get("data"), splits], sort_keys=True, default=str)

    @cached_property
    def settings(self) -> dict[str, str]:
        """The values on the command line, by key."""
        return {
            key: text.partition("=")[2]
            for text in self.overrides
            for key in overridden_keys([text])
        }

    def setting(self, key: str) -> str:
        """The value from the configuration, so that 1e-3 and 0.001 are equal; else as typed."""
        value = create_lookup(self.config, self.choices)(key)
        return value or self.settings.get(key, format_value(None))


def find_records(pattern: str) -> tuple[list[Record], Path]:
    """The runs of `runs=`, and their common directory.

    pattern  directories of runs, or that contain runs, with * and separated by commas.

    Raises UserError if there is no run.
    """
    roots = [Path(path) for part in pattern.split(",") for path in _expand(part.strip())]
    if not roots:
        raise UserError(f"runs={pattern}: there is no such directory")
    directories = list(dict.fromkeys(run for root in roots for run in _find_runs(root)))
    summaries = {parent: _read_summary(parent) for parent in {run.parent for run in directories}}
    records = [_read_record(run, summaries[run.parent]) for run in directories]
    # Of a sweep that is compared as a whole, also the trials without a directory; of single runs,
    # only these.
    sweeps = {root: summaries.get(root) or _read_summary(root) for root in roots}
    sweeps |= {
        path: summary for path, summary in summaries.items() if set(roots) & set(path.parents)
    }
    records += _records_without_directory(sweeps, directories)
    if not records:
        raise UserError(f"runs={pattern}: there is no run in it")
    return records, _common_directory(roots)


def read_objective(directory: Path) -> str | None:
    """The first objective of the sweep in the directory; None if there is no sweep."""
    return next(iter(_read_summary(directory).objectives), None)


def _expand(pattern: str) -> list[str]:
    return sorted(glob.glob(str(Path(pattern).expanduser()))) if pattern else []


def _find_runs(root: Path) -> Iterable[Path]:
    if (root / "config.yaml").is_file():
        return [root]
    paths = sorted(root.rglob("config.yaml")) if root.is_dir() else []
    return [path.parent for path in paths if path.parent.name != ".hydra"]


def _read_summary(directory: Path) -> SweepFacts:
    path = directory / SUMMARY
    with _passing_over(), reading(path, "make the sweep again"):
        return typed(SweepFacts, read_json(path, "make the sweep again"))
    return SweepFacts()


def _read_record(directory: Path, summary: SweepFacts) -> Record:
    run = Run(directory)
    trial = next((trial for trial in summary.trials if trial.name == directory.name), None)
    metrics = run.load_metrics()
    is_finished = "report" in metrics.seconds
    state = _STATES.get(trial.state if trial else "", FINISHED if is_finished else UNFINISHED)
    overrides = (trial and trial.overrides) or recorded_overrides(run)
    hydra = _read_yaml(directory / ".hydra" / "hydra.yaml", _HydraFile)
    choices = typed(_HydraFile, hydra).hydra.runtime.choices
    return Record(
        run=run,
        state=state,
        config=_read_yaml(run.config, _ConfigFile),
        choices={key: value for key, value in choices.items() if value and is_option(key, value)},
        overrides=_model_overrides(overrides),
        metrics=metrics,
        history=run.read_history(),
        trial=trial,
    )


def _records_without_directory(
    summaries: Mapping[Path, SweepFacts], known: Sequence[Path]
) -> list[Record]:
    """Trials of which only sweep.json is here."""
    records = []
    for sweep, summary in summaries.items():
        for trial in summary.trials:
            directory = sweep / trial.name
            if directory in known:
                continue
            state, description = _STATES_WITHOUT_DIRECTORY[trial.state]
            if description:
                owner = trial.host or "another machine"
                where = "gone" if owner == host() else f"on {owner}"
                reason = f"{description}; its directory is {where}"
                trial = dataclasses.replace(trial, reason=reason)
            overrides = _model_overrides(trial.overrides)
            records.append(
                Record(Run(directory), state, {}, {}, overrides, RunMetrics(), [], trial)
            )
    return records


def _model_overrides(overrides: Sequence[str]) -> list[str]:
    """The overrides that change the model, its data or its training."""
    return [
        text
        for text in overrides
        for key in overridden_keys([text])
        if key.partition(".")[0] not in UNRELATED_KEYS
    ]


def _read_yaml(path: Path, kind: type) -> JsonObject:
    """A file's values, if they are of the kind; {} if there are none."""
    with _passing_over(), reading(path, "start a new run"):
        values: JsonObject = read_yaml(path, "start a new run")
        typed(kind, values)
        return values
    return {}


@contextmanager
def _passing_over() -> Iterator[None]:
    """Goes on without a file that isn't there, or is damaged, which is logged."""
    try:
        yield
    except OSError:
        pass
    except DamagedError as error:
        log.warning("%s", error)


def _common_directory(roots: Sequence[Path]) -> Path:
    if len(roots) == 1:
        return roots[0]
    parents = [root.resolve().parts[:-1] for root in roots]
    shared: list[str] = []
    for parts in zip(*parents, strict=False):
        if len(set(parts)) > 1:
            break
        shared.append(parts[0])
    common, current = Path(*shared), Path.cwd()
    return common.relative_to(current) if common.is_relative_to(current) else common
