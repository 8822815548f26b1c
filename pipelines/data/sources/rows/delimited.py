"""CSV and TSV: one record a line, or several where a quoted field holds line ends."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from operator import itemgetter
from pathlib import Path

from pipelines.core.contracts import RowIssues
from pipelines.core.errors import UserError
from pipelines.data.sources.rows.lines import MAX_LINE_BYTES, raw_lines

MAX_NAME_CHARACTERS = 60
"""A longer field in the first line is text, and no column's name."""


def delimited_columns(path: Path, delimiter: str, quoting: bool) -> list[str]:
    """The header's names."""
    for _, record in _records(path, delimiter, quoting, RowIssues()):
        return [name.strip() for name in record]
    raise UserError(f"{path} must hold a header and rows; it is empty")


def delimited_records(
    path: Path, columns: Sequence[str | int], issues: RowIssues, delimiter: str, quoting: bool
) -> Iterator[tuple[int, Sequence[str]]]:
    """The line where a record starts, and its fields in the order of `columns`.

    Columns by name are looked up in the header; by position (from 0), there is no header.
    """
    records = _records(path, delimiter, quoting, issues)
    positions, width = [column for column in columns if isinstance(column, int)], 0
    if not positions:
        header: list[str | int] = [name.strip() for name in next(records, (0, []))[1]]
        positions, width = [header.index(name) for name in columns], len(header)
    pick = _make_picker(positions)
    for line, record in records:
        if len(record) == width:
            yield line, pick(record)
        elif width:
            issues.add(f"{path.name}:{line}", "wrong number of fields")
        else:
            width = len(record)
            if width <= max(positions):
                raise UserError(
                    f"{path}:{line}: there is no column {max(positions)}: "
                    f"columns are 0 to {width - 1} (counted from 0)"
                )
            yield line, pick(record)


def guess_columns(
    path: Path, keys: Sequence[str], delimiter: str, quoting: bool
) -> dict[str, int] | None:
    """Likely positions of text and label, by key; None if the first line looks like a header.

    It doesn't if it has a number or a long text, or a value that its column has further down, too.
    """
    rows = [record for _, record in islice(_records(path, delimiter, quoting, RowIssues()), 100)]
    first, width = rows[0], len(rows[0])
    columns = list(zip(*(row for row in rows if len(row) == width), strict=True))
    again = any(name in column[1:] for name, column in zip(first, columns, strict=True))
    if width < len(keys) or not (again or any(map(_is_no_name, first))):
        return None
    lengths = [sum(map(len, column)) for column in columns]
    by_length = sorted(range(width), key=lambda position: -lengths[position])
    texts = [key for key in keys if key != "label"]
    guess = dict(zip(texts, sorted(by_length[: len(texts)]), strict=True))
    if "label" in keys:
        different = [len(set(column)) for column in columns]
        # A column with one value only is no label; of the others the one with the fewest is.
        rest = sorted(by_length[len(texts) :], key=lambda position: different[position])
        guess["label"] = next((position for position in rest if different[position] > 1), rest[0])
    return guess


def _is_no_name(field: str) -> bool:
    try:
        float(field)
    except ValueError:
        return len(field) > MAX_NAME_CHARACTERS
    return True


def _make_picker(positions: Sequence[int]) -> Callable[[list[str]], Sequence[str]]:
    if len(positions) > 1:
        return itemgetter(*positions)
    return lambda record: (record[positions[0]],)


def _records(
    path: Path, delimiter: str, quoting: bool, issues: RowIssues
) -> Iterator[tuple[int, list[str]]]:
    """The line where a record starts, and its fields; blank lines are skipped.

    A record with a fault within its own line is an issue. One that continues on other lines is
    fatal, because the open quote swallowed an unknown number of rows. So is a fault in the header.
    """
    csv.field_size_limit(MAX_LINE_BYTES)
    reader = csv.reader(
        raw_lines(path, ""),
        delimiter=delimiter,
        quoting=csv.QUOTE_MINIMAL if quoting else csv.QUOTE_NONE,
        strict=True,
    )
    start = 1
    while True:
        try:
            for record in reader:
                if record:
                    yield start, record
                start = reader.line_num + 1
            return
        except csv.Error as error:
            endless = "unexpected end" in str(error) or "field larger" in str(error)
            if endless or reader.line_num > start or start == 1:
                raise UserError(
                    f"{path}:{start}: a quote that opens a field must close it; one in the record "
                    f"that starts in line {start} doesn't: close or double it, or set "
                    "data.quoting=false if quotes are plain characters here"
                ) from None
            issues.add(f"{path.name}:{start}", "text after a closing quote")
            start = reader.line_num + 1
