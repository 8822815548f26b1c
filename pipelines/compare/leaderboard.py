"""The leaderboard: one page for people, Markdown to paste, and CSV for programs."""

from __future__ import annotations

import datetime
import logging
from collections.abc import Sequence
from pathlib import Path

from pipelines.compare.best_run import command, write_experiment
from pipelines.compare.exports import as_json, markdown, runs_csv
from pipelines.compare.importance import importances
from pipelines.compare.plots import (
    cost_figures,
    curves,
    importance_figure,
    ranking,
    slices,
)
from pipelines.compare.ranking import (
    Board,
    Interval,
    board_of,
)
from pipelines.compare.run_records import (
    ELSEWHERE,
    FAILED,
    FINISHED,
    PRUNED,
    Record,
    find_records,
    objective_of,
)
from pipelines.compare.significance import Difference, SplitOf, differences
from pipelines.compare.tables import (
    COSTS,
    configurations_table,
    differences_table,
    unfinished_table,
)
from pipelines.core.errors import UserError
from pipelines.core.files import atomic_write
from pipelines.core.formatting import label, number
from pipelines.report.plots import PALETTE
from pipelines.report.run_report import Drawing, environment

log = logging.getLogger(__name__)

MOST_SLICES = 6

STEM, WINNER = "leaderboard", "winner"
"""Names of pages and of experiments, with a number where there are several."""


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
    of_sweep = {one.run.directory.parent: one.problem for one in records if one.config}
    for record in records:
        if not record.config:  # nothing of it is here that would say which problem it was of
            known = of_sweep.get(record.run.directory.parent, next(iter(problems), ""))
            problems.get(known, []).append(record)
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
        elsewhere = sum(record.state == ELSEWHERE for record in records)
        beside = f", but {elsewhere} trials whose directories are not here" if elsewhere else ""
        raise UserError(f"runs={pattern}: no run is finished{beside}: nothing to compare")
    return pages


def _write(board: Board, directory: Path, stem: str, split_of: SplitOf) -> Path:
    found, note = differences(board, split_of)
    train = write_experiment(board.best_run(), directory, stem.replace(STEM, WINNER))
    again = command(board.best_run())
    table = configurations_table(board)
    beside, unfinished = differences_table(board, found), unfinished_table(board)
    verdict, outcome = judged(board, found, note)
    shares = importances(board)
    drawn = Drawing(directory / "plots" / stem)
    pictures = {
        "ranking": drawn.each([ranking(board)] if len(board.scored) > 1 else []),
        "curves": drawn.each([figure] if (figure := curves(board)) else []),
        "costs": drawn.each(cost_figures(board)),
        "importance": drawn.each([figure] if (figure := importance_figure(shares)) else []),
        "slices": drawn.each(slices(board, (list(shares) or board.searched)[:MOST_SLICES])),
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
            unfinished=unfinished,
            again=again,
            train=train,
            palette=PALETTE,
        )
    )
    tables = [one for one in (table, beside, unfinished) if one is not None]
    text = markdown(title(board), verdict, tables, note if beside else None, again, train)
    for suffix, content in (
        (".html", page),
        (".md", text),
        (".csv", runs_csv(board)),
        (".json", as_json(board, found, shares, again, train)),
    ):
        with atomic_write(directory / f"{stem}{suffix}") as temporary:
            temporary.write_text(content, encoding="utf-8")
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
    called = f"{winner.name}, " if winner.name != winner.described else ""
    sentence = f"The best is {called}{winner.described}: {shown}{beside}."
    missing = sum(record.state == ELSEWHERE for record in board.records)
    if missing:
        trials = f"{missing} trials" if missing > 1 else "one trial"
        sentence += f" Not in it: {trials} of the study without a directory here."
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
    over = f"over {found.count} seeds" if found.count > 1 else "over examples, one seed"
    return (
        f"{number(found.mean, name)} ({number(found.low, name)} to {number(found.high, name)}, "
        f"95% {over})"
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
    others = [f"{states.count(one)} {one}" for one in (PRUNED, FAILED, ELSEWHERE) if one in states]
    note = ", ".join(others) or f"{len(board.configurations)} configurations"
    finished = str(states.count(FINISHED))
    return [*cards, {"name": "finished runs", "value": finished, "note": note}]


def _today() -> str:
    made = datetime.date.today()
    return f"{made.day} {made:%B %Y}"
