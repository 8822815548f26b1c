"""Runs that differ by their seed alone are one configuration; configurations are ranked."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from pipelines.compare.run_records import FINISHED, PRUNED, Record
from pipelines.core.errors import UserError
from pipelines.sweep.objectives import COSTS, LOWER_IS_BETTER, Objective

SEED = "seed"

MOST_NAMED = 3
"""Settings that a configuration is called by; where more differ, it is called by its runs."""


@dataclass(frozen=True)
class Interval:
    """A mean with its 95% interval: over `count` seeds or, of one, over its examples."""

    mean: float
    low: float
    high: float
    count: int


@dataclass(frozen=True)
class Configuration:
    """Runs with the same settings. `settings` are those that differ between configurations."""

    settings: Mapping[str, str]
    records: Sequence[Record]

    @property
    def name(self) -> str:
        """Short, to be found in the table: its settings or, if they are many, "run 0018"."""
        if len(self.settings) <= MOST_NAMED:
            return self.described
        return f"run {self.runs}"

    @property
    def runs(self) -> str:
        """Names of their directories."""
        return ", ".join(record.run.directory.name for record in self.records)

    @property
    def described(self) -> str:
        """Choices by their own names, then numbers and switches with theirs."""
        items = sorted(self.settings.items(), key=lambda item: _needs_key(item[1]))
        labels = labels_of(list(self.settings))
        shown = [
            f"{labels[key]} {short_value(text)}" if _needs_key(text) else text
            for key, text in items
        ]
        return ", ".join(shown) or "the only configuration"

    @property
    def by_seed(self) -> list[list[Record]]:
        """Its runs: those with one seed are no more than one, made again."""
        seeds = dict.fromkeys(record.seed for record in self.records)
        return [[one for one in self.records if one.seed == seed] for seed in seeds]

    def score(self, split: str, name: str) -> Interval | None:
        """None where no run has it."""
        entries = [[one.entry(split, name) for one in runs] for runs in self.by_seed]
        known = [[entry for entry in of_seed if entry] for of_seed in entries]
        return interval([_mean(of_seed) for of_seed in known if of_seed])

    def cost(self, name: str) -> float | None:
        """The mean over the runs that measured it."""
        values = [
            Objective(name, COSTS[name], False).read_metrics(record.metrics)
            for record in self.records
        ]
        known = [value for value in values if value is not None]
        return sum(known) / len(known) if known else None


@dataclass(frozen=True)
class Board:
    """The finished configurations of one problem, the best first.

    score   what they are ranked by, on `ranked_on`; the test split, where it was measured, is
            shown beside it but decides nothing.
    varied  the settings that tell the configurations apart.
    searched  those, and what differs only in runs that were pruned.
    """

    score: str
    ranked_on: str
    reported: str
    varied: Sequence[str]
    searched: Sequence[str]
    configurations: Sequence[Configuration]
    records: Sequence[Record]

    @property
    def maximize(self) -> bool:
        return self.score not in LOWER_IS_BETTER

    @cached_property
    def scored(self) -> list[Configuration]:
        """Those that the score is known of."""
        return [c for c in self.configurations if c.score(self.ranked_on, self.score)]

    def ranked_value(self, configuration: Configuration) -> float:
        found = configuration.score(self.ranked_on, self.score)
        return found.mean if found else math.nan

    @property
    def winner(self) -> Configuration:
        return self.configurations[0]

    def values(self, configuration: Configuration) -> list[tuple[Record, float]]:
        """The runs that have the score they are ranked by, and that."""
        entries = [(one, one.entry(self.ranked_on, self.score)) for one in configuration.records]
        return [(one, float(entry["value"])) for one, entry in entries if entry]

    @cached_property
    def pruned(self) -> list[tuple[Record, float]]:
        """Runs that were stopped early, and the best that training had evaluated until then."""
        best = max if self.maximize else min
        key = f"validation.{self.score}"
        found = []
        for record in self.records:
            values = [row[key] for row in record.history if isinstance(row.get(key), int | float)]
            if record.state == PRUNED and self.ranked_on == "validation" and values:
                found.append((record, float(best(values))))
        return found

    def best_run(self) -> Record:
        """Of the winner's runs, the best."""
        sign = 1 if self.maximize else -1
        return max(self.values(self.winner), key=lambda pair: sign * pair[1])[0]


def board_of(records: Sequence[Record], objective: str | None) -> Board:
    """UserError if no run is finished. objective: "validation.NAME" of a sweep, if there is one."""
    finished = [record for record in records if record.state == FINISHED]
    if not finished:
        states = ", ".join(sorted({record.state for record in records}))
        raise UserError(
            f"none of the {len(records)} runs is finished ({states}): nothing to compare"
        )
    score, split = _ranked_by(finished, objective)
    keys = dict.fromkeys(key for record in records for key in record.settings)
    varied = _varied(keys, finished)
    searched = _varied(keys, [one for one in records if one.config])
    groups: dict[tuple[str, ...], list[Record]] = {}
    for record in finished:
        groups.setdefault(tuple(record.setting(key) for key in varied), []).append(record)
    configurations = [
        Configuration(dict(zip(varied, values, strict=True)), members)
        for values, members in groups.items()
    ]
    sign = -1 if score not in LOWER_IS_BETTER else 1

    def rank(configuration: Configuration) -> tuple[bool, float]:
        found = configuration.score(split, score)
        return (found is None, sign * found.mean if found else 0.0)

    reported = "test" if any(record.metrics.get("test") for record in finished) else split
    ranked = sorted(configurations, key=rank)
    return Board(score, split, reported, varied, searched, ranked, records)


def _varied(keys: Iterable[str], records: Sequence[Record]) -> list[str]:
    """The settings, but the seed, in which the runs differ."""
    return [key for key in keys if key != SEED and len({one.setting(key) for one in records}) > 1]


def _ranked_by(finished: Sequence[Record], objective: str | None) -> tuple[str, str]:
    """A score and a split: the sweep's own, what training keeps its weights by, or the first."""
    splits = [
        name
        for name in ("validation", "test", "train")
        if any(record.metrics.get(name) for record in finished)
    ]
    if not splits:
        raise UserError(f"{finished[0].run.directory} has no scores: measure it by mode=evaluate")
    measured = [record for record in finished if record.metrics.get(splits[0])]
    wanted = objective.partition(".")[2] if objective and "." in objective else None
    wanted = wanted or (measured[0].config.get("train") or {}).get("monitor")
    if any(record.entry(splits[0], str(wanted)) for record in measured):
        return str(wanted), splits[0]
    return str(next(iter(measured[0].metrics[splits[0]]))), splits[0]


def _mean(entries: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Of runs with one seed, which differ, if at all, by what machines they were made on."""
    return {
        name: sum(float(entry[name]) for entry in entries) / len(entries)
        for name in ("value", "low", "high")
    }


def interval(entries: Sequence[Mapping[str, Any]]) -> Interval | None:
    """Student's t over several seeds; of one the bootstrap over examples that it has itself."""
    if not entries:
        return None
    values = [float(entry["value"]) for entry in entries]
    mean = sum(values) / len(values)
    if len(values) == 1:
        return Interval(mean, float(entries[0]["low"]), float(entries[0]["high"]), 1)
    from scipy.stats import t

    half = float(t.ppf(0.975, len(values) - 1)) * float(np.std(values, ddof=1)) / len(values) ** 0.5
    return Interval(mean, mean - half, mean + half, len(values))


def front(points: Sequence[tuple[float, float]], *, maximize: bool) -> list[int]:
    """Indices of the points (cost, score) that no other beats in both, by rising cost."""
    sign = 1 if maximize else -1
    order = sorted(range(len(points)), key=lambda i: (points[i][0], -sign * points[i][1]))
    best, found = -math.inf, []
    for index in order:
        if sign * points[index][1] > best:
            best = sign * points[index][1]
            found.append(index)
    return found


def labels_of(keys: Sequence[str]) -> dict[str, str]:
    """The last parts of settings' names, "learning rate", or all of it where two share that."""
    last = {key: key.rpartition(".")[2].replace("_", " ") for key in keys}
    shared = [label for label in last.values() if list(last.values()).count(label) > 1]
    return {key: key if label in shared else label for key, label in last.items()}


def _needs_key(text: str) -> bool:
    return bool(re.fullmatch(r"-?[\d.]+(e-?\d+)?|true|false|null|None|none", text))


def short_value(text: str) -> str:
    """Numbers to four digits."""
    try:
        value = float(text)
    except ValueError:
        return text
    return text if len(text) < 8 or not math.isfinite(value) else f"{value:.4g}"
