"""The columns that decide which split a row goes to, and their values as numbers."""

from __future__ import annotations

import contextlib
import datetime
import math
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from pipelines.core.contracts import RowIssues, Source
from pipelines.core.errors import shown
from pipelines.core.settings import PrepareSettings
from pipelines.core.task import Task
from pipelines.core.types import Example, Value
from pipelines.data.division import RowKeys, content_hash
from pipelines.data.groups import connected_groups


@dataclass(frozen=True)
class KeyColumns:
    """Columns of a source that decide where a row goes.

    dedupe_by  tell rows apart; if there are none, each row is another.
    groups     rows with the same value in one of them stay together.
    time       orders the rows; None where time plays no part, or the rows stand in its order.
    extra      those of them that the task doesn't read.
    """

    source: Source
    settings: PrepareSettings
    dedupe_by: tuple[str, ...]
    groups: tuple[str, ...]
    time: str | None
    extra: tuple[str, ...]

    @classmethod
    def of(cls, source: Source, task: Task, settings: PrepareSettings) -> KeyColumns:
        group_by = settings.group_by
        group_columns = (group_by,) if isinstance(group_by, str) else tuple(group_by or ())
        time = settings.time_column
        names = dict.fromkeys([*group_columns, *([time] if time else [])])
        extra = tuple(name for name in names if name not in source.columns)
        groups = tuple(dict.fromkeys([*task.group_by, *group_columns]))
        return cls(source, settings, tuple(task.dedupe_by), groups, time, extra)

    def columns_to_store(self, task: Task) -> tuple[str, ...]:
        """The columns of each row that are written to the raw file."""
        own = [*task.columns, *self.dedupe_by, *task.group_by]
        return tuple(dict.fromkeys([*own, *filter(None, [task.stratify_by]), *self.extra]))

    def read(self, part: str, issues: RowIssues) -> Iterator[tuple[Example, float]]:
        """The part's examples with their times; 0 where no column says it."""
        source = self.source
        examples = (
            source.read_with(part, issues, self.extra) if self.extra else source.read(part, issues)
        )
        for number, example in enumerate(examples, 1):
            if self.time is None:
                yield example, 0.0
                continue
            try:
                time = time_number(example[self.time])
            except ValueError:
                reason = f"column {shown(self.time)} is neither a number nor a date in ISO 8601"
                issues.add(f"{source.provenance().name}, example {number:,}", reason)
            else:
                yield example, time

    def identity(self, example: Example, row: int) -> int:
        """64 bits that are the same for rows that are duplicates."""
        return content_hash([example[name] for name in self.dedupe_by] or [row])

    def row_keys(
        self,
        hashes: array[int],
        strata: array[int],
        given: array[int],
        ties: Sequence[array[int] | np.ndarray],
        times: array[float],
    ) -> RowKeys:
        """The keys of all rows, from the values that were read row by row.

        ties  (N,) uint64 each: rows with the same value in one of them stay together.
        """
        count = len(hashes)
        groups = None
        if self.settings.division == "blocks":
            groups = (np.arange(count) // self.settings.block_rows).astype(np.int32)
        elif ties and self.settings.division in ("hash", "related"):
            groups = connected_groups(np.stack([np.frombuffer(tie, np.uint64) for tie in ties]))
        stamps = None
        if self.settings.division == "time":
            stamps = np.frombuffer(times, np.float64) if self.time else np.arange(float(count))
        return RowKeys(
            np.frombuffer(hashes, np.uint64),
            np.frombuffer(strata, np.int32),
            np.frombuffer(given, np.int8),
            groups,
            stamps,
        )

    def describe_division(self) -> str:
        """Describes for the report how rows are divided."""
        if self.settings.division == "blocks":
            return f"blocks of {self.settings.block_rows} neighbouring rows"
        if self.settings.division == "time":
            return f"time, by {self.time}" if self.time else "time, by the order of the rows"
        if self.settings.division == "related":
            return ", or ".join(["rows that share rare words", *self.groups])
        return f"groups by {', '.join(self.groups)}" if self.groups else "hash of the content"

    def describe_settings(self) -> str:
        """The names of the settings that can make a split empty, in words."""
        names = ["prepare.validation", "prepare.test", "prepare.limit"]
        if self.settings.group_by:
            names.insert(0, "prepare.group_by")
        if self.settings.division == "blocks":
            names.insert(0, "prepare.block_rows")
        if self.time:
            names.insert(0, "prepare.time_column")
        return f"{', '.join(names[:-1])} or {names[-1]}"


def time_number(value: Value) -> float:
    """A number, or a date or time in ISO 8601, as a number that grows with time.

    ValueError if it is neither.
    """
    if isinstance(value, datetime.datetime | datetime.date):
        value = value.isoformat()
    with contextlib.suppress(TypeError, ValueError):
        if math.isfinite(number := float(value)):
            return number
    stamp = datetime.datetime.fromisoformat(str(value).strip())
    if stamp.tzinfo is None:
        stamp = stamp.replace(tzinfo=datetime.UTC)
    return stamp.timestamp()
