"""People's own files for translation: CSV, TSV, JSON Lines or Parquet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

from models.settings import settings
from pipelines.core.contracts import FieldSpec, RowIssues
from pipelines.core.types import Example
from pipelines.data.sources._column_files import Column, ColumnFiles
from pipelines.data.sources._pairs import PAIR, sentences
from pipelines.data.sources.rows import EXTENSIONS, extension


@settings
class PairFiles(ColumnFiles):
    """A sentence and its translation a row. What it shares with other formats: see ColumnFiles."""

    format: Literal["pair_files"]
    source_column: Column
    target_column: Column

    columns = PAIR

    def read_inputs(
        self, path: Path, fields: Mapping[str, FieldSpec], issues: RowIssues
    ) -> Iterator[Example]:
        if extension(path) not in EXTENSIONS:
            return sentences(path, list(fields), issues)
        return super().read_inputs(path, fields, issues)
