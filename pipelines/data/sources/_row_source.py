"""The base of sources whose inputs for prediction are files of rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from pipelines.core.contracts import FieldSpec, RowIssues, Source
from pipelines.core.types import Example
from pipelines.data.sources.rows import Columns, count_rows, read_rows


class RowSource(Source):
    """Inputs to predict for are rows of CSV, TSV, JSON Lines or Parquet, columns by their names."""

    def read_inputs(
        self, path: Path, fields: Mapping[str, FieldSpec], issues: RowIssues
    ) -> Iterator[Example]:
        return read_rows(
            path, Columns({column: column for column in fields}, fields=fields), issues
        )

    def count_inputs(self, path: Path) -> int | None:
        return count_rows(path)
