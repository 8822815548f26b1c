"""What sources of sentence pairs have in common."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pipelines.core.contracts import FieldSpec, RowIssues
from pipelines.core.types import Example
from pipelines.data.sources._row_source import RowSource
from pipelines.data.sources.rows import EXTENSIONS, extension, read_lines, read_rows, usable_rows

PAIR = ("source", "target")
"""Columns of a pair: a sentence, and what it is translated to."""


class Pairs(RowSource):
    """A sentence and its translation an example."""

    columns = PAIR

    def read_inputs(
        self, path: Path, fields: Mapping[str, FieldSpec], issues: RowIssues
    ) -> Iterator[Example]:
        if extension(path) not in EXTENSIONS:
            return sentences(path, list(fields), issues)
        columns = {column: column for column in fields}
        return read_rows(path, columns, issues, by_setting=False, fields=fields)


def sentences(path: Path, given: Sequence[str], issues: RowIssues) -> Iterator[Example]:
    """Of a text file with any name, such as test.de: a sentence a line."""
    lines = enumerate(((line,) * len(given) for line in read_lines(path)), 1)
    return usable_rows(
        lines, {column: column for column in given}, issues, labels=(), where=path.name
    )
