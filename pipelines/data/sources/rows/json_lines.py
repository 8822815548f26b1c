"""JSON Lines: an object a line."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from pipelines.core.contracts import RowIssues
from pipelines.core.errors import UserError
from pipelines.core.types import Json, JsonObject
from pipelines.data.sources.rows.lines import raw_lines

_decode = json.JSONDecoder().raw_decode  # twice as fast as json.loads


def json_columns(path: Path) -> list[str]:
    """Names that occur in the first hundred lines."""
    objects = [_object(line) for line in islice(raw_lines(path, "\n"), 100)]
    if not any(objects):
        raise UserError(f"{path} must hold a JSON object a line; it is empty")
    names = [name for record in objects if isinstance(record, dict) for name in record]
    if not names:
        raise UserError(f"{path} must hold a JSON object a line; its first lines are none")
    return list(dict.fromkeys(names))


def json_records(
    path: Path, columns: Sequence[str], issues: RowIssues
) -> Iterator[tuple[int, Sequence[Json]]]:
    """The line, and its values in the order of `columns`; blank lines are passed over."""
    for number, line in enumerate(raw_lines(path, "\n"), 1):
        record = _object(line)
        if isinstance(record, dict):
            try:
                yield number, [record[name] for name in columns]
            except KeyError as error:
                issues.add(f"{path.name}:{number}", f"column {error} has no value")
        elif record is not None:
            issues.add(f"{path.name}:{number}", record)


def _object(line: str) -> JsonObject | str | None:
    """The line's object, or what is wrong with it, or None for a blank line."""
    line = line.strip()
    try:
        record, end = _decode(line)
    except (ValueError, RecursionError):  # the latter for thousands of nested brackets
        return "not valid JSON" if line else None
    if end < len(line):
        return "not valid JSON"
    return record if isinstance(record, dict) else "not a JSON object"
