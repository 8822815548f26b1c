"""The ranking of configurations: runs that differ only in their seed are one configuration."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from pipelines.compare.run_records import FINISHED, PRUNED, Record
from pipelines.core.errors import UserError
from pipelines.core.scores import Metric
from pipelines.runs.metrics import ScoreEntry
from pipelines.sweep.objectives import cost_objective

SEED = "seed"

MAX_NAMED = 3
"""Settings in a configuration's name; where more differ, the name has its runs instead."""


@dataclass(frozen=True)
class Interval:
    """A mean with its 95% interval: over `count` seeds or, with one seed, over its examples."""

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
        """A short name, as in the table: its settings or, if they are many, "run 0018"."""
        if len(self.settings) <= MAX_NAMED:
            return self.description
        return f"run {self.runs}"

    @property
    def runs(self) -> str:
        """Names of their directories."""
        return ", ".join(record.run.directory.name for record in self.records)

    @property
    def description(self) -> str:
        """All settings: choices by their values alone, then numbers and switches with names."""
        items = sorted(self.settings.items(), key=lambda item: _needs_key(item[1]))
        labels = label_settings(list(self.settings))
        parts = [
            f"{labels[key]} {short_value(text)}" if _needs_key(text) else text
            for key, text in items
        ]
        return ", ".join(parts) or "the only configuration"

    @property
    def by_seed(self) -> list[list[Record]]:
        """The runs grouped by seed: runs with one seed are repetitions of one another."""
        seeds = dict.fromkeys(record.seed for record in self.records)
        return [[record for record in self.records if record.seed == seed] for seed in seeds]

    def score(self, split: str, name: str) -> Interval | None:
        """The mean over seeds; None if no run has the score."""
        entries = [[record.entry(split, name) for record in runs] for runs in self.by_seed]
        groups = [[entry for entry in group if entry] for group in entries]
        return compute_interval([_mean(group) for group in groups if group])

    def cost(self, name: str) -> float | None:
        """The mean over the runs that measured it."""
        values = [cost_objective(name).read_metrics(record.metrics) for record in self.records]
        costs = [value for value in values if value is not None]
        return sum(costs) / len(costs) if costs else None


@dataclass(frozen=True)
class Ranking:
    """The finished configurations of one problem, the best first.

    metric     by which they are ranked.
    ranked_on  the split on which they are ranked.
    reported   the split that is shown next to it: test, if it was measured. It decides nothing.
    varied     the settings in which the configurations differ.
    searched   these, and the settings in which only pruned runs differ.
    """

    metric: Metric
    ranked_on: str
    reported: str
    varied: Sequence[str]
    searched: Sequence[str]
    configurations: Sequence[Configuration]
    records: Sequence[Record]

    @property
    def score(self) -> str:
        """The name of the metric."""
        return self.metric.name

    @property
    def maximize(self) -> bool:
        return self.metric.higher_is_better

    @cached_property
    def scored(self) -> list[Configuration]:
        """The configurations that have the score."""
        return [c for c in self.configurations if c.score(self.ranked_on, self.score)]

    def ranked_value(self, configuration: Configuration) -> float:
        interval = configuration.score(self.ranked_on, self.score)
        return interval.mean if interval else math.nan

    @property
    def winner(self) -> Configuration:
        return self.configurations[0]

    def values(self, configuration: Configuration) -> list[tuple[Record, float]]:
        """The runs that have the score, and its values."""
        entries = [
            (record, record.entry(self.ranked_on, self.score)) for record in configuration.records
        ]
        return [(record, entry.value) for record, entry in entries if entry]

    @cached_property
    def pruned(self) -> list[tuple[Record, float]]:
        """The pruned runs that evaluated the score, and the best value that each had reached."""
        key = f"validation.{self.score}"
        pairs = []
        for record in self.records:
            values = [row[key] for row in record.history if isinstance(row.get(key), int | float)]
            if record.state == PRUNED and self.ranked_on == "validation" and values:
                pairs.append((record, float(self.metric.best(values))))
        return pairs

    def best_run(self) -> Record:
        """The best run of the winner."""
        sign = self.metric.sign
        return max(self.values(self.winner), key=lambda pair: sign * pair[1])[0]


def rank(records: Sequence[Record], objective: str | None) -> Ranking:
    """Groups runs to configurations and ranks these.

    objective  "validation.NAME" of a sweep, if there is one.

    Raises UserError if no run is finished.
    """
    finished = [record for record in records if record.state == FINISHED]
    if not finished:
        states = ", ".join(sorted({record.state for record in records}))
        raise UserError(
            f"none of the {len(records)} runs is finished ({states}): nothing to compare"
        )
    metric, split = _choose_metric(finished, objective)
    keys = dict.fromkeys(key for record in records for key in record.settings)
    varied = _differing_keys(keys, finished)
    searched = _differing_keys(keys, [record for record in records if record.config])
    groups: dict[tuple[str, ...], list[Record]] = {}
    for record in finished:
        groups.setdefault(tuple(record.setting(key) for key in varied), []).append(record)
    configurations = [
        Configuration(dict(zip(varied, values, strict=True)), members)
        for values, members in groups.items()
    ]

    def sort_key(configuration: Configuration) -> tuple[bool, float]:
        interval = configuration.score(split, metric.name)
        return (interval is None, -metric.sign * interval.mean if interval else 0.0)

    reported = "test" if any(record.metrics.test for record in finished) else split
    ranked = sorted(configurations, key=sort_key)
    return Ranking(metric, split, reported, varied, searched, ranked, records)


def _differing_keys(keys: Iterable[str], records: Sequence[Record]) -> list[str]:
    """The settings, except the seed, in which the runs differ."""
    return [
        key for key in keys if key != SEED and len({record.setting(key) for record in records}) > 1
    ]


def _choose_metric(finished: Sequence[Record], objective: str | None) -> tuple[Metric, str]:
    """A metric and a split to rank by.

    The metric is the sweep's objective, else train.monitor, else the first that was measured.
    """
    splits = [
        name
        for name in ("validation", "test", "train")
        if any(record.metrics.scores(name) for record in finished)
    ]
    if not splits:
        raise UserError(f"{finished[0].run.directory} has no scores: measure it by mode=evaluate")
    split = splits[0]
    with_scores = [record for record in finished if record.metrics.scores(split)]
    monitor = objective.partition(".")[2] if objective and "." in objective else None
    monitor = monitor or (with_scores[0].config.get("train") or {}).get("monitor")
    for record in with_scores:
        entry = record.entry(split, str(monitor))
        if entry is not None:
            return entry.metric(str(monitor)), split
    name, entry = next(iter(with_scores[0].metrics.scores(split).items()))
    return entry.metric(name), split


def _mean(entries: Sequence[ScoreEntry]) -> Interval:
    """The mean of runs with one seed, which differ, if at all, by the machine they ran on."""
    count = len(entries)
    return Interval(
        mean=sum(entry.value for entry in entries) / count,
        low=sum(entry.low for entry in entries) / count,
        high=sum(entry.high for entry in entries) / count,
        count=1,
    )


def compute_interval(entries: Sequence[Interval]) -> Interval | None:
    """Student's t over several seeds; with one seed, its own bootstrap interval over examples."""
    if not entries:
        return None
    if len(entries) == 1:
        return entries[0]
    values = [entry.mean for entry in entries]
    mean = sum(values) / len(values)
    from scipy.stats import t

    standard_error = float(np.std(values, ddof=1)) / len(values) ** 0.5
    half_width = float(t.ppf(0.975, len(values) - 1)) * standard_error
    return Interval(mean, mean - half_width, mean + half_width, len(values))


def pareto_front(points: Sequence[tuple[float, float]], *, maximize: bool) -> list[int]:
    """Indices of the points (cost, score) that no other point dominates, by rising cost."""
    sign = 1 if maximize else -1
    order = sorted(range(len(points)), key=lambda i: (points[i][0], -sign * points[i][1]))
    best, front = -math.inf, []
    for index in order:
        if sign * points[index][1] > best:
            best = sign * points[index][1]
            front.append(index)
    return front


def label_settings(keys: Sequence[str]) -> dict[str, str]:
    """The last part of each setting's name, "learning rate"; the whole name if two share it."""
    last = {key: key.rpartition(".")[2].replace("_", " ") for key in keys}
    duplicates = [label for label in last.values() if list(last.values()).count(label) > 1]
    return {key: key if label in duplicates else label for key, label in last.items()}


def _needs_key(text: str) -> bool:
    """Whether a value, such as a number or a switch, means nothing without its setting's name."""
    return bool(re.fullmatch(r"-?[\d.]+(e-?\d+)?|true|false|null|None|none", text))


def short_value(text: str) -> str:
    """The value, with long numbers to four digits."""
    try:
        value = float(text)
    except ValueError:
        return text
    return text if len(text) < 8 or not math.isfinite(value) else f"{value:.4g}"
