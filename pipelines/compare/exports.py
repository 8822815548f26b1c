"""The leaderboard as Markdown, and as CSV and JSON for programs."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipelines.compare.ranking import Configuration, Ranking
from pipelines.compare.run_records import Record
from pipelines.compare.significance import Difference
from pipelines.compare.tables import COSTS
from pipelines.core.plain_text import (
    escape_formula,
    escape_markdown,
    json_text,
    markdown_table,
    one_line,
)
from pipelines.core.sections import Table


@dataclass(frozen=True)
class Commands:
    """Command lines: one reproduces the best run, the other trains from its settings."""

    reproduce: str
    train: str


def render_markdown(
    title: str, verdict: str, tables: Sequence[Table], note: str | None, commands: Commands
) -> str:
    """The verdict, the tables and the commands."""
    parts = [f"# {escape_markdown(title)}", escape_markdown(verdict)]
    for table in tables:
        parts += [f"## {escape_markdown(table.title)}", str(markdown_table(table))]
    parts += [escape_markdown(note)] if note else []
    parts.append(
        "To reproduce the best run, and to train from its settings:\n\n"
        f"    {one_line(commands.reproduce)}\n    {one_line(commands.train)}"
    )
    return "\n\n".join(parts) + "\n"


def render_csv(ranking: Ranking) -> str:
    """One line per run: the settings that differ, all scores and all costs.

    Spreadsheets compute nothing of it, should the runs be of strangers.
    """
    rows = [_csv_row(ranking, record) for record in ranking.records]
    names = dict.fromkeys(name for row in rows for name in row)
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(map(escape_formula, names))
    writer.writerows([escape_formula(row.get(name)) for name in names] for row in rows)
    return file.getvalue()


def _csv_row(ranking: Ranking, record: Record) -> dict[str, object]:
    row: dict[str, object] = {"run": str(record.run.directory), "state": record.state}
    row |= {key: record.setting(key) for key in ranking.varied}
    row["seed"] = record.setting("seed")
    for split in ("validation", "test"):
        for name, entry in record.metrics.scores(split).items():
            row[f"{split}.{name}"] = entry.value
    configuration = Configuration({}, [record])
    row |= {name: configuration.cost(name) for name in COSTS}
    row["reason"] = record.reason
    return row


def render_json(
    ranking: Ranking,
    differences: Sequence[Difference],
    importances: Mapping[str, float],
    commands: Commands,
) -> str:
    """All of the leaderboard for programs."""
    splits = dict.fromkeys([ranking.ranked_on, ranking.reported])
    configurations = [
        {
            "settings": dict(entry.settings),
            "runs": [str(record.run.directory) for record in entry.records],
            "scores": {
                split: {"value": i.mean, "low": i.low, "high": i.high, "seeds": i.count}
                for split in splits
                if (i := entry.score(split, ranking.score))
            },
            "costs": {name: entry.cost(name) for name in COSTS},
        }
        for entry in ranking.scored
    ]
    document = {
        "score": ranking.score,
        "ranked_on": ranking.ranked_on,
        "configurations": configurations,
        "differences": [{**vars(gap), "significant": gap.significant} for gap in differences],
        "importances": dict(importances),
        "again": commands.reproduce,
        "train": commands.train,
    }
    return json_text(document, indent=1) + "\n"
