"""Examples that are stretches of longer sequences: of a series, a corpus, a recording.

They are cut after the division, so that no stretch crosses from one split into another, and without
copies: a window is a row and two places in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from pipelines.core.contracts import Spec, Split, Windows
from pipelines.core.task import Task
from pipelines.core.types import Example, Value
from pipelines.data.splits import ArrowSplit

CHUNK = 1000
"""Windows whose raw values are in memory together."""


class WindowedSplit(Split):
    """A split whose examples are windows over the rows of another one."""

    def __init__(self, whole: ArrowSplit, windows: Windows, spec: Spec):
        lengths = whole.lengths()
        self.name, self._whole, self._windows = whole.name, whole, windows
        self._sequences = [name for name, field in spec.fields.items() if field.is_sequence]
        _check(windows, self._sequences, lengths)
        self._lengths = lengths[windows.row].copy()
        for name in windows.fields:
            place = self._sequences.index(name)
            self._lengths[:, place] = windows.stop - windows.start

    def __len__(self) -> int:
        return len(self._windows.row)

    def lengths(self) -> np.ndarray:
        return self._lengths

    def gather(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        row, start, stop, fields = self._windows
        rows = np.asarray(rows)
        stretch = start[rows], stop[rows]
        return self._whole.gather_stretches(row[rows], dict.fromkeys(fields, stretch))

    def column(self, name: str) -> np.ndarray:
        return self._whole.column(name)[self._windows.row]

    def examples(self, rows: Sequence[int]) -> list[Example]:
        whole = self._whole.examples(self._windows.row[rows].tolist())
        return [self._cut_to_window(example, row) for example, row in zip(whole, rows, strict=True)]

    def raw(self, column: str) -> Iterator[list[Value]]:
        for first in range(0, len(self), CHUNK):
            rows = range(first, min(first + CHUNK, len(self)))
            yield [example[column] for example in self.examples(rows)]

    def _cut_to_window(self, example: Example, row: int) -> Example:
        """The example, with its lists that have a value for each step cut to the window."""
        steps = int(self._whole.lengths()[self._windows.row[row]].max(initial=0))
        start, stop = int(self._windows.start[row]), int(self._windows.stop[row])
        return {
            name: value[start:stop] if isinstance(value, list) and len(value) == steps else value
            for name, value in example.items()
        }


def _check(windows: Windows, sequences: Sequence[str], lengths: np.ndarray) -> None:
    """Raises ValueError for windows that aren't inside their rows: a mistake of the task's."""
    unknown = set(windows.fields) - set(sequences)
    if unknown or not windows.fields:
        raise ValueError(f"windows must be of the fields {sequences}; received {windows.fields}")
    places = [sequences.index(name) for name in windows.fields]
    ends = lengths[:, places].min(1)[windows.row] if len(windows.row) else np.zeros(0)
    inside = (windows.start >= 0) & (windows.start < windows.stop) & (windows.stop <= ends)
    if not np.all(inside):
        raise ValueError(f"{np.count_nonzero(~inside):,} windows are empty or leave their row")


def apply_windows(
    split: ArrowSplit, task: Task, spec: Spec, part: tuple[np.ndarray, np.ndarray] | None = None
) -> Split:
    """The split as the task sees it: itself, or windows over its rows.

    part  from where to where each row is the split's (N,); None: all of it.
    """
    lengths = split.lengths()
    ends = lengths[:, 0] if lengths.shape[1] else np.ones(len(split), np.int32)
    begin, end = part or (np.zeros_like(ends), ends)
    windows = task.windows(spec, begin, end)
    if windows is None:
        return split
    if np.any(windows.stop > end[windows.row]):
        raise ValueError(f"windows of task={task.name} reach beyond the {split.name} split's part")
    return WindowedSplit(split, windows, spec)


def split_in_time(
    lengths: np.ndarray, validation: float, test: float
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """By split, start and stop (N,) in each sequence: the last share is the test split's."""
    lengths = np.asarray(lengths)
    test_start = lengths - np.round(lengths * test).astype(lengths.dtype)
    validation_start = test_start - np.round(lengths * validation).astype(lengths.dtype)
    return {
        "train": (np.zeros_like(lengths), validation_start),
        "validation": (validation_start, test_start),
        "test": (test_start, lengths),
    }
