"""Encoded rows in Arrow files, and the raw ones they were made of.

An encoded file has one column a field (lists for fields with time) and `row`, the number of the
row in the raw file. Ids are uint16 where the vocabulary allows. Any Arrow reader can open both.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa

from pipelines.core.contracts import FieldSpec, Spec, Split
from pipelines.core.types import Example, Value
from pipelines.data.arrow import APART, ArrowFile, RawFile

ROW = "row"


def stored_dtype(field: FieldSpec, size: int | None) -> np.dtype:
    if field.is_sequence and field.dtype == "int32" and size is not None and size <= 2**16:
        return np.dtype(np.uint16)
    return np.dtype(field.dtype)


def arrow_column(
    field: FieldSpec, dtype: np.dtype, values: np.ndarray, lengths: np.ndarray | None
) -> pa.Array:
    """An encoded batch as Arrow.

    values (sum of lengths, ...) laid end to end, or (B, ...) where there are no lengths (B,).
    """
    width = numbers_in(field)
    array = pa.array(np.ascontiguousarray(values, dtype).reshape(-1))
    if width != 1:
        array = pa.FixedSizeListArray.from_arrays(array, width)
    if lengths is None:
        return array
    offsets = np.zeros(len(lengths) + 1, np.int32)
    np.cumsum(lengths, out=offsets[1:])
    return pa.ListArray.from_arrays(pa.array(offsets), array)


class ArrowSplit(Split):
    """Rows are read from the map by address: the whole file is one flat array of numbers."""

    def __init__(self, name: str, path: Path, raw: RawFile, spec: Spec):
        self.name = name
        self._file = ArrowFile(path)
        self._raw = raw
        self._fields = spec.fields
        self._dtypes = {f: stored_dtype(x, spec.sizes.get(f)) for f, x in spec.fields.items()}
        self._places: dict[str, tuple[np.ndarray, np.ndarray]] = {}

    def with_name(self, name: str) -> ArrowSplit:
        """The same rows under another name."""
        split = copy.copy(self)
        split.name = name
        return split

    def __len__(self) -> int:
        return len(self._file)

    @cached_property
    def rows(self) -> np.ndarray:
        """(N,) the rows' numbers in the raw file, ascending."""
        return self._file.scalars(ROW)

    def lengths(self) -> np.ndarray:
        sequences = [name for name, field in self._fields.items() if field.is_sequence]
        columns = [self._place(name)[1] for name in sequences]
        return np.stack(columns, axis=1) if columns else np.zeros((len(self), 0), np.int32)

    def gather(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        return self.gather_stretches(np.asarray(rows), {})

    def gather_stretches(
        self, rows: np.ndarray, stretches: Mapping[str, tuple[np.ndarray, np.ndarray]]
    ) -> dict[str, np.ndarray]:
        """Like `gather`; fields in `stretches` only from step (B,) to step (B,), counted from 0."""
        columns: dict[str, np.ndarray] = {}
        for name, field in self._fields.items():
            if field.is_sequence:
                starts, lengths = (place[rows] for place in self._place(name))
                if name in stretches:
                    first, last = stretches[name]
                    starts = starts + first * numbers_in(field)
                    lengths = (last - first).astype(np.int32)
                columns[name] = self._read_sequences(name, starts, lengths)
                columns[f"{name}_length"] = lengths
            else:
                columns[name] = self._read_fixed_size(name, rows)
        size = sum(values.nbytes for values in columns.values())
        self._file.has_read(size + len(columns) * len(rows) * APART)
        return columns

    def column(self, name: str) -> np.ndarray:
        return self._read_fixed_size(name, np.arange(len(self)))

    def examples(self, rows: Sequence[int]) -> list[Example]:
        return [self._raw.at(int(self.rows[row])) for row in rows]

    def raw(self, column: str) -> Iterator[list[Value]]:
        for batch in self._raw.take(self.rows, [column]):
            yield self._raw.values(batch.column(column))

    def _read_sequences(self, name: str, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """(B, T, ...): `lengths` steps of each row, from `starts` in the flat view, padded by 0."""
        field = self._fields[name]
        longest, width = int(lengths.max(initial=0)), numbers_in(field)
        flat = self._flat(name)
        index = starts[:, None] + np.arange(longest * width)
        # Values behind a short row belong to the next, and are zeroed; the last row ends the file.
        np.minimum(index, len(flat) - 1, out=index)
        values = flat[index].astype(field.dtype, copy=False)
        values = values.reshape(len(starts), longest, *field.shape[1:])
        values[np.arange(longest) >= lengths[:, None]] = 0
        return values

    def _read_fixed_size(self, name: str, rows: np.ndarray) -> np.ndarray:
        field = self._fields[name]
        starts, _ = self._place(name)
        flat, width = self._flat(name), numbers_in(field)
        if width == 1:
            values = flat[starts[rows]]
        else:
            values = np.lib.stride_tricks.sliding_window_view(flat, width)[starts[rows]]
        return values.reshape(len(rows), *field.shape)

    def _flat(self, name: str) -> np.ndarray:
        dtype = self._dtypes[name]
        buffer = self._file.buffer
        return np.frombuffer(buffer, dtype, count=buffer.size // dtype.itemsize)

    def _place(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """(N,) int64 where rows start in the flat view; (N,) int32 their lengths, (0,) if fixed."""
        if name not in self._places:
            width, item = numbers_in(self._fields[name]), self._dtypes[name].itemsize
            starts, lengths = [], [np.zeros(0, np.int32)]
            for batch in self._file.batches:
                values = batch.column(name)
                offsets = np.arange(len(values), dtype=np.int64)
                if self._fields[name].is_sequence:
                    ends = values.offsets.to_numpy()
                    offsets = ends[:-1].astype(np.int64)
                    lengths.append(np.diff(ends))
                    values = values.values
                address = values.buffers()[-1].address - self._file.buffer.address
                starts.append(address // item + offsets * width)
            self._places[name] = np.concatenate(starts), np.concatenate(lengths)
        return self._places[name]


def open_splits(
    directory: Path, names: Sequence[str], spec: Spec, folder: Path | None = None
) -> Mapping[str, ArrowSplit]:
    """The splits that `prepare` wrote in a directory: <name>.arrow next to raw.arrow.

    folder  as of RawFile.
    """
    raw = RawFile(directory / "raw.arrow", folder)
    return {name: ArrowSplit(name, directory / f"{name}.arrow", raw, spec) for name in names}


def numbers_in(field: FieldSpec) -> int:
    """Numbers per example, or per time step."""
    inner = field.shape[1:] if field.is_sequence else field.shape
    return math.prod(size for size in inner if size is not None)
