"""Arrow files: written in a stream, read through memory maps. Any Arrow reader can open them."""

from __future__ import annotations

import mmap
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from pipelines.core.contracts import FileBytes
from pipelines.core.errors import UserError, shown
from pipelines.core.types import Example, Value

FILE = ("bytes", "name")
"""The Arrow type in which FileBytes are written."""


class ArrowWriter:
    """Record batches to an Arrow file; the first one fixes the types. A context manager."""

    def __init__(self, path: Path):
        self._file = open(path, "wb")  # noqa: SIM115 - closed by __exit__
        self._writer: pa.RecordBatchFileWriter | None = None
        self.rows = 0

    def write(self, batch: pa.RecordBatch) -> None:
        if self._writer is None:
            self._writer = pa.ipc.new_file(self._file, batch.schema)
        self._writer.write_batch(batch)
        self.rows += batch.num_rows

    def __enter__(self) -> ArrowWriter:
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        # After an error the footer would hide that rows are missing.
        try:
            if self._writer is not None and error is None:
                self._writer.close()
        finally:
            self._file.close()


MOST_RESIDENT = 64_000_000
"""Bytes of a mapped file that were read and still count as the process's memory, about."""


APART = 16 * mmap.PAGESIZE
"""Bytes that reading a value which lies apart from others maps: the system reads around it."""


class ArrowFile:
    """A memory-mapped Arrow file."""

    def __init__(self, path: Path):
        with path.open("rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._read = 0
        self.buffer = pa.py_buffer(self._map)
        reader = pa.ipc.open_file(pa.BufferReader(self.buffer))
        self.batches = [reader.get_batch(i) for i in range(reader.num_record_batches)]
        rows = [batch.num_rows for batch in self.batches]
        self.starts = np.concatenate([[0], np.cumsum(rows)]).astype(np.int64)

    def __len__(self) -> int:
        return int(self.starts[-1])

    def take(self, rows: np.ndarray, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """The rows, given in ascending order, a record batch of each batch that has any."""
        cuts = np.searchsorted(rows, self.starts)
        for k in np.flatnonzero(cuts[1:] > cuts[:-1]):
            places = pa.array(rows[cuts[k] : cuts[k + 1]] - self.starts[k])
            yield self.batches[k].select(columns).take(places)
            self.has_read(self.batches[k].nbytes)

    def has_read(self, size: int) -> None:
        """Counts bytes that were read; now and then the process lets go of their pages.

        The system keeps them as long as it has room, so that reading them again costs little.
        """
        self._read += size
        if self._read > MOST_RESIDENT and hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)
            self._read = 0

    def scalars(self, name: str) -> np.ndarray:
        """(N,) a column of numbers."""
        return np.concatenate([batch.column(name).to_numpy() for batch in self.batches])


def _size(value: Value) -> int:
    """Bytes of a value, about."""
    if isinstance(value, str | bytes):
        return len(value)
    if isinstance(value, np.ndarray):
        return value.nbytes
    return sum(map(_size, value)) if isinstance(value, list | tuple) else 8


class RawWriter:
    """Writes examples to an Arrow file, in batches of a few thousand rows or a few megabytes.

    Of files, only the names are written if they are `kept` elsewhere.
    """

    ROWS, BYTES = 4096, 4_000_000

    def __init__(self, writer: ArrowWriter, columns: Sequence[str], *, kept: bool = False):
        self._writer = writer
        self._kept = kept
        self._types: dict[str, pa.DataType] = {}
        self._values: dict[str, list[Value]] = {name: [] for name in columns}
        self._rows = self._bytes = 0

    def add(self, example: Example) -> None:
        for name, values in self._values.items():
            value = example[name]
            values.append(value)
            self._bytes += _size(value)
        self._rows += 1
        if self._rows >= self.ROWS or self._bytes >= self.BYTES:
            self.flush()

    def flush(self) -> None:
        if self._rows:
            arrays = {name: self._array(name, values) for name, values in self._values.items()}
            self._writer.write(pa.RecordBatch.from_pydict(arrays))
            self._values = {name: [] for name in self._values}
            self._rows = self._bytes = 0

    def _array(self, name: str, values: list[Value]) -> pa.Array:
        try:
            if isinstance(values[0], list | tuple | np.ndarray):
                array = _sequences(name, values)
            elif isinstance(values[0], FileBytes):
                contents = [None if self._kept else value for value in values]
                names = [value.name for value in values]
                parts = [pa.array(contents, pa.binary()), pa.array(names)]
                array = pa.StructArray.from_arrays(parts, FILE)
            else:
                array = pa.array(values, self._types.get(name))
        except (pa.ArrowInvalid, pa.ArrowTypeError, UnicodeEncodeError, TypeError) as error:
            raise UserError(
                f"column {shown(name)} holds values of different kinds, or broken text: {error}"
            ) from error
        if self._types.setdefault(name, array.type) != array.type:
            raise UserError(
                f"column {shown(name)} holds values of different kinds: {self._types[name]} and "
                f"{array.type}"
            )
        if array.null_count:
            raise UserError(f"column {shown(name)} holds {array.null_count} empty values")
        return array


def _sequences(name: str, values: Sequence[Value]) -> pa.Array:
    """Lists of text or numbers (T,), or series of numbers (T, D), one a row, as Arrow lists.

    UserError for an empty one, and for steps of different widths.
    """
    arrays = [np.asarray(value) for value in values]
    if any(len(value) == 0 for value in arrays):
        raise UserError(
            f"column {shown(name)} holds an empty list: each must have at least one step"
        )
    widths = {value.shape[1:] for value in arrays}
    if len(widths) > 1 or any(value.dtype.kind == "O" for value in arrays):
        raise UserError(
            f"column {shown(name)} must hold lists of text or numbers, or series whose steps have "
            f"all the same width; received {' and '.join(map(str, sorted(widths)))}"
        )
    flat = np.concatenate(arrays)
    steps = pa.array(flat.reshape(-1).tolist() if flat.dtype.kind in "SU" else _wide(flat).ravel())
    for width in flat.shape[:0:-1]:
        steps = pa.FixedSizeListArray.from_arrays(steps, width)
    ends = np.cumsum([0, *map(len, arrays)], dtype=np.int32)
    return pa.ListArray.from_arrays(pa.array(ends), steps)


def _wide(numbers: np.ndarray) -> np.ndarray:
    """The type widened to int64 or float64, so that all rows of a column have one type."""
    return numbers.astype(np.int64 if numbers.dtype.kind in "iub" else np.float64)


class RawFile(ArrowFile):
    """The rows that RawWriter wrote. folder: of the files of which only names were written."""

    def __init__(self, path: Path, folder: Path | None):
        super().__init__(path)
        self._folder = folder

    def at(self, row: int) -> Example:
        k = bisect_right(self.starts, row) - 1
        row_batch = self.batches[k].slice(row - int(self.starts[k]), 1)
        self.has_read(row_batch.num_columns * APART)
        return {name: self.values(row_batch.column(name))[0] for name in row_batch.schema.names}

    def holds_text(self, name: str) -> bool:
        """Whether a column has texts, or lists of texts."""
        kind = self.batches[0].schema.field(name).type
        return pa.types.is_string(kind.value_type if pa.types.is_list(kind) else kind)

    def values(self, column: pa.Array) -> list[Value]:
        """The values that RawWriter wrote. UserError if a file isn't there any more."""
        if not pa.types.is_struct(column.type):
            return column.to_pylist()
        contents, names = (column.field(part).to_pylist() for part in FILE)
        return [
            FileBytes(self._content(name) if content is None else content, name)
            for content, name in zip(contents, names, strict=True)
        ]

    def _content(self, name: str) -> bytes:
        if self._folder is None:
            raise ValueError("of files whose bytes weren't written, the folder must be given")
        try:
            return (self._folder / name).read_bytes()
        except OSError as error:
            raise UserError(
                f"{self._folder / name} must stay where it was when the data was prepared; it "
                f"can't be read ({error.strerror or error}): bring it back"
            ) from None
