"""Rows of users' files: CSV, TSV, JSON Lines, Parquet or plain text, with any content.

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
    unreadable_error,
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
    read_rows,
    resolve_delimiter,
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
    "extension",
    "label_text",
    "read_bytes",
    "read_lines",
    "read_rows",
    "resolve_delimiter",
    "unreadable_error",
    "usable_rows",
    "usable_text",
]
