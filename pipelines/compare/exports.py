"""The leaderboard as Markdown, and as CSV and JSON for programs."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipelines.compare.ranking import Configuration, Ranking
from pipelines.compare.run_records import Record
from pipelines.compare.significance import Difference
from pipelines.compare.tables import COSTS
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
    parts = [f"# {title}", verdict, *map(_render_table, tables)]
    parts += [note] if note else []
    parts.append(
        "To reproduce the best run, and to train from its settings:\n\n"
        f"    {commands.reproduce}\n    {commands.train}"
    )
    return "\n\n".join(parts) + "\n"


def _render_table(table: Table) -> str:
    lines = [f"## {table.title}", "", _render_row(table.header)]
    lines.append("|" + "---|" * len(table.header))
    lines += [_render_row(row) for row in table.rows]
    return "\n".join([*lines, "", table.caption]).rstrip()


def _render_row(cells: Sequence[object]) -> str:
    texts = (" ".join(str(cell).split()).replace("|", "\\|") for cell in cells)
    return f"| {' | '.join(texts)} |"


def render_csv(ranking: Ranking) -> str:
    """One line per run: the settings that differ, all scores and all costs."""
    rows = [_csv_row(ranking, record) for record in ranking.records]
    names = dict.fromkeys(name for row in rows for name in row)
    file = io.StringIO()
    writer = csv.DictWriter(file, list(names), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
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
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"
