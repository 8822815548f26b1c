"""Raw rows to encoded rows: fits a codec on the training rows, then encodes all in one pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from pipelines.core.contracts import Codec, FieldCodec, Spec
from pipelines.core.errors import UserError
from pipelines.core.types import Value
from pipelines.data.arrow import ArrowWriter, RawFile
from pipelines.data.division import DROPPED, PARTS
from pipelines.data.splits import ROW, arrow_column, numbers_in, stored_dtype
from pipelines.runs.parallel import map_in_order

if TYPE_CHECKING:
    import tensorflow as tf

LARGEST = 64_000_000
"""Bytes of fields without time, such as images, that are encoded together."""

STEPS = 1_000
"""Steps that a sequence with several numbers a step, such as a series, is taken to have."""

Advance = Callable[[int], None]


def training_values(
    raw: RawFile,
    split: np.ndarray,
    columns: Sequence[str],
    advance: Advance,
    select: Callable[[Value], Value] | None = None,
) -> Iterator[list[Value]]:
    """Training values of the raw columns, in batches; `select` picks the part to learn from."""
    for batch in raw.take(np.flatnonzero(split == 0), columns):
        for column in columns:
            values = raw.values(batch.column(column))
            yield values if select is None else list(map(select, values))
        advance(batch.num_rows)


def encode(
    raw: RawFile, split: np.ndarray, codec: Codec, directory: Path, advance: Advance
) -> None:
    """Writes <split>.arrow for every split that has rows; `split` (N,) as in Division.

    Several threads encode, one writes, in the order of the rows.
    """
    used_rows = np.flatnonzero(split != DROPPED).astype(
        np.int32 if len(split) < 2**31 else np.int64
    )
    encoder = _Encoder(codec, raw, split)
    most = max(1, LARGEST // _bytes_per_example(codec.spec))
    batches = _batches(raw, used_rows, encoder.columns, most)
    writers: dict[int, ArrowWriter] = {}
    with ExitStack() as stack:
        for rows, encoded in map_in_order(encoder, batches):
            of_row = split[rows]
            for part in np.unique(of_row):
                if part not in writers:
                    path = directory / f"{PARTS[part]}.arrow"
                    writers[part] = stack.enter_context(ArrowWriter(path))
                writers[part].write(encoded.take(pa.array(np.flatnonzero(of_row == part))))
            advance(len(rows))


def _batches(
    raw: RawFile, rows: np.ndarray, columns: Sequence[str], most: int
) -> Iterator[tuple[np.ndarray, pa.RecordBatch]]:
    """The rows' numbers and columns, in pieces of at most `most` rows."""
    offset = 0
    for batch in raw.take(rows, columns):
        for start in range(0, batch.num_rows, most):
            piece = batch.slice(start, most)
            yield rows[offset : offset + piece.num_rows], piece
            offset += piece.num_rows


def _bytes_per_example(spec: Spec) -> int:
    """About what an example's encoded fields take; at least 1. Sequences of ids hardly count."""
    total = 0
    for field in spec.fields.values():
        width = numbers_in(field)
        steps = 1 if not field.is_sequence else STEPS if width > 1 else 0
        total += steps * width * np.dtype(field.dtype).itemsize
    return max(1, total)


class _Encoder:
    """Calls are independent of each other, so several threads may make them."""

    def __init__(self, codec: Codec, raw: RawFile, split: np.ndarray):
        import tensorflow as tf

        self.codec = codec
        self.raw = raw
        self.spec = codec.spec
        self.split = split
        self.columns = sorted({field.column for field in codec.fields.values()})
        signature = {}
        for name in self.columns:
            one = self._tensor(raw.batches[0].column(name).slice(0, 1))
            signature[name] = (
                tf.RaggedTensorSpec([None, None, *one.shape[2:]], one.dtype, ragged_rank=1)
                if isinstance(one, tf.RaggedTensor)
                else tf.TensorSpec([None], one.dtype)
            )
        graph = tf.function(codec.encode, input_signature=[signature], autograph=False)
        # Traced here: concurrent threads would each trace it.
        self.graph = graph.get_concrete_function()

    def __call__(
        self, batch: tuple[np.ndarray, pa.RecordBatch]
    ) -> tuple[np.ndarray, pa.RecordBatch]:
        rows, raw = batch
        encoded = self.graph({name: self._tensor(raw.column(name)) for name in self.columns})
        arrays = {ROW: pa.array(rows)}
        for name, field in self.spec.fields.items():
            dtype = stored_dtype(field, self.spec.sizes.get(name))
            if field.is_sequence:
                flat, lengths = encoded[name].flat_values.numpy(), encoded[name].row_lengths()
                arrays[name] = arrow_column(field, dtype, flat, lengths.numpy())
            else:
                values = encoded[name].numpy()
                self._check(name, raw, values, rows)
                arrays[name] = arrow_column(field, dtype, values, None)
        return rows, pa.RecordBatch.from_pydict(arrays)

    def _check(self, name: str, raw: pa.RecordBatch, values: np.ndarray, rows: np.ndarray) -> None:
        field = self.codec.fields[name]
        if type(field).check is FieldCodec.check:  # which asks for nothing
            return
        column, of_row = raw.column(field.column), self.split[rows]
        for part in np.unique(of_row):
            here = np.flatnonzero(of_row == part)
            try:
                field.check(self.raw.values(column.take(pa.array(here))), values[here])
            except UserError as error:
                raise UserError(f"in the {PARTS[part]} split: {error}") from error

    def _tensor(self, column: pa.Array) -> tf.Tensor | tf.RaggedTensor:
        """(B,) of scalars; ragged (B, T, ...) of lists and series."""
        import tensorflow as tf

        kind = column.type
        if pa.types.is_list(kind):
            lengths = np.diff(column.offsets.to_numpy()).astype(np.int64)
            return tf.RaggedTensor.from_row_lengths(self._steps(column.flatten()), lengths)
        if pa.types.is_string(kind) or pa.types.is_binary(kind) or pa.types.is_struct(kind):
            return tf.constant(self.raw.values(column), tf.string, shape=[len(column)])
        return tf.constant(column.to_numpy(zero_copy_only=False))

    def _steps(self, values: pa.Array) -> tf.Tensor:
        """(steps, ...) from the values of lists, which may be lists of fixed size again."""
        import tensorflow as tf

        widths: list[int] = []
        while pa.types.is_fixed_size_list(values.type):
            widths.append(values.type.list_size)
            values = values.flatten()
        if pa.types.is_string(values.type):
            return tf.constant(values.to_pylist(), tf.string, shape=[len(values)])
        return tf.reshape(tf.constant(values.to_numpy(zero_copy_only=False)), [-1, *widths])
