"""Checks and conversions of single values: text, labels, numbers, lists and series."""

from __future__ import annotations

import dataclasses
import datetime
import json
import math
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial

from pipelines.core.contracts import FieldSpec, RowIssues
from pipelines.core.errors import shown
from pipelines.core.types import Json, Value


class FaultError(Exception):
    """The reason why a value can't be used, as text that follows the column's name."""


@dataclass(frozen=True)
class Columns:
    """The columns to read of a file, and what they hold.

    names   keys of a row, each with the name of its column in the file; or with its position,
            counted from 0, in CSV or TSV without a header.
    labels  keys whose values may be numbers or truth values, too; see `label_text`.
    fields  what the keys hold that don't hold text: numbers, lists, series.
    """

    names: Mapping[str, str | int]
    labels: Collection[str] = ()
    fields: Mapping[str, FieldSpec] = dataclasses.field(default_factory=dict)


def usable_rows(
    records: Iterable[tuple[int, Sequence[Value]]], columns: Columns, issues: RowIssues, where: str
) -> Iterator[dict[str, Value]]:
    """Rows from (line, values in the order of `columns`); unusable ones are added to `issues`."""
    kinds = {key: make_converter(field) for key, field in columns.fields.items()}
    plan = [
        (key, label_text if key in columns.labels else kinds.get(key, usable_text))
        for key in columns.names
    ]
    for line, values in records:
        row = {}
        try:
            # Reading spends most of its time here, so there is one call a value and nothing else.
            for (key, usable), value in zip(plan, values, strict=True):
                row[key] = usable(value)
        except (FaultError, TypeError) as error:  # TypeError: a list as a label isn't hashable
            reason = error if isinstance(error, FaultError) else "is not text"
            column = list(columns.names.values())[len(row)]
            issues.add(f"{where}:{line}", f"column {shown(column)} {reason}")
        else:
            yield row


def usable_text(value: object) -> str:
    """The value, if it is valid Unicode text that isn't blank; else FaultError."""
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


def make_converter(field: FieldSpec) -> Callable[[Value], Value]:
    """A function from a file's values to the field's kind, which raises FaultError for others.

    Files without types, such as CSV, have text: numbers as digits, lists and series as JSON.
    """
    single = usable_text if field.dtype == "string" else partial(_number, dtype=field.dtype)
    if not field.is_sequence:
        return single
    rank = len(field.shape)

    def sequence(value: Value) -> list[Value]:
        if isinstance(value, str):
            value = _json(value)
        if not isinstance(value, list | tuple) or not value:
            raise FaultError("is not a list with at least one value")
        steps = [_step(step, single, field.shape[1:]) for step in value]
        if rank == 2 and len({len(step) for step in steps}) > 1:
            raise FaultError("has steps of different widths")
        return steps

    return sequence


def _step(value: Value, single: Callable[[Value], Value], shape: tuple[int | None, ...]) -> Value:
    """One value of a list, or the numbers (D,) of a step of a series."""
    if not shape:
        return single(value)
    if not isinstance(value, list | tuple) or (shape[0] is not None and len(value) != shape[0]):
        width = "numbers" if shape[0] is None else f"{shape[0]} numbers"
        raise FaultError(f"has a step that is not a list of {width}")
    return [single(number) for number in value]


def _number(value: object, dtype: str) -> int | float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise FaultError("has no value" if value is None else "is not a number")
    try:
        number = float(value)
    except (ValueError, OverflowError):
        raise FaultError("is not a number") from None
    if not math.isfinite(number):
        raise FaultError("is not a finite number")
    if not dtype.startswith("int"):
        return number
    if not number.is_integer():
        raise FaultError("is not a whole number")
    return int(number)


def _json(text: str) -> Json:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise FaultError("is not a list in JSON, such as [1, 2]") from None


_WHOLE_NUMBER = re.compile(r"(-?[0-9]{1,18})\.0+")


@lru_cache(maxsize=1 << 14, typed=True)
def label_text(value: Value) -> str:
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
