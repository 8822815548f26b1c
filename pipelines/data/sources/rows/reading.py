"""Chooses how a file is read, and checks it first, so that reading doesn't fail later."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from pipelines.core.contracts import RowIssues
from pipelines.core.errors import UserError, shown, suggest
from pipelines.core.types import Value
from pipelines.data.sources.rows.delimited import (
    delimited_columns,
    delimited_records,
    guess_columns,
)
from pipelines.data.sources.rows.json_lines import json_columns, json_records
from pipelines.data.sources.rows.lines import COMPRESSIONS, extension, read_lines
from pipelines.data.sources.rows.parquet import parquet_columns, parquet_records, parquet_rows
from pipelines.data.sources.rows.values import Columns, usable_rows

_DELIMITERS = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
_JSON_LINES = (".jsonl", ".ndjson")
_PARQUET = (".parquet", ".pq")
_PLAIN = (".txt",)
DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "pipe"}
"""Common delimiters, with names that need no quoting on a command line."""
_QUICKLY_READ = 4 << 30
EXTENSIONS = (*_DELIMITERS, *_JSON_LINES, *_PARQUET, *_PLAIN)


def resolve_delimiter(delimiter: str | None) -> str | None:
    """The character that data.delimiter names; UserError if it names none."""
    marks = {name: mark for mark, name in DELIMITERS.items()} | {"\\t": "\t"}
    mark = None if delimiter is None else marks.get(delimiter, delimiter)
    if mark is not None and (len(mark) != 1 or mark in '"\r\n'):
        raise UserError(
            f"data.delimiter must be one character, not a quote; received {shown(mark)}: "
            "leave it null, or give ',', ';', '|' or '\\t'"
        )
    return mark


@dataclass(frozen=True)
class Dialect:
    """How a file separates fields.

    delimiter  between the fields of CSV, TSV and .txt; None: by the file's extension.
    quoting    whether double quotes enclose fields with delimiters or line ends inside.
    """

    delimiter: str | None = None
    quoting: bool = True


BY_EXTENSION = Dialect()


def read_rows(
    path: Path,
    columns: Columns,
    issues: RowIssues,
    dialect: Dialect = BY_EXTENSION,
    *,
    by_setting: bool = True,
) -> Iterator[dict[str, Value]]:
    """The file's rows. Values are text that isn't blank; other rows are added to `issues`.

    columns     in a .txt file, each line is the value of the one column.
    by_setting  whether settings data.<key>_column name the columns; for messages.

    Raises UserError immediately for what `check_file` and `check_columns` see, and later for a file
    that is damaged further down.
    """
    check_file(path)
    check_columns(path, columns.names, dialect, by_setting=by_setting)
    keys = list(columns.names.values())
    separator = _separator(path, dialect)
    names = list(map(str, keys))
    records: Iterator[tuple[int, Sequence[Value]]]
    if separator is not None:
        records = delimited_records(path, keys, issues, separator, dialect.quoting)
    elif extension(path) in _JSON_LINES:
        records = json_records(path, names, issues)
    elif extension(path) in _PARQUET:
        records = parquet_records(path, names)
    else:
        records = enumerate(((line,) for line in read_lines(path)), 1)
    return usable_rows(records, columns, issues, path.name)


def count_rows(path: Path) -> int | None:
    """The number of rows of Parquet, or of lines of text; None if counting would take long."""
    if extension(path) in _PARQUET:
        return parquet_rows(path)
    if path.suffix.lower() in COMPRESSIONS or path.stat().st_size > _QUICKLY_READ:
        return None
    with path.open("rb") as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))


def column_names(path: Path, dialect: Dialect = BY_EXTENSION) -> list[str]:
    """Names of the file's columns; of JSON Lines, those in the first rows; none of plain text.

    Raises UserError for a file that is empty or can't be read.
    """
    separator = _separator(path, dialect)
    if separator is not None:
        return delimited_columns(path, separator, dialect.quoting)
    if extension(path) in _JSON_LINES:
        return json_columns(path)
    if extension(path) in _PARQUET:
        return parquet_columns(path)
    if all(not line or line.isspace() for line in islice(read_lines(path), 1000)):
        raise UserError(f"{path} must hold a text a line; it is empty")
    return []


def check_columns(
    path: Path,
    columns: Mapping[str, str | int],
    dialect: Dialect = BY_EXTENSION,
    *,
    by_setting: bool = True,
) -> None:
    """Raises UserError unless the file has each column once, and something in it.

    The message names the setting, if that says the column: data.text_column for the key "text".
    """
    names = column_names(path, dialect)
    separator = _separator(path, dialect)
    positions = [key for key, column in columns.items() if isinstance(column, int)]
    if positions and (separator is None or len(positions) < len(columns)):
        raise UserError(
            f"data.{positions[0]}_column: a position must go with positions of all columns, in CSV "
            f"or TSV without a header; received {path.name} and "
            f"{', '.join(repr(column) for column in columns.values())}: give names"
        )
    if extension(path) in _PLAIN and separator is None:
        if len(columns) > 1:
            raise UserError(
                f"{path} must have the columns {', '.join(map(str, columns.values()))}; it has a "
                "text a line: give CSV, TSV, JSON Lines or Parquet, or say data.delimiter"
            )
        return
    if not positions:
        if separator is not None and by_setting and set(names).isdisjoint(columns.values()):
            _check_header(path, columns, separator, dialect.quoting)
        for key, column in columns.items():
            setting = f"data.{key}_column: " if by_setting else ""
            _check_name(path, setting, str(column), names, separator)
    if separator is not None:
        _check_records(path, list(columns.values()), separator, dialect.quoting)


def check_extra_columns(path: Path, names: Sequence[str], dialect: Dialect = BY_EXTENSION) -> None:
    """Raises UserError unless the file has each of the columns that prepare names, once."""
    known = column_names(path, dialect)
    for name in names:
        where = "prepare.group_by or prepare.time_column: "
        _check_name(path, where, name, known, _separator(path, dialect))


def check_exists(path: Path, setting: str | None = None) -> None:
    """Raises UserError unless there is a file; `setting` is what named it."""
    prefix = f"{setting}: " if setting else ""
    # os.path answers where Path raises: a folder that may not be entered, a name too long.
    if not os.path.exists(path):
        raise UserError(f"{prefix}there is no file {path}; {_suggest_path(path)}")
    if not os.path.isfile(path):
        raise UserError(f"{prefix}{path} must be a file; it is not")


def check_file(path: Path, setting: str | None = None) -> None:
    """Raises UserError unless there is a file of a known format; `setting` is what named it."""
    check_exists(path, setting)
    prefix = f"{setting}: " if setting else ""
    if extension(path) not in EXTENSIONS:
        remedy = "convert it, or give it the right name"
        if extension(path) == ".json":
            remedy = "name it .jsonl if it holds an object a line, else convert it"
        raise UserError(
            f"{prefix}a file's name must end in {', '.join(EXTENSIONS)} (text also in "
            f"{', '.join(COMPRESSIONS)} after that); received {path.name}: {remedy}"
        )


def _check_name(
    path: Path, setting: str, name: str, names: list[str], separator: str | None
) -> None:
    if names.count(name) == 1:
        return
    if name in names:
        raise UserError(f"{setting}{path.name} has {shown(name)} more than once: rename one column")
    hint = suggest(name, names)
    others = [mark for mark in (",", ";", "\t", "|") if len(names) == 1 and mark in names[0]]
    if separator is not None and others:
        hint = f"its header is {shown(names[0])}: set data.delimiter={DELIMITERS[others[0]]}"
    raise UserError(f"{setting}{path.name} has no column {shown(name)}; {hint}")


def _check_header(
    path: Path, columns: Mapping[str, str | int], separator: str, quoting: bool
) -> None:
    guess = guess_columns(path, list(columns), separator, quoting)
    if guess is not None:
        key, column = next(iter(columns.items()))
        remedy = " ".join(f"data.{key}_column={position}" for key, position in guess.items())
        raise UserError(
            f"data.{key}_column: {path.name} has no column {shown(column)}, and its first line "
            f"looks like data, not like a header: set {remedy} (positions, counted from 0)"
        )


def _check_records(path: Path, columns: list[str | int], separator: str, quoting: bool) -> None:
    for _ in delimited_records(path, columns, RowIssues(), separator, quoting):
        return
    raise UserError(f"{path} must hold rows below its header; it has none that can be read")


def _suggest_path(path: Path) -> str:
    """A hint to the path that was probably meant instead of one that doesn't exist."""
    folder = next(parent for parent in path.absolute().parents if os.path.exists(parent))
    if folder != path.absolute().parent or not os.path.isdir(folder):
        return f"the nearest folder that exists is {folder}"
    try:
        names = sorted(name for name in os.listdir(folder) if not name.startswith("."))
    except OSError as error:
        return f"{folder} can't be read ({error.strerror})"
    near = difflib.get_close_matches(path.name, names, n=3, cutoff=0.6)
    return suggest(path.name, near or names[:5]) or f"{folder} is empty"


def _separator(path: Path, dialect: Dialect) -> str | None:
    """The delimiter between fields; None if the file isn't CSV or TSV."""
    if dialect.delimiter is not None and extension(path) in (*_DELIMITERS, *_PLAIN):
        return dialect.delimiter
    return _DELIMITERS.get(extension(path))
