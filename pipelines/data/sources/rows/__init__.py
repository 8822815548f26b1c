"""Rows of files that people bring: CSV, TSV, JSON Lines, Parquet or plain text, whatever they hold.

    columns = Columns({"text": "review", "label": "stars"}, labels={"label"})
    for row in read_rows(path, columns, issues):
        row["text"], row["label"]

Text formats may be compressed (.gz, .bz2, .xz) and must be UTF-8. Memory is bounded.
"""

from pipelines.data.sources.rows.lines import (
    COMPRESSIONS,
    extension,
    read_bytes,
    read_lines,
    unreadable,
)
from pipelines.data.sources.rows.reading import (
    EXTENSIONS,
    Dialect,
    check_columns,
    check_exists,
    check_extra_columns,
    check_file,
    column_names,
    count_rows,
    delimiter_meant,
    read_rows,
)
from pipelines.data.sources.rows.values import (
    Columns,
    FaultError,
    label_text,
    usable_rows,
    usable_text,
)

__all__ = [
    "COMPRESSIONS",
    "EXTENSIONS",
    "Columns",
    "Dialect",
    "FaultError",
    "check_columns",
    "check_exists",
    "check_extra_columns",
    "check_file",
    "column_names",
    "count_rows",
    "delimiter_meant",
    "extension",
    "label_text",
    "read_bytes",
    "read_lines",
    "read_rows",
    "unreadable",
    "usable_rows",
    "usable_text",
]
