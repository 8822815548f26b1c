"""The leaderboard as Markdown to paste, and as CSV and JSON for programs."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.compare.ranking import Board, Configuration
from pipelines.compare.run_records import Record
from pipelines.compare.significance import Difference
from pipelines.compare.tables import COSTS
from pipelines.core.sections import Table


def markdown(
    title: str, verdict: str, tables: Sequence[Table], note: str | None, again: str, train: str
) -> str:
    """The verdict, the tables, and what to run."""
    parts = [f"# {title}", verdict, *map(_markdown_table, tables)]
    parts += [note] if note else []
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
    """A line a run: the settings that differ, all its scores, and what it cost."""
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
                split: {"value": i.mean, "low": i.low, "high": i.high, "seeds": i.count}
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
