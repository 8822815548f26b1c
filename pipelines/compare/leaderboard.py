"""The leaderboard: a page, with Markdown, CSV and JSON next to it."""

from __future__ import annotations

import datetime
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipelines.compare.best_run import reproduce_command, write_experiment
from pipelines.compare.exports import Commands, render_csv, render_json, render_markdown
from pipelines.compare.importance import compute_importances
from pipelines.compare.plots import (
    cost_figures,
    importance_figure,
    learning_curves_figure,
    ranking_figure,
    slice_figures,
)
from pipelines.compare.ranking import (
    Interval,
    Ranking,
    rank,
)
from pipelines.compare.run_records import (
    ELSEWHERE,
    FAILED,
    FINISHED,
    PRUNED,
    Record,
    find_records,
    read_objective,
)
from pipelines.compare.significance import Difference, SplitLoader, compute_differences
from pipelines.compare.tables import (
    COSTS,
    configurations_table,
    differences_table,
    unfinished_table,
)
from pipelines.core.errors import UserError
from pipelines.core.files import atomic_write
from pipelines.core.formatting import number
from pipelines.core.scores import Metric
from pipelines.report.plots import PALETTE
from pipelines.report.run_report import Drawing, environment

log = logging.getLogger(__name__)

MAX_SLICES = 6
"""Settings that have a figure of their own."""

STEM, WINNER = "leaderboard", "winner"
"""Names of the page and of the experiment; with a number where there are several."""


def write_leaderboards(pattern: str, output: str | None, load_split: SplitLoader) -> list[Path]:
    """Compares runs and returns the pages, one per problem (see Record.problem).

    pattern  of the runs; see find_records.
    output   the directory to write to; None for the common directory of the runs.

    Raises UserError if there is nothing to compare.
    """
    records, common = find_records(pattern)
    directory = Path(output) if output is not None else common
    problems = _group_by_problem(records)
    pages = []
    for index, members in enumerate(problems.values(), 1):
        stem = STEM if len(problems) == 1 else f"{STEM}-{index}"
        try:
            ranking = rank(members, read_objective(common))
        except UserError as error:
            if len(problems) == 1:
                raise
            log.info("%s", error)
            continue
        pages.append(_write_leaderboard(ranking, directory, stem, load_split))
    if not pages:
        elsewhere = sum(record.state == ELSEWHERE for record in records)
        hint = f", but {elsewhere} trials whose directories are not here" if elsewhere else ""
        raise UserError(f"runs={pattern}: no run is finished{hint}: nothing to compare")
    return pages


def _group_by_problem(records: Sequence[Record]) -> dict[str, list[Record]]:
    """Records by problem. One without a configuration belongs to the problem of its sweep."""
    problems: dict[str, list[Record]] = {}
    for record in records:
        if record.config:
            problems.setdefault(record.problem, []).append(record)
    by_sweep = {record.run.directory.parent: record.problem for record in records if record.config}
    for record in records:
        if not record.config:
            problem = by_sweep.get(record.run.directory.parent, next(iter(problems), ""))
            problems.get(problem, []).append(record)
    return problems


def _write_leaderboard(
    ranking: Ranking, directory: Path, stem: str, load_split: SplitLoader
) -> Path:
    differences, note = compute_differences(ranking, load_split)
    best = ranking.best_run()
    train = write_experiment(best, directory, stem.replace(STEM, WINNER))
    commands = Commands(reproduce_command(best), train)
    configurations = configurations_table(ranking)
    differences_section = differences_table(ranking, differences)
    unfinished = unfinished_table(ranking)
    verdict, outcome = summarize(ranking, differences, note)
    importances = compute_importances(ranking)
    page = (
        environment()
        .get_template("leaderboard.html.j2")
        .render(
            title=title(ranking),
            date=_today(),
            verdict=verdict,
            outcome=outcome,
            note=note,
            cards=_cards(ranking),
            configurations=configurations,
            differences=differences_section,
            unfinished=unfinished,
            figures=_draw_figures(ranking, importances, directory / "plots" / stem),
            commands=commands,
            palette=PALETTE,
        )
    )
    tables = [
        table for table in (configurations, differences_section, unfinished) if table is not None
    ]
    note = note if differences_section else None
    markdown = render_markdown(title(ranking), verdict, tables, note, commands)
    for suffix, content in (
        (".html", page),
        (".md", markdown),
        (".csv", render_csv(ranking)),
        (".json", render_json(ranking, differences, importances, commands)),
    ):
        with atomic_write(directory / f"{stem}{suffix}") as temporary:
            temporary.write_text(content, encoding="utf-8")
    log.info("%s", verdict)
    path = directory / f"{stem}.html"
    log.info("Leaderboard: %s (also .md, .csv, .json)", path)
    return path


def _draw_figures(
    ranking: Ranking, importances: Mapping[str, float], directory: Path
) -> dict[str, list[dict[str, Any]]]:
    """The page's figures by section, also written to the directory."""
    drawing = Drawing(directory)
    keys = (list(importances) or ranking.searched)[:MAX_SLICES]
    curves, importance = learning_curves_figure(ranking), importance_figure(importances)
    return {
        "ranking": drawing.each([ranking_figure(ranking)] if len(ranking.scored) > 1 else []),
        "curves": drawing.each([curves] if curves else []),
        "costs": drawing.each(cost_figures(ranking)),
        "importance": drawing.each([importance] if importance else []),
        "slices": drawing.each(slice_figures(ranking, keys)),
    }


def title(ranking: Ranking) -> str:
    """The task and the data in words."""
    first = ranking.winner.records[0]
    task = str(first.config.get("task", {}).get("name", "runs")).replace("_", " ")
    data = first.config.get("data", {})
    name = data.get("name") or first.choices.get("data") or data.get("format", "")
    return f"Leaderboard: {task}, {name}" if name else f"Leaderboard: {task}"


def summarize(
    ranking: Ranking, differences: Sequence[Difference], note: str | None
) -> tuple[str, str | None]:
    """The result in a sentence or two, and "better" if the best differs from all others."""
    winner, name = ranking.winner, ranking.score
    ranked = winner.score(ranking.ranked_on, name)
    if ranked is None:
        return "No run has a score.", None
    score = f"{ranking.ranked_on} {ranking.metric.label} {_format_interval(ranked, ranking.metric)}"
    test = winner.score(ranking.reported, name) if ranking.reported != ranking.ranked_on else None
    on_test = ""
    if test:
        interval = _format_interval(test, ranking.metric)
        on_test = f"; on {ranking.reported}, which decided nothing, {interval}"
    prefix = f"{winner.name}, " if winner.name != winner.description else ""
    sentence = f"The best is {prefix}{winner.description}: {score}{on_test}."
    missing = sum(record.state == ELSEWHERE for record in ranking.records)
    if missing:
        trials = f"{missing} trials" if missing > 1 else "one trial"
        sentence += f" Not in it: {trials} of the study without a directory here."
    if not differences:
        return f"{sentence} {note or ''}".strip(), None
    level = [difference.name for difference in differences if not difference.significant]
    if not level:
        return (
            f"{sentence} It differs significantly from all the others that were tested.",
            "better",
        )
    shown_level = "; ".join(level[:3]) + (f"; and {len(level) - 3} more" if len(level) > 3 else "")
    if len(differences) == 1:
        return f"{sentence} Its difference from {shown_level} is not significant.", "equal"
    several = f"{len(level)} are" if len(level) > 1 else "one is"
    return (
        f"{sentence} Of the {len(differences)} others that were tested {several} not "
        f"significantly worse: {shown_level}.",
        "equal",
    )


def _format_interval(interval: Interval, metric: Metric) -> str:
    over = f"over {interval.count} seeds" if interval.count > 1 else "over examples, one seed"
    low, high = number(interval.low, metric), number(interval.high, metric)
    return f"{number(interval.mean, metric)} ({low} to {high}, 95% {over})"


def _cards(ranking: Ranking) -> list[dict[str, str]]:
    metric, winner = ranking.metric, ranking.winner
    cards = []
    for split in dict.fromkeys([ranking.ranked_on, ranking.reported]):
        interval = winner.score(split, metric.name)
        if interval:
            bounds = f"95% {number(interval.low, metric)} to {number(interval.high, metric)}"
            value, note = number(interval.mean, metric), f"of the best; {bounds}"
            cards.append({"name": f"{split} {metric.label}", "value": value, "note": note})
    for cost, (title, format_value) in COSTS.items():
        value_of = winner.cost(cost)
        if value_of is not None:
            cards.append({"name": title, "value": format_value(value_of), "note": "of the best"})
    states = [record.state for record in ranking.records]
    others = [
        f"{states.count(state)} {state}" for state in (PRUNED, FAILED, ELSEWHERE) if state in states
    ]
    note = ", ".join(others) or f"{len(ranking.configurations)} configurations"
    finished = str(states.count(FINISHED))
    return [*cards, {"name": "finished runs", "value": finished, "note": note}]


def _today() -> str:
    date = datetime.date.today()
    return f"{date.day} {date:%B %Y}"
