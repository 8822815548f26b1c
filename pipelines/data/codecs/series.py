"""Numbers and series of numbers, standardised by their mean and deviation in training.

A value x becomes (x - mean) / deviation, as with scikit-learn's StandardScaler. Both moments are
taken in float64 over all training values; the deviation divides by their number n, not by n - 1.
A channel that is constant in training becomes 0 there: its deviation counts as 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, TypeVar

import numpy as np
from pydantic import Field, FiniteFloat

from pipelines.core.contracts import FieldCodec, FieldSpec
from pipelines.core.errors import UserError
from pipelines.core.saved_files import typed
from pipelines.core.types import JsonObject, RawColumn, Value

if TYPE_CHECKING:
    import tensorflow as tf

Numbers = TypeVar("Numbers", "np.ndarray", "tf.Tensor")


class Moments:
    """Mean and variance by channel, of values that come in batches (Chan et al. 1983, eq. 2.1)."""

    def __init__(self, width: int):
        self.count = 0
        self.mean = np.zeros(width)
        self._squares = np.zeros(width)
        self._low, self._high = np.full(width, np.inf), np.full(width, -np.inf)

    def add(self, values: np.ndarray) -> None:
        """Values (N, D) float64, with N at least 1."""
        count = self.count + len(values)
        mean = values.mean(0)
        apart = mean - self.mean
        # The squares of both parts about their own means, and those of the means about each other.
        self._squares += ((values - mean) ** 2).sum(0)
        self._squares += apart**2 * self.count * len(values) / count
        self.mean += apart * len(values) / count
        self.count = count
        self._low = np.minimum(self._low, values.min(0))
        self._high = np.maximum(self._high, values.max(0))

    def scale(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and deviation (D,); of a constant channel its value and 1."""
        deviation = np.sqrt(self._squares / max(self.count, 1))
        # Rounding can leave a constant channel a deviation, and underflow take one from another.
        constant = (self._low == self._high) | (deviation == 0)
        return np.where(constant, self._low, self.mean), np.where(constant, 1.0, deviation)


@dataclass(frozen=True)
class _State:
    mean: Annotated[list[FiniteFloat], Field(min_length=1)]
    deviation: list[Annotated[FiniteFloat, Field(gt=0)]]


class _StandardisingCodec(FieldCodec):
    """The base of both codecs: moments (D,) of the training values."""

    def __init__(self, column: str):
        self.column = column
        self.mean: list[float] = []
        self.deviation: list[float] = []

    @property
    def width(self) -> int | None:
        """D where it is known; None where it is learnt."""
        return 1

    def _fit_rows(self, batches: Iterable[np.ndarray]) -> None:
        """Batches are (N, D), all of one width; UserError for numbers that aren't finite."""
        moments: Moments | None = None
        for values in batches:
            moments = moments or Moments(values.shape[1])
            if not np.isfinite(values).all():
                raise UserError(self._not_finite())
            if len(values):
                moments.add(values)
        if moments is None or not moments.count:
            raise UserError(f"column {self.column!r} has no values to learn from")
        mean, deviation = moments.scale()
        self._set_scale(mean.tolist(), deviation.tolist())

    def _set_scale(self, mean: list[float], deviation: list[float]) -> None:
        self.mean, self.deviation = mean, deviation

    def _not_finite(self) -> str:
        return (
            f"column {self.column!r} must hold finite numbers; it holds NaN or infinity: "
            "leave these rows out, or fill them in"
        )

    def unscale(self, numbers: Numbers) -> Numbers:
        """Standardised numbers (..., D), or (...) without channels, in the data's own units."""
        single = self.field.shape in [(), (None,)]
        mean, deviation = (
            np.asarray(part[0] if single else part, np.float64)
            for part in (self.mean, self.deviation)
        )
        if isinstance(numbers, np.ndarray):
            return numbers.astype(np.float64) * deviation + mean
        return numbers * deviation.astype(np.float32) + mean.astype(np.float32)

    def _scale(self, flat: tf.Tensor) -> tf.Tensor:
        """(N, D) numbers of any type to float32; in between float64, so that no digit is lost."""
        import tensorflow as tf

        flat = tf.debugging.check_numerics(tf.cast(flat, tf.float64), self._not_finite())
        mean, deviation = (tf.constant(part, tf.float64) for part in (self.mean, self.deviation))
        return tf.cast((flat - mean) / deviation, tf.float32)

    @property
    def size(self) -> None:
        return None

    def state(self) -> JsonObject:
        return {"column": self.column, "mean": self.mean, "deviation": self.deviation}

    def restore(self, state: JsonObject) -> None:
        saved = typed(_State, state)
        width = len(saved.mean) if self.width is None else self.width
        if not len(saved.mean) == len(saved.deviation) == width:
            raise ValueError(f"mean and deviation must be of {width} channels")
        self._set_scale(saved.mean, saved.deviation)


class NumberCodec(_StandardisingCodec):
    """A number to () float32."""

    raw = FieldSpec((), "float64")

    def fit(self, batches: Iterable[Sequence[Value]]) -> None:
        """UserError where there are no numbers, or one isn't finite."""
        self._fit_rows(np.asarray(batch, np.float64)[:, None] for batch in batches)

    def encode(self, values: RawColumn) -> tf.Tensor:
        """(B,) numbers to (B,) float32; InvalidArgumentError for NaN and infinity."""
        return self._scale(values[:, None])[:, 0]

    def decode(self, numbers: np.ndarray) -> float:
        return float(self.unscale(np.asarray(numbers)))

    @property
    def field(self) -> FieldSpec:
        return FieldSpec((), "float32")

    def summary(self) -> JsonObject:
        return {"mean": self.mean[0], "deviation": self.deviation[0]}


class SeriesCodec(_StandardisingCodec):
    """A series (T, D) of numbers to (T, D) float32, each channel by its own moments.

    The width D is learnt: every series must have that of the first. Univariate series are (T,).
    """

    def __init__(self, column: str, *, univariate: bool = False):
        super().__init__(column)
        self.univariate = univariate
        self.raw = FieldSpec((None,) if univariate else (None, None), "float64")

    @property
    def width(self) -> int | None:
        return 1 if self.univariate else None

    def _set_scale(self, mean: list[float], deviation: list[float]) -> None:
        super()._set_scale(mean, deviation)
        if not self.univariate:
            self.raw = FieldSpec((None, len(mean)), "float64")

    def fit(self, batches: Iterable[Sequence[Value]]) -> None:
        """UserError where there are no series, widths differ, or a number isn't finite."""
        width = self.width

        def rows() -> Iterable[np.ndarray]:
            nonlocal width
            for batch in batches:
                for series in batch:
                    steps = np.asarray(series, np.float64)
                    if self.univariate and steps.ndim == 1:
                        steps = steps[:, None]
                    width = width or (steps.shape[1] if steps.ndim == 2 else None)
                    if steps.ndim != 2 or steps.shape[1] != width:
                        shape = "(steps,)" if self.univariate else f"(steps, {width or 'channels'})"
                        raise UserError(
                            f"column {self.column!r} must hold series of the shape {shape}; "
                            f"received one of the shape {np.shape(series)}"
                        )
                    yield steps

        self._fit_rows(rows())

    def encode(self, values: RawColumn) -> tf.RaggedTensor:
        """Ragged (B, T, D) or (B, T) to float32; InvalidArgumentError for NaN and infinity."""
        import tensorflow as tf

        if self.univariate:
            return values.with_flat_values(self._scale(values.flat_values[:, None])[:, 0])
        flat = tf.ensure_shape(values.flat_values, [None, len(self.mean)])
        return values.with_flat_values(self._scale(flat))

    def decode(self, numbers: np.ndarray) -> list[float] | list[list[float]]:
        return self.unscale(np.asarray(numbers)).tolist()

    @property
    def field(self) -> FieldSpec:
        return FieldSpec(self.raw.shape, "float32")

    def summary(self) -> JsonObject:
        return {"channels": len(self.mean)}
