"""Runs as they lie on the disk: what was asked, what came out, and what became of the others."""

from __future__ import annotations

import glob
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from pipelines.core.errors import UserError
from pipelines.runs.directory import Run
from pipelines.runs.overrides import overridden_keys, recorded_overrides
from pipelines.sweep.local_sweep import SUMMARY
from pipelines.sweep.overrides import as_typed, settings_in
from pipelines.sweep.trials import host

FINISHED, PRUNED, FAILED, UNFINISHED = "finished", "pruned", "failed", "unfinished"

ELSEWHERE = "elsewhere"
"""A trial of the same study whose directory is on another machine, or gone."""

_STATES = {"COMPLETE": FINISHED, "PRUNED": PRUNED, "FAIL": FAILED}

_STATES_WITHOUT = {
    "FAIL": (FAILED, ""),
    "RUNNING": (UNFINISHED, "not finished"),
    "COMPLETE": (ELSEWHERE, "finished"),
    "PRUNED": (ELSEWHERE, "pruned"),
}
"""What trials are of which no run is here, and in words, to be followed by where it is."""

ASIDE = ("hydra", "mode", "run", "runs", "input", "output", "sweep", "export", "evaluate", "serve")
"""First parts of settings that make no other model."""


@dataclass(frozen=True)
class Record:
    """A run.

    choices    the option of each group: {"model": "gru"}.
    overrides  what the command line said of the model, its data and its training.
    trial      of sweep.json, if the run is of a sweep.
    """

    run: Run
    state: str
    config: Mapping[str, Any]
    choices: Mapping[str, str]
    overrides: Sequence[str]
    metrics: Mapping[str, Any]
    history: Sequence[Mapping[str, Any]]
    trial: Mapping[str, Any]

    @property
    def seed(self) -> int:
        return int(self.config.get("seed", 1))

    def entry(self, split: str, name: str) -> Mapping[str, Any] | None:
        """A score with its interval; None where it wasn't measured."""
        found: Mapping[str, Any] | None = self.metrics.get(split, {}).get(name)
        return found

    @property
    def problem(self) -> str:
        """The same for runs whose scores may be compared: the task, the data, and its division."""
        prepare = self.config.get("prepare", {})
        division = {key: value for key, value in prepare.items() if key != "cache_dir"}
        task = self.config.get("task", {}).get("name")
        return json.dumps([task, self.config.get("data"), division], sort_keys=True, default=str)

    @cached_property
    def settings(self) -> dict[str, str]:
        """What the command line said, by key."""
        return {
            key: text.partition("=")[2]
            for text in self.overrides
            for key in overridden_keys([text])
        }

    def setting(self, key: str) -> str:
        """What it was, whoever said so and however it was typed: 0.001 is 1e-3."""
        found = settings_in(self.config, self.choices)(key)
        return found or self.settings.get(key, as_typed(None))


def find_records(pattern: str) -> tuple[list[Record], Path]:
    """The runs of `runs=`, and the directory that they have in common.

    Directories with commas between them, also with *, of runs or of what holds runs. UserError if
    there is no run.
    """
    places = [Path(found) for part in pattern.split(",") for found in _expanded(part.strip())]
    if not places:
        raise UserError(f"runs={pattern}: there is no such directory")
    directories = list(dict.fromkeys(one for place in places for one in _runs_in(place)))
    summaries = {parent: _summary(parent) for parent in {one.parent for one in directories}}
    records = [_record(one, summaries[one.parent]) for one in directories]
    sweeps = {place: _summary(place) for place in places}
    sweeps |= {one: found for one, found in summaries.items() if set(places) & set(one.parents)}
    records += _lost(sweeps, directories)
    if not records:
        raise UserError(f"runs={pattern}: there is no run in it")
    return records, _common(places)


def objective_of(directory: Path) -> str | None:
    """What the sweep in the directory is for; None if there is none."""
    names = _summary(directory).get("objectives") or [None]
    return names[0] if isinstance(names[0], str) else None


def _expanded(pattern: str) -> list[str]:
    return sorted(glob.glob(str(Path(pattern).expanduser()))) if pattern else []


def _runs_in(place: Path) -> Iterable[Path]:
    if (place / "config.yaml").is_file():
        return [place]
    found = sorted(place.rglob("config.yaml")) if place.is_dir() else []
    return [path.parent for path in found if path.parent.name != ".hydra"]


def _summary(directory: Path) -> dict[str, Any]:
    try:
        summary = json.loads((directory / SUMMARY).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return summary if isinstance(summary, dict) else {}


def _record(directory: Path, summary: Mapping[str, Any]) -> Record:
    run = Run(directory)
    trials = {f"{trial['number']:04d}": trial for trial in summary.get("trials", [])}
    trial = trials.get(directory.name, {})
    metrics = run.read_metrics()
    done = "report" in metrics.get("seconds", {})
    state = _STATES.get(trial.get("state", ""), FINISHED if done else UNFINISHED)
    overrides = trial.get("overrides") or recorded_overrides(run)
    hydra = _yaml(directory / ".hydra" / "hydra.yaml").get("hydra", {})
    choices = hydra.get("runtime", {}).get("choices", {})
    shown = {key: value for key, value in choices.items() if value and "/" not in key}
    config = _yaml(run.config)
    return Record(
        run, state, config, shown, _telling(overrides), metrics, run.read_history(), trial
    )


def _lost(summaries: Mapping[Path, Mapping[str, Any]], known: Sequence[Path]) -> list[Record]:
    """Trials of which nothing is here but what became of them."""
    lost = []
    for place, summary in summaries.items():
        for trial in summary.get("trials", []):
            directory = place / f"{trial['number']:04d}"
            if directory in known:
                continue
            state, why = _STATES_WITHOUT[trial["state"]]
            if why:
                owner = trial.get("host", "another machine")
                where = "gone" if owner == host() else f"on {owner}"
                trial = {**trial, "reason": f"{why}; its directory is {where}"}
            overrides = _telling(trial.get("overrides", []))
            lost.append(Record(Run(directory), state, {}, {}, overrides, {}, [], trial))
    return lost


def _telling(overrides: Sequence[str]) -> list[str]:
    """Those that say something of the model, its data and its training."""
    return [
        text
        for text in overrides
        for key in overridden_keys([text])
        if key.partition(".")[0] not in ASIDE
    ]


def _yaml(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError):
        return {}
    return values if isinstance(values, dict) else {}


def _common(places: Sequence[Path]) -> Path:
    if len(places) == 1:
        return places[0]
    parents = [place.resolve().parts[:-1] for place in places]
    shared: list[str] = []
    for parts in zip(*parents, strict=False):
        if len(set(parts)) > 1:
            break
        shared.append(parts[0])
    common, here = Path(*shared), Path.cwd()
    return common.relative_to(here) if common.is_relative_to(here) else common
