"""Values that can be used as they are: texts with something in them, and labels as text."""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from pipelines.core.contracts import RowIssues


class FaultError(Exception):
    """Why a value isn't usable, as what follows the column's name."""


def usable_rows(
    records: Iterable[tuple[int, Sequence[Any]]],
    columns: Mapping[str, str | int],
    issues: RowIssues,
    *,
    labels: Collection[str],
    where: str,
) -> Iterator[dict[str, str]]:
    """Rows from (line, values in the order of `columns`); what can't be used is an issue."""
    plan = [(key, label_text if key in labels else usable_text) for key in columns]
    for line, values in records:
        row = {}
        try:
            # Most of the time of reading goes by here: a call a value, and nothing else.
            for (key, usable), value in zip(plan, values, strict=True):
                row[key] = usable(value)
        except (FaultError, TypeError) as error:  # TypeError: a list as a label isn't hashable
            reason = error if isinstance(error, FaultError) else "is not text"
            column = list(columns.values())[len(row)]
            issues.add(f"{where}:{line}", f"column {column!r} {reason}")
        else:
            yield row


def usable_text(value: Any) -> str:
    """The value, if it is a text with something in it that can be written as UTF-8."""
    if type(value) is not str:
        raise FaultError("has no value" if value is None else "is not text")
    if not value or value.isspace():
        raise FaultError("is empty")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise FaultError("is not valid UTF-8") from None
    if "\0" in value:
        raise FaultError("holds a NUL byte")
    return value


_WHOLE_NUMBER = re.compile(r"(-?[0-9]{1,18})\.0+")


@lru_cache(maxsize=1 << 14, typed=True)
def label_text(value: Any) -> str:
    """The same text for the same label, however a file's format writes it.

    1, 1.0, "1" and " 1.0 " are "1"; true, True and "True" are "true"; a date is in ISO 8601.
    """
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        if not math.isfinite(value):
            raise FaultError("has no value")
        return str(int(value)) if value.is_integer() else repr(value)
    if isinstance(value, int):
        return str(value)
    if isinstance(value, datetime.date):
        return value.isoformat()
    text = usable_text(value).strip()
    if number := _WHOLE_NUMBER.fullmatch(text):
        return str(int(number[1]))
    return text.lower() if text in ("True", "False", "TRUE", "FALSE") else text
