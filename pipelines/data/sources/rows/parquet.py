"""Parquet files, read in batches of rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.core.errors import UserError
from pipelines.core.types import Value
from pipelines.data.sources.rows.lines import check_regular, unreadable_error

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

_BATCH = 2048  # rows; long texts make larger batches heavy, and smaller ones aren't faster


def parquet_columns(path: Path) -> list[str]:
    """Names of the top-level columns."""
    with _reading(path):
        file = _open(path)
        if not file.metadata.num_rows:
            raise UserError(f"{path} must hold rows; it has none")
        return file.schema_arrow.names


def parquet_rows(path: Path) -> int:
    with _reading(path):
        return _open(path).metadata.num_rows


def parquet_records(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, Sequence[Value]]]:
    """The row's number, from 1, and its values in the order of `columns`; None for null."""
    number = 0
    with _reading(path):
        file = _open(path)
        for batch in file.iter_batches(_BATCH, columns=list(dict.fromkeys(columns))):
            lists = [_values(batch.column(name)) for name in columns]
            yield from enumerate(zip(*lists, strict=True), number + 1)
            number += len(batch)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turns whatever a damaged file leads pyarrow to into a UserError."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise unreadable_error(path, error) from None


def _open(path: Path) -> pq.ParquetFile:
    import pyarrow.parquet as pq

    check_regular(path)
    return pq.ParquetFile(path, memory_map=True)


def _values(column: pa.Array) -> list[Value]:
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        # Several times as fast as to_pylist, and as exact: strings and None.
        return column.to_numpy(zero_copy_only=False).tolist()
    return column.to_pylist()
