"""Predictions for a stream of rows in bounded memory: windows of rows, batches of similar length.

A window holds some thousands of rows. They are predicted in batches of rows that are about equally
long, so that little of a batch is padding. The predictions come in the order of the rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple, TypeVar

import numpy as np

from pipelines.core.types import Example
from pipelines.runs.parallel import map_in_order

WINDOW_ROWS = 8192
"""Most rows in a window."""

WINDOW_BYTES = 16_000_000
"""A window ends with the row that reaches this size."""

BATCH_ROWS = 256

BATCH_COST = 60_000
"""Most characters in a batch, with each row as long as its longest. A single row may have more."""

FILE_COST = BATCH_COST // 64
"""Characters that a file counts as: a model resizes it, so its size hardly matters."""

NUMBER_COST = 4
"""Characters that a number counts as: a step of a sequence takes as long as a short word."""


class RowError(NamedTuple):
    """A row that can't be read or predicted, and the reason."""

    reason: str


Row = Example | RowError
Result = TypeVar("Result")


class _Batch(NamedTuple):
    """Rows of a window by their places in it."""

    window: list[Row]
    places: list[int]
    is_last: bool


def predict_in_order(
    rows: Iterable[Row],
    predict: Callable[[list[Row]], Sequence[Result]],
    *,
    window_rows: int = WINDOW_ROWS,
) -> Iterator[list[Result]]:
    """The predictions in the order of the rows, window by window.

    predict  one result for each row of a batch, in their order; called by several threads. The
             errors of a window are batches of their own.
    """

    def predict_batch(batch: _Batch) -> tuple[Sequence[Result], _Batch]:
        return predict([batch.window[place] for place in batch.places]), batch

    # A window's batches come with the shortest rows first: results wait until it is complete.
    by_place: dict[int, Result] = {}
    batches = _batches(read_windows(rows, window_rows))
    for results, batch in map_in_order(predict_batch, batches):
        by_place.update(zip(batch.places, results, strict=True))
        if batch.is_last:
            yield [by_place[place] for place in range(len(by_place))]
            by_place.clear()


def read_windows(rows: Iterable[Row], window_rows: int = WINDOW_ROWS) -> Iterator[list[Row]]:
    """The rows in their order, in lists that fit into memory."""
    window: list[Row] = []
    size = 0
    for row in rows:
        window.append(row)
        size += _size(row)
        if len(window) >= window_rows or size >= WINDOW_BYTES:
            yield window
            window, size = [], 0
    if window:
        yield window


def _batches(windows: Iterable[list[Row]]) -> Iterator[_Batch]:
    for window in windows:
        batches = batch_by_cost([_cost(row) for row in window])
        for number, places in enumerate(batches, 1):
            yield _Batch(window, places, number == len(batches))


def batch_by_cost(costs: Sequence[int]) -> list[list[int]]:
    """Places in `costs`, cheapest first, as batches within BATCH_ROWS and BATCH_COST.

    Those that cost 0 are errors, and have batches of their own.
    """
    batches: list[list[int]] = []
    for place in sorted(range(len(costs)), key=costs.__getitem__):
        cost = costs[place]
        batch = batches[-1] if batches else []
        # The costs ascend, so this row would be the longest: all others are padded to it.
        is_full = len(batch) >= BATCH_ROWS or (len(batch) + 1) * cost > BATCH_COST
        if not batch or is_full or (cost and not costs[batch[0]]):
            batches.append([])
        batches[-1].append(place)
    return batches


def _cost(row: Row) -> int:
    """About how long a row takes, in characters of text; 0 for an error."""
    if isinstance(row, RowError):
        return 0
    return max(1, sum(map(_value_cost, row.values())))


def _value_cost(value: object) -> int:
    if isinstance(value, str):
        return len(value)
    if isinstance(value, bytes):
        return FILE_COST
    if isinstance(value, np.ndarray) and value.dtype != object:
        return NUMBER_COST * value.size
    if isinstance(value, list | tuple | np.ndarray):
        return sum(map(_value_cost, value))
    return NUMBER_COST


def _size(row: Row) -> int:
    """Bytes that a row takes in memory, roughly."""
    return sum(map(_value_size, row if isinstance(row, RowError) else row.values()))


def _value_size(value: object) -> int:
    if isinstance(value, str | bytes):
        return len(value)
    if isinstance(value, np.ndarray) and value.dtype != object:
        return value.nbytes
    if isinstance(value, list | tuple | np.ndarray):
        return sum(map(_value_size, value))
    return 8
