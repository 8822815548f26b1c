"""Users' own files for text classification: CSV, TSV, JSON Lines or Parquet."""

from __future__ import annotations

from typing import Literal

from models.settings import settings
from pipelines.data.sources._column_files import Column, ColumnFiles


@settings
class TextFiles(ColumnFiles):
    """Each row is a text with its label. Further settings: see ColumnFiles."""

    format: Literal["text_files"]
    text_column: Column
    label_column: Column

    columns = ("text", "label")
    labels = ("label",)
