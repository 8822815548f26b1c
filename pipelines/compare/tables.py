"""Tables that the leaderboard's page and its Markdown share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from pipelines.compare.ranking import (
    MOST_NAMED,
    Board,
    Configuration,
    Interval,
    labels_of,
    short_value,
)
from pipelines.compare.run_records import FINISHED, Record
from pipelines.compare.significance import Difference
from pipelines.core.formatting import capitalized, duration, label, number, probability, short
from pipelines.core.sections import Table

NO_BREAK = "\u00a0"

COSTS: dict[str, tuple[str, Callable[[float], str]]] = {
    "parameters": ("parameters", short),
    "seconds": ("training", duration),
    "memory": ("memory", lambda megabytes: f"{megabytes:,.0f} MB"),
    "milliseconds": ("a prediction", lambda milliseconds: f"{milliseconds:.3g} ms"),
}


def configurations_table(board: Board) -> Table:
    splits = list(dict.fromkeys([board.ranked_on, board.reported]))
    costs = [name for name in COSTS if any(one.cost(name) is not None for one in board.scored)]
    header = [
        "rank",
        *_in_order(
            board,
            [*labels_of(board.varied).values()],
            [f"{split} {label(board.score)}" for split in splits],
            "runs",
        ),
        *(COSTS[name][0] for name in costs),
    ]
    rows = [_row(board, place, one, splits, costs) for place, one in enumerate(board.scored, 1)]
    caption = (
        f"Ranked on {board.ranked_on}. In brackets the 95% interval: Student's t over the runs "
        "with different seeds or, of a single seed, a bootstrap over its examples."
    )
    return Table("Configurations", header, rows, caption)


def _row(
    board: Board, place: int, one: Configuration, splits: Sequence[str], costs: Sequence[str]
) -> list[Any]:
    settings = [short_value(one.settings[key]) for key in board.varied]
    found = [one.score(split, board.score) for split in splits]
    scores = [_with_interval(interval, board.score) if interval else "–" for interval in found]
    runs = len(one.records) if len(board.varied) <= MOST_NAMED else one.runs
    cells: list[Any] = [place, *_in_order(board, settings, scores, runs)]
    for name in costs:
        value = one.cost(name)
        cells.append(COSTS[name][1](value) if value is not None else "–")
    return cells


def _in_order(board: Board, settings: list[str], scores: list[str], runs: Any) -> list[Any]:
    """Settings first, if they are what configurations are called by; else runs and scores."""
    if len(board.varied) <= MOST_NAMED:
        return [*settings, *scores, runs]
    return [runs, *scores, *settings]


def _with_interval(found: Interval, name: str) -> str:
    low, high = number(found.low, name), number(found.high, name)
    return f"{number(found.mean, name)} ({low}{NO_BREAK}to{NO_BREAK}{high})"


def differences_table(board: Board, found: Sequence[Difference]) -> Table | None:
    if not found:
        return None
    name = board.score
    rows = [
        (
            one.name,
            number(one.value, name),
            f"{number(one.low, name)} to {number(one.high, name)}",
            probability(one.p).removeprefix("p = "),
            "yes" if one.significant else "no",
        )
        for one in found
    ]
    caption = (
        f"{capitalized(label(name))} of the best minus that of the other on {board.reported}; "
        "bootstrap over the same examples and over seeds, p after Holm's correction. With one seed "
        "a configuration, what another would change is not in it."
    )
    header = ("the best beside", "difference", "95% interval", "p", "significant")
    return Table("Is the best better?", header, rows, caption)


def unfinished_table(board: Board) -> Table | None:
    """Runs that are in no configuration, and why."""
    left = [
        record
        for record in board.records
        if record.state != FINISHED or not record.entry(board.ranked_on, board.score)
    ]
    if not left:
        return None
    rows = [
        (
            record.run.directory.name,
            record.state,
            ", ".join(
                f"{key} {short_value(record.settings[key])}"
                for key in board.varied
                if key in record.settings
            ),
            _why(record, board),
        )
        for record in left
    ]
    return Table("Runs without a result", ("run", "state", "settings", "why"), rows)


def _why(record: Record, board: Board) -> str:
    if record.state == FINISHED:
        return f"it has no {board.ranked_on} {label(board.score)}: measure it by mode=evaluate"
    return str(record.trial.get("reason") or _stopped_at(record, board.score))


def _stopped_at(record: Record, score: str) -> str:
    rows = [row for row in record.history if f"validation.{score}" in row]
    if not rows:
        return "–"
    last = rows[-1]
    return (
        f"{label(score)} {number(last[f'validation.{score}'], score)} after {len(rows)} evaluations"
    )
