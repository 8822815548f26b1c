"""The leaderboard: one page for people, Markdown to paste, and CSV for programs."""

from __future__ import annotations

import csv
import datetime
import io
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipelines.comparing.board import (
    Board,
    Configuration,
    Interval,
    board_of,
    labels_of,
    short_value,
)
from pipelines.comparing.figures import (
    cost_figures,
    curves,
    importance_figure,
    ranking,
    slices,
)
from pipelines.comparing.importance import importances
from pipelines.comparing.records import (
    FAILED,
    FINISHED,
    PRUNED,
    Record,
    find_records,
    objective_of,
)
from pipelines.comparing.significance import Difference, SplitOf, differences
from pipelines.comparing.winner import command, write_experiment
from pipelines.contracts import UserError
from pipelines.metrics.wording import duration, label, number, probability, short
from pipelines.plots import PALETTE
from pipelines.report import Drawing, environment
from pipelines.run import written_whole
from pipelines.sections import Table

log = logging.getLogger(__name__)

MOST_SLICES = 6

STEM = "leaderboard"

NO_BREAK = "\u00a0"

COSTS: dict[str, tuple[str, Callable[[float], str]]] = {
    "parameters": ("parameters", short),
    "seconds": ("training", duration),
    "memory": ("memory", lambda megabytes: f"{megabytes:,.0f} MB"),
    "milliseconds": ("a prediction", lambda milliseconds: f"{milliseconds:.3g} ms"),
}


def leaderboard(pattern: str, output: str | None, split_of: SplitOf) -> list[Path]:
    """Compares the runs of `runs=`; returns the pages. One a problem, where there are several.

    output  the directory to write to; None for the one that the runs lie in. UserError where there
            is nothing to compare.
    """
    records, common = find_records(pattern)
    directory = Path(output) if output is not None else common
    problems: dict[str, list[Record]] = {}
    for record in records:
        if record.config:
            problems.setdefault(record.problem, []).append(record)
    for record in records:
        if not record.config:  # nothing is left of it that would say which it was of
            next(iter(problems.values()), []).append(record)
    pages = []
    for place, members in enumerate(problems.values()):
        stem = STEM if len(problems) == 1 else f"{STEM}-{place + 1}"
        try:
            board = board_of(members, objective_of(common))
        except UserError as error:
            if len(problems) == 1:
                raise
            log.info("%s", error)
            continue
        pages.append(_write(board, directory, stem, split_of))
    if not pages:
        raise UserError(f"runs={pattern}: no run is finished, nothing to compare")
    return pages


def _write(board: Board, directory: Path, stem: str, split_of: SplitOf) -> Path:
    found, note = differences(board, split_of)
    train = write_experiment(board.best_run(), directory)
    again = command(board.best_run())
    table = configurations_table(board)
    beside = differences_table(board, found)
    verdict, outcome = judged(board, found, note)
    shares = importances(board)
    drawn = Drawing(directory / "plots" / stem)
    pictures = {
        "ranking": drawn.each([ranking(board)] if len(board.scored) > 1 else []),
        "curves": drawn.each([figure] if (figure := curves(board)) else []),
        "costs": drawn.each(cost_figures(board)),
        "importance": drawn.each([figure] if (figure := importance_figure(shares)) else []),
        "slices": drawn.each(slices(board, (list(shares) or board.varied)[:MOST_SLICES])),
    }
    page = (
        environment()
        .get_template("leaderboard.html.j2")
        .render(
            title=title(board),
            date=_today(),
            verdict=verdict,
            outcome=outcome,
            note=note,
            cards=_cards(board),
            table_of_configurations=table,
            beside=beside,
            pictures=pictures,
            unfinished=unfinished_table(board),
            again=again,
            train=train,
            palette=PALETTE,
        )
    )
    markdown = _markdown(board, verdict, table, beside, note, again, train)
    for suffix, text in (
        (".html", page),
        (".md", markdown),
        (".csv", runs_csv(board)),
        (".json", as_json(board, found, shares, again, train)),
    ):
        with written_whole(directory / f"{stem}{suffix}") as temporary:
            temporary.write_text(text, encoding="utf-8")
    log.info("%s", verdict)
    path = directory / f"{stem}.html"
    log.info("Leaderboard: %s (also .md, .csv, .json)", path)
    return path


def title(board: Board) -> str:
    """Task and data in words."""
    first = board.winner.records[0]
    task = str(first.config.get("task", {}).get("name", "runs")).replace("_", " ")
    data = first.config.get("data", {})
    name = data.get("name") or first.choices.get("data") or data.get("format", "")
    return f"Leaderboard: {task}, {name}" if name else f"Leaderboard: {task}"


def judged(board: Board, found: Sequence[Difference], note: str | None) -> tuple[str, str | None]:
    """The result in a sentence or two, and "better" if the winner is better than all others."""
    winner, name = board.winner, board.score
    ranked = winner.score(board.ranked_on, name)
    if ranked is None:
        return "No run has a score.", None
    shown = f"{board.ranked_on} {label(name)} {_spelled(ranked, name)}"
    test = winner.score(board.reported, name) if board.reported != board.ranked_on else None
    beside = f"; on {board.reported}, which decided nothing, {_spelled(test, name)}" if test else ""
    sentence = f"The best is {winner.name}: {shown}{beside}."
    if not found:
        return f"{sentence} {note or ''}".strip(), None
    level = [one.name for one in found if not one.significant]
    if not level:
        return (
            f"{sentence} It differs significantly from all the others that were tested.",
            "better",
        )
    shown_level = "; ".join(level[:3]) + (f"; and {len(level) - 3} more" if len(level) > 3 else "")
    return (
        f"{sentence} Its difference from {len(level)} of {len(found)} others is not significant: "
        f"{shown_level}.",
        "equal",
    )


def _spelled(found: Interval, name: str) -> str:
    over = f"over {found.count} seeds" if found.count > 1 else "over examples, one run"
    return (
        f"{number(found.mean, name)} ({number(found.low, name)} to {number(found.high, name)}, "
        f"95% {over})"
    )


def configurations_table(board: Board) -> Table:
    splits = list(dict.fromkeys([board.ranked_on, board.reported]))
    costs = [name for name in COSTS if any(one.cost(name) is not None for one in board.scored)]
    header = [
        "rank",
        *labels_of(board.varied).values(),
        *(f"{split} {label(board.score)}" for split in splits),
        "runs",
        *(COSTS[name][0] for name in costs),
    ]
    rows = [_row(board, place, one, splits, costs) for place, one in enumerate(board.scored, 1)]
    caption = (
        f"Ranked on {board.ranked_on}. In brackets the 95% interval: Student's t over the runs "
        "with different seeds or, of a single run, a bootstrap over its examples."
    )
    return Table("Configurations", header, rows, caption)


def _row(
    board: Board, place: int, one: Configuration, splits: Sequence[str], costs: Sequence[str]
) -> list[Any]:
    cells: list[Any] = [place, *(short_value(one.settings[key]) for key in board.varied)]
    for split in splits:
        found = one.score(split, board.score)
        cells.append(_with_interval(found, board.score) if found else "–")
    cells.append(len(one.records))
    for name in costs:
        value = one.cost(name)
        cells.append(COSTS[name][1](value) if value is not None else "–")
    return cells


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
        f"{label(name).capitalize()} of the best minus that of the other on {board.reported}; "
        "bootstrap over the same examples and over runs, p after Holm's correction. With one run a "
        "configuration, what another seed would change is not in it."
    )
    header = ("the best beside", "difference", "95% interval", "p", "significant")
    return Table("Is the best better?", header, rows, caption)


def unfinished_table(board: Board) -> Table | None:
    """Runs that are in no configuration, and why."""
    left = [record for record in board.records if record.state != FINISHED]
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
            str(record.trial.get("reason") or _stopped_at(record, board.score)),
        )
        for record in left
    ]
    return Table("Runs without a result", ("run", "state", "settings", "why"), rows)


def _stopped_at(record: Record, score: str) -> str:
    rows = [row for row in record.history if f"validation.{score}" in row]
    if not rows:
        return "–"
    last = rows[-1]
    return (
        f"{label(score)} {number(last[f'validation.{score}'], score)} after {len(rows)} evaluations"
    )


def _cards(board: Board) -> list[dict[str, str]]:
    name, winner = board.score, board.winner
    cards = []
    for split in dict.fromkeys([board.ranked_on, board.reported]):
        found = winner.score(split, name)
        if found:
            note = f"95% {number(found.low, name)} to {number(found.high, name)}"
            value = number(found.mean, name)
            cards.append({"name": f"best {split} {label(name)}", "value": value, "note": note})
    for cost, (title, shown) in COSTS.items():
        value_of = winner.cost(cost)
        if value_of is not None:
            cards.append({"name": title, "value": shown(value_of), "note": "of the best"})
    states = [record.state for record in board.records]
    others = [f"{states.count(one)} {one}" for one in (PRUNED, FAILED) if one in states]
    note = ", ".join(others) or f"{len(board.configurations)} configurations"
    finished = str(states.count(FINISHED))
    return [*cards, {"name": "finished runs", "value": finished, "note": note}]


def _markdown(
    board: Board,
    verdict: str,
    table: Table,
    beside: Table | None,
    note: str | None,
    again: str,
    train: str,
) -> str:
    parts = [f"# {title(board)}", verdict, _markdown_table(table)]
    if beside is not None:
        parts.append(_markdown_table(beside))
        parts += [note] if note else []
    unfinished = unfinished_table(board)
    if unfinished is not None:
        parts.append(_markdown_table(unfinished))
    parts.append(f"The best run again, and its settings to go on from:\n\n    {again}\n    {train}")
    return "\n\n".join(parts) + "\n"


def _markdown_table(table: Table) -> str:
    lines = [f"## {table.title}", "", _markdown_row(table.header)]
    lines.append("|" + "---|" * len(table.header))
    lines += [_markdown_row(row) for row in table.rows]
    return "\n".join([*lines, "", table.caption]).rstrip()


def _markdown_row(cells: Sequence[Any]) -> str:
    texts = (" ".join(str(cell).split()).replace("|", "\\|") for cell in cells)
    return f"| {' | '.join(texts)} |"


def runs_csv(board: Board) -> str:
    """A line a run: its settings as they were typed, all its scores, and what it cost."""
    rows = [_run_row(board, record) for record in board.records]
    names = dict.fromkeys(name for row in rows for name in row)
    file = io.StringIO()
    writer = csv.DictWriter(file, list(names), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


def _run_row(board: Board, record: Record) -> dict[str, Any]:
    row: dict[str, Any] = {"run": str(record.run.directory), "state": record.state}
    row |= {key: record.setting(key) for key in board.varied}
    row["seed"] = record.setting("seed")
    for split in ("validation", "test"):
        for name, entry in (record.metrics.get(split) or {}).items():
            row[f"{split}.{name}"] = entry["value"]
    alone = Configuration({}, [record])
    row |= {name: alone.cost(name) for name in COSTS}
    row["reason"] = record.trial.get("reason", "")
    return row


def as_json(
    board: Board, found: Sequence[Difference], shares: Mapping[str, float], again: str, train: str
) -> str:
    """The same for programs."""
    splits = dict.fromkeys([board.ranked_on, board.reported])
    ranked = [
        {
            "settings": dict(one.settings),
            "runs": [str(record.run.directory) for record in one.records],
            "scores": {
                split: {"value": i.mean, "low": i.low, "high": i.high, "runs": i.count}
                for split in splits
                if (i := one.score(split, board.score))
            },
            "costs": {name: one.cost(name) for name in COSTS},
        }
        for one in board.scored
    ]
    beside = [{**vars(one), "significant": one.significant} for one in found]
    whole = {
        "score": board.score,
        "ranked_on": board.ranked_on,
        "configurations": ranked,
        "differences": beside,
        "importances": dict(shares),
        "again": again,
        "train": train,
    }
    return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"


def _today() -> str:
    made = datetime.date.today()
    return f"{made.day} {made:%B %Y}"
