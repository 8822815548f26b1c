"""Sentences out of files with a word a line, in columns: CoNLL's shared tasks and CoNLL-U."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from pipelines.core.contracts import RowIssues
from pipelines.core.errors import UserError, shown
from pipelines.data.sources.rows import FaultError, read_lines, usable_text

CONLLU = ("id", "form", "lemma", "upos", "xpos", "feats", "head", "deprel", "deps", "misc")
"""The columns of CoNLL-U by name (universaldependencies.org/format.html)."""

DOCSTART = "-DOCSTART-"
"""The word of lines that begin a document, which are no sentence."""

LOOKED_AT = 2000
"""Lines at the start of a file that say how it is written."""


class LineFormat(NamedTuple):
    """How a file writes words.

    columns  of most lines.
    tabs     whether columns are separated by tabs alone; else by any white space.
    conllu   whether it is CoNLL-U: comments, and lines that are no words of their own.
    """

    columns: int
    tabs: bool
    conllu: bool


class Token(NamedTuple):
    """A line's number, from 1, and its columns."""

    line: int
    columns: list[str]


def find_format(path: Path) -> LineFormat:
    """How the file is written, by its first lines; UserError if it has none."""
    lines = [line for line in islice(read_lines(path), LOOKED_AT) if line.strip()]
    words = [line for line in lines if not line.startswith("#")]
    if not words:
        holds = "only comments" if lines else "nothing"
        raise UserError(f"{path} must hold a word a line; it holds {holds}")
    tabs = sum("\t" in line for line in words) > len(words) / 2
    widths = [len(_split(line, tabs)) for line in words]
    width = max(set(widths), key=widths.count)
    first = [_split(line, tabs)[0] for line in words]
    numbered = all(part.replace("-", "").replace(".", "").isdigit() for part in first)
    return LineFormat(width, tabs, conllu=width == len(CONLLU) and numbered)


def resolve_column(
    setting: str, column: str | int | None, default: int, form: LineFormat, path: Path
) -> int:
    """The column's number, from 0; UserError if the file has no such column."""
    if column is None:
        return default
    if isinstance(column, str) and form.conllu and column.lower() in CONLLU:
        return CONLLU.index(column.lower())
    names = f" or one of {', '.join(CONLLU)}" if form.conllu else ""
    if isinstance(column, str) or column >= form.columns:
        raise UserError(
            f"{setting} must be a number from 0 to {form.columns - 1}{names}, since {path.name} "
            f"has {form.columns} columns; received {shown(column)}"
        )
    return column


def read_sentences(
    path: Path, form: LineFormat, columns: Sequence[int], issues: RowIssues
) -> Iterator[tuple[int, list[tuple[str, ...]]]]:
    """Each sentence's first line, from 1, and the values of the columns for each of its words.

    A sentence with a line that lacks a column is added to `issues`.
    """
    sentence: list[Token] = []
    for number, line in enumerate(read_lines(path), 1):
        if not line.strip():  # also a line of spaces, as some editors leave
            yield from _finish(path, sentence, columns, issues)
            sentence = []
            continue
        parts = _split(line, form.tabs)
        if _is_comment(line, parts, sentence, form):
            continue
        if form.conllu and not parts[0].isdigit():
            continue  # a range such as 1-2, whose words follow, or an empty node such as 1.1
        sentence.append(Token(number, parts))
    yield from _finish(path, sentence, columns, issues)


def _split(line: str, tabs: bool) -> list[str]:
    # A line without a tab among lines with tabs is written with spaces.
    return [part.strip() for part in line.split("\t")] if tabs and "\t" in line else line.split()


def _is_comment(line: str, parts: list[str], sentence: list[Token], form: LineFormat) -> bool:
    """A comment stands before a sentence; elsewhere, or with all columns, # is a word."""
    if not line.startswith("#"):
        return False
    return form.conllu or (not sentence and len(parts) != form.columns)


def _finish(
    path: Path, sentence: list[Token], columns: Sequence[int], issues: RowIssues
) -> Iterator[tuple[int, list[tuple[str, ...]]]]:
    if not sentence or sentence[0].columns[0] == DOCSTART:
        return
    most = max(columns)
    for token in sentence:
        if len(token.columns) <= most:
            issues.add(f"{path.name}:{token.line}", f"the line has no column {most}")
            return
        try:
            for column in columns:
                usable_text(token.columns[column])
        except FaultError as error:
            issues.add(f"{path.name}:{token.line}", f"column {column} {error}")
            return
    words = [tuple(token.columns[column] for column in columns) for token in sentence]
    yield sentence[0].line, words
