"""Sequences and answers of synthetic tasks: numbers or symbols, written as text.

Steps are separated by spaces, the numbers of a step by commas: "0.31,0 0.5,1" has two steps of two
numbers. Where every step of the training data is one whole number, written without a dot, the
numbers are symbols: 0, 1, 2, ... without any order.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import Field

from pipelines.core.contracts import FieldCodec, FieldSpec
from pipelines.core.errors import UserError, shown
from pipelines.core.saved_files import typed
from pipelines.core.types import JsonObject, RawColumn, Value

if TYPE_CHECKING:
    import tensorflow as tf

MAX_SYMBOLS = 1000
"""Larger numbers are hardly symbols."""

MAX_WIDTH = 100_000
"""Most numbers of a step."""


@dataclass(frozen=True)
class _State:
    symbols: Annotated[int, Field(ge=1, le=MAX_SYMBOLS)] | None
    width: Annotated[int, Field(ge=1, le=MAX_WIDTH)]


class _NumberTextCodec(FieldCodec):
    """The base of both codecs. symbols: how many there are, or None for numbers."""

    def __init__(self, column: str):
        self.column = column
        self.symbols: int | None = None
        self.width = 0

    def _parse_steps(self, text: str) -> list[list[str]]:
        return [step.split(",") for step in text.split()]

    def fit(self, batches: Iterable[Sequence[Value]]) -> None:
        """UserError for what is no number, or steps of different widths."""
        whole, largest, widths = True, -1, set()
        for batch in batches:
            for text in batch:
                steps = self._parse_steps(str(text))
                widths |= self._widths(steps)
                if not steps or len(widths) > 1:
                    raise UserError(
                        f"column {self.column!r} must have equally many numbers everywhere, and "
                        f"at least one; received {shown(str(text))}"
                    )
                whole = whole and all(len(step) == 1 and step[0].isdecimal() for step in steps)
                if whole:
                    largest = max(largest, *(int(step[0]) for step in steps))
                else:
                    self._check_numbers(steps)
        if not widths:
            raise UserError(f"column {self.column!r} has no values to learn from")
        self.width = widths.pop()
        self.symbols = largest + 1 if whole and largest < MAX_SYMBOLS else None

    def _widths(self, steps: list[list[str]]) -> set[int]:
        return {len(step) for step in steps}

    def _check_numbers(self, steps: list[list[str]]) -> None:
        try:
            [float(number) for step in steps for number in step]
        except ValueError as error:
            raise UserError(f"column {self.column!r} must hold numbers: {error}") from None

    def state(self) -> JsonObject:
        return {"column": self.column, "symbols": self.symbols, "width": self.width}

    def restore(self, state: JsonObject) -> None:
        saved = typed(_State, state)
        self.symbols, self.width = saved.symbols, saved.width

    def summary(self) -> JsonObject:
        return {"symbols": self.symbols} if self.symbols else {"numbers_per_step": self.width}


class SequenceCodec(_NumberTextCodec):
    """A sequence of steps as (T, D) float32; symbols are one-hot."""

    def encode(self, values: RawColumn) -> tf.RaggedTensor:
        """(B,) text to ragged (B, T, D). A symbol unknown in training is all 0."""
        import tensorflow as tf

        steps = tf.strings.split(values)
        if self.symbols is not None:
            ids = tf.strings.to_number(steps.flat_values, tf.int32)
            rows = tf.one_hot(ids, self.symbols)
        else:
            numbers = tf.strings.split(steps.flat_values, ",").to_tensor("0")
            rows = tf.strings.to_number(numbers)[:, : self.width]
            rows = tf.pad(rows, [[0, 0], [0, self.width - tf.shape(rows)[1]]])
            rows = tf.ensure_shape(rows, [None, self.width])
        return steps.with_values(rows)

    def decode(self, numbers: np.ndarray) -> list[int] | list[list[float]]:
        """Symbols, or lists of numbers."""
        return numbers.argmax(-1).tolist() if self.symbols else numbers.tolist()

    @property
    def field(self) -> FieldSpec:
        return FieldSpec(shape=(None, self.symbols or self.width), dtype="float32")

    @property
    def size(self) -> None:
        return None


class AnswerCodec(_NumberTextCodec):
    """The K answers of a sequence, equally many for all: (K,) int32 symbols or float32 numbers."""

    def _widths(self, steps: list[list[str]]) -> set[int]:
        return {len(steps)}

    def encode(self, values: RawColumn) -> tf.Tensor:
        import tensorflow as tf

        kind = tf.float32 if self.symbols is None else tf.int32
        numbers = tf.strings.to_number(tf.strings.split(values).to_tensor("0"), kind)
        return tf.ensure_shape(numbers, [None, self.width])

    def check(self, raw: Sequence[Value], encoded: np.ndarray) -> None:
        if self.symbols is not None and (encoded >= self.symbols).any():
            raise UserError(f"column {self.column!r} has answers that do not occur in training")

    def decode(self, numbers: np.ndarray) -> list[int] | list[float]:
        return numbers.tolist()

    @property
    def field(self) -> FieldSpec:
        dtype = "float32" if self.symbols is None else "int32"
        return FieldSpec(shape=(self.width,), dtype=dtype)

    @property
    def size(self) -> int | None:
        return self.symbols
