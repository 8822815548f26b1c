"""Answers to a stream of rows, in bounded memory: windows of rows, batches of similar length.

A window holds some thousands of rows. It is asked about in batches of rows that are about as long
as each other, so that little of a batch is padding; its answers come in the order of its rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple, TypeVar

from pipelines.core.types import Example
from pipelines.runs.parallel import in_order

ROWS = 8192
"""Of a window, at most."""

SIZE = 16_000_000
"""Of a window: it ends with the row that reaches so many characters and bytes."""

BATCH_ROWS = 256

BATCH_CHARACTERS = 60_000
"""Of a batch, with its rows as long as its longest; but one row is always taken."""

FILE = BATCH_CHARACTERS // 64
"""Characters that a file counts as: how long it takes hardly depends on its bytes."""


class Fault(NamedTuple):
    """A row that can't be read, or can't be answered, and why."""

    reason: str


Row = Example | Fault
Answer = TypeVar("Answer")


def answered(
    rows: Iterable[Row], answer: Callable[[list[Row]], Sequence[Answer]], *, at_once: int = ROWS
) -> Iterator[list[Answer]]:
    """Answers in the order of the rows, a window at a time.

    answer   one for each of a batch's rows, in their order; called by several threads. The faults
             of a window are batches of their own.
    at_once  rows of a window.
    """

    def asked(batch: tuple[list[Row], list[int], bool]) -> tuple[Sequence[Answer], list[int], bool]:
        window, places, last = batch
        return answer([window[place] for place in places]), places, last

    found: dict[int, Answer] = {}
    for answers, places, last in in_order(asked, _batches(windows(rows, at_once))):
        found.update(zip(places, answers, strict=True))
        if last:
            yield [found[place] for place in range(len(found))]
            found.clear()


def windows(rows: Iterable[Row], at_once: int = ROWS) -> Iterator[list[Row]]:
    """The rows in the order they come, as many together as memory may hold."""
    window: list[Row] = []
    size = 0
    for row in rows:
        window.append(row)
        size += _size(row)
        if len(window) >= at_once or size >= SIZE:
            yield window
            window, size = [], 0
    if window:
        yield window


def _batches(parts: Iterable[list[Row]]) -> Iterator[tuple[list[Row], list[int], bool]]:
    """Each window, the places of a batch's rows in it, and whether it is the window's last."""
    for window in parts:
        batches = batches_by_length([_length(row) for row in window])
        for number, places in enumerate(batches, 1):
            yield window, places, number == len(batches)


def batches_by_length(lengths: Sequence[int]) -> list[list[int]]:
    """Places in `lengths`, the shortest first: those of 0 apart, others as BATCH_* allow."""
    batches: list[list[int]] = []
    for place in sorted(range(len(lengths)), key=lengths.__getitem__):
        length = lengths[place]
        batch = batches[-1] if batches else []
        full = len(batch) >= BATCH_ROWS or (len(batch) + 1) * length > BATCH_CHARACTERS
        if not batch or full or (length and not lengths[batch[0]]):
            batches.append([])
        batches[-1].append(place)
    return batches


def _length(row: Row) -> int:
    """Of what is to be read of a row, in characters; 0 of a fault."""
    if isinstance(row, Fault):
        return 0
    return max(1, sum(FILE if isinstance(v, bytes) else len(str(v)) for v in row.values()))


def _size(row: Row) -> int:
    values = row if isinstance(row, Fault) else row.values()
    return sum(len(value) if isinstance(value, str | bytes) else 8 for value in values)
