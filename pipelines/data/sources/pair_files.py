"""Users' own files for translation: CSV, TSV, JSON Lines or Parquet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

from models.settings import settings
from pipelines.core.contracts import FieldSpec, RowIssues
from pipelines.core.types import Example
from pipelines.data.sources._column_files import Column, ColumnFiles
from pipelines.data.sources._pairs import PAIR, read_sentences
from pipelines.data.sources.rows import EXTENSIONS, extension


@settings
class PairFiles(ColumnFiles):
    """Each row is a sentence with its translation. Further settings: see ColumnFiles."""

    format: Literal["pair_files"]
    source_column: Column
    target_column: Column

    columns = PAIR

    def read_inputs(
        self, path: Path, fields: Mapping[str, FieldSpec], issues: RowIssues
    ) -> Iterator[Example]:
        if extension(path) not in EXTENSIONS:
            return read_sentences(path, list(fields), issues)
        return super().read_inputs(path, fields, issues)
