"""The base of sources of sentence pairs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pipelines.core.contracts import FieldSpec, RowIssues
from pipelines.core.types import Example
from pipelines.data.sources._row_source import RowSource
from pipelines.data.sources.rows import (
    EXTENSIONS,
    Columns,
    extension,
    read_lines,
    read_rows,
    usable_rows,
)

PAIR = ("source", "target")
"""Columns of a pair: a sentence, and what it is translated to."""


class SentencePairs(RowSource):
    """Each example is a sentence with its translation."""

    columns = PAIR

    def read_inputs(
        self, path: Path, fields: Mapping[str, FieldSpec], issues: RowIssues
    ) -> Iterator[Example]:
        if extension(path) not in EXTENSIONS:
            return read_sentences(path, list(fields), issues)
        columns = {column: column for column in fields}
        return read_rows(path, Columns(columns, fields=fields), issues, by_setting=False)


def read_sentences(path: Path, columns: Sequence[str], issues: RowIssues) -> Iterator[Example]:
    """Reads a text file with any name, such as test.de: one sentence a line."""
    lines = enumerate(((line,) * len(columns) for line in read_lines(path)), 1)
    return usable_rows(lines, Columns({column: column for column in columns}), issues, path.name)
