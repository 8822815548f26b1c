"""Class labels <-> class numbers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import Field, NonNegativeInt

from pipelines.core.contracts import FieldCodec, FieldSpec
from pipelines.core.errors import UserError, shown
from pipelines.core.saved_files import typed
from pipelines.core.types import JsonObject, RawColumn, Value

if TYPE_CHECKING:
    import tensorflow as tf

MAX_CLASSES = 1000
"""A column with more different values hardly holds labels."""


@dataclass(frozen=True)
class _State:
    names: Annotated[list[str], Field(min_length=2, max_length=MAX_CLASSES)]
    counts: list[NonNegativeInt]


class LabelCodec(FieldCodec):
    """A label's number is its position among the sorted labels; an unknown label has -1.

    Labels are sorted by value if all are integers, else as text.
    """

    def __init__(self, column: str):
        self.column = column
        self.names: tuple[str, ...] = ()
        self.counts: tuple[int, ...] = ()

    def fit(self, batches: Iterable[Sequence[Value]]) -> None:
        """UserError unless there are 2 to MAX_CLASSES labels, and fewer labels than rows."""
        counts: Counter[str] = Counter()
        for batch in batches:
            counts.update(map(str, batch))
            if len(counts) > MAX_CLASSES:
                break
        self._check_counts(counts)
        integers = all(re.fullmatch(r"[+-]?\d+", name) for name in counts)
        self.names = tuple(sorted(counts, key=(lambda n: (int(n), n)) if integers else None))
        self.counts = tuple(counts[name] for name in self.names)

    def _check_counts(self, counts: Counter[str]) -> None:
        examples = ", ".join(shown(name) for name in list(counts)[:5])
        if len(counts) < 2:
            raise UserError(
                f"a classifier needs at least two classes; column {self.column!r} has only "
                f"{examples or 'none'}: is it the right label column?"
            )
        if len(counts) > MAX_CLASSES or (len(counts) > 2 and len(counts) == counts.total()):
            raise UserError(
                f"column {self.column!r} has {len(counts):,} different labels among the first "
                f"{counts.total():,} rows ({examples}, ...): is it the right label column? Numbers "
                "to be estimated are no classes"
            )

    def encode(self, values: RawColumn) -> tf.Tensor:
        """(B,) text or integers to (B,) int32."""
        import tensorflow as tf

        if values.dtype != tf.string:
            values = tf.strings.as_string(values)
        # Comparing with each class needs no table, which a SavedModel would have to track.
        same = tf.equal(values[:, None], tf.constant(self.names)[None, :])
        found = tf.argmax(same, axis=1, output_type=tf.int32)
        return tf.where(tf.reduce_any(same, axis=1), found, -1)

    def check(self, raw: Sequence[Value], encoded: np.ndarray) -> None:
        unknown = np.flatnonzero(np.asarray(encoded) < 0)
        if len(unknown):
            examples = ", ".join(shown(name) for name in self.names[:10])
            raise UserError(
                f"label {shown(str(raw[unknown[0]]))} of column {self.column!r} does not occur in "
                f"training; the classes are {examples}{', ...' if len(self.names) > 10 else ''}"
            )

    def decode(self, numbers: np.ndarray) -> str:
        return self.names[int(numbers)]

    @property
    def field(self) -> FieldSpec:
        return FieldSpec(shape=(), dtype="int32")

    @property
    def size(self) -> int:
        return len(self.names)

    def state(self) -> JsonObject:
        return {"column": self.column, "names": list(self.names), "counts": list(self.counts)}

    def restore(self, state: JsonObject) -> None:
        saved = typed(_State, state)
        if not len(saved.names) == len(set(saved.names)) == len(saved.counts):
            raise ValueError("each name must be there once, with its count")
        self.names, self.counts = tuple(saved.names), tuple(saved.counts)

    def summary(self) -> JsonObject:
        """classes: training examples by label."""
        return {"classes": dict(zip(self.names, self.counts, strict=True))}
