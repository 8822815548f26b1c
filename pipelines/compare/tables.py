"""Tables of the leaderboard, for its page and its Markdown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from pipelines.compare.ranking import (
    MAX_NAMED,
    Configuration,
    Interval,
    Ranking,
    label_settings,
    short_value,
)
from pipelines.compare.run_records import FINISHED, Record
from pipelines.compare.significance import Difference
from pipelines.core.formatting import abbreviate, capitalize, duration, number, probability
from pipelines.core.scores import Metric
from pipelines.core.sections import Table

T = TypeVar("T")

NO_BREAK = "\u00a0"

COSTS: dict[str, tuple[str, Callable[[float], str]]] = {
    "parameters": ("parameters", abbreviate),
    "seconds": ("training", duration),
    "memory": ("memory", lambda megabytes: f"{megabytes:,.0f} MB"),
    "milliseconds": ("a prediction", lambda milliseconds: f"{milliseconds:.3g} ms"),
}


def configurations_table(ranking: Ranking) -> Table:
    splits = list(dict.fromkeys([ranking.ranked_on, ranking.reported]))
    costs = [
        name
        for name in COSTS
        if any(configuration.cost(name) is not None for configuration in ranking.scored)
    ]
    header = [
        "rank",
        *_order_columns(
            ranking,
            [*label_settings(ranking.varied).values()],
            [f"{split} {ranking.metric.label}" for split in splits],
            "runs",
        ),
        *(COSTS[name][0] for name in costs),
    ]
    rows = [
        _row(ranking, place, configuration, splits, costs)
        for place, configuration in enumerate(ranking.scored, 1)
    ]
    caption = (
        f"Ranked on {ranking.ranked_on}. In brackets the 95% interval: Student's t over the runs "
        "with different seeds or, with a single seed, a bootstrap over its examples."
    )
    return Table("Configurations", header, rows, caption)


def _row(
    ranking: Ranking,
    place: int,
    configuration: Configuration,
    splits: Sequence[str],
    costs: Sequence[str],
) -> list[object]:
    settings = [short_value(configuration.settings[key]) for key in ranking.varied]
    intervals = [configuration.score(split, ranking.score) for split in splits]
    scores = [_with_interval(each, ranking.metric) if each else "–" for each in intervals]
    runs = len(configuration.records) if len(ranking.varied) <= MAX_NAMED else configuration.runs
    cells: list[object] = [place, *_order_columns(ranking, settings, scores, runs)]
    for name in costs:
        value = configuration.cost(name)
        cells.append(COSTS[name][1](value) if value is not None else "–")
    return cells


def _order_columns(
    ranking: Ranking, settings: list[str], scores: list[str], runs: T
) -> list[str | T]:
    """Settings first, if they are the configurations' names; else runs and scores first."""
    if len(ranking.varied) <= MAX_NAMED:
        return [*settings, *scores, runs]
    return [runs, *scores, *settings]


def _with_interval(interval: Interval, metric: Metric) -> str:
    low, high = number(interval.low, metric), number(interval.high, metric)
    return f"{number(interval.mean, metric)} ({low}{NO_BREAK}to{NO_BREAK}{high})"


def differences_table(ranking: Ranking, differences: Sequence[Difference]) -> Table | None:
    """The differences from the best; None if there are none."""
    if not differences:
        return None
    metric = ranking.metric
    rows = [
        (
            difference.name,
            number(difference.value, metric),
            f"{number(difference.low, metric)} to {number(difference.high, metric)}",
            probability(difference.p).removeprefix("p = "),
            "yes" if difference.significant else "no",
        )
        for difference in differences
    ]
    caption = (
        f"{capitalize(metric.label)} of the best minus that of the other on {ranking.reported}; "
        "bootstrap over the same examples and over seeds, p after Holm's correction. With one seed "
        "per configuration, the interval doesn't cover what another seed would change."
    )
    header = ("compared with", "difference", "95% interval", "p", "significant")
    return Table("Is the best better?", header, rows, caption)


def unfinished_table(ranking: Ranking) -> Table | None:
    """Runs that belong to no configuration, and why; None if there are none."""
    left_out = [
        record
        for record in ranking.records
        if record.state != FINISHED or not record.entry(ranking.ranked_on, ranking.score)
    ]
    if not left_out:
        return None
    rows = [
        (
            record.run.directory.name,
            record.state,
            ", ".join(
                f"{key} {short_value(record.settings[key])}"
                for key in ranking.varied
                if key in record.settings
            ),
            _reason(record, ranking),
        )
        for record in left_out
    ]
    return Table("Runs without a result", ("run", "state", "settings", "why"), rows)


def _reason(record: Record, ranking: Ranking) -> str:
    if record.state == FINISHED:
        return f"it has no {ranking.ranked_on} {ranking.metric.label}: measure it by mode=evaluate"
    return str(record.reason or _last_evaluation(record, ranking.metric))


def _last_evaluation(record: Record, metric: Metric) -> str:
    key = f"validation.{metric.name}"
    rows = [row for row in record.history if key in row]
    if not rows:
        return "–"
    last = rows[-1]
    return f"{metric.label} {number(last[key], metric)} after {len(rows)} evaluations"
