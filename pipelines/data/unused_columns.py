"""Columns of a file that say which rows belong together, and that the division doesn't look at."""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter
from collections.abc import Sequence

from pipelines.core.contracts import RowIssues, Source
from pipelines.core.errors import UserError
from pipelines.data.keys import time_number
from pipelines.data.leaks import LEAST_ROWS, Leak

ROWS = 5000
"""That are read, from the beginning of the file."""

OWNERS = re.compile(
    "id|uid|user|username|author|reviewer|writer|speaker|signer|person|patient|subject|customer"
    "|client|session|visit|film|movie|book|product|item|asin|document|doc|article|thread"
    "|conversation|group|family|host|site|domain|url"
)
"""Words in the name of a column whose values often have several rows."""

OTHERS, OTHERS_UNNAMED = 0.5, 1.0
"""Other rows that have a row's value, on average over all of the data: so many are a group if the
column's name says that it groups rows, and if it doesn't."""

LEAST_SEEN = 20
"""Rows that were read whose value another one of them has."""

LARGEST, LARGEST_UNNAMED = 0.5, 0.1
"""Share of the rows that the most frequent value may have; as above. More is a category."""

LONGEST = 60
"""Characters of a value. More is a text."""


def find_unused_columns(source: Source, part: str, count: int, used: Sequence[str]) -> list[Leak]:
    """Columns beside those in `used` that group the rows of a part, of which there are `count`."""
    names = [name for name in source.further_columns() if name not in used]
    found = []
    for name in names:
        try:
            rows = source.read_with(part, RowIssues(), [name])
            values = [str(row[name]) for row in itertools.islice(rows, ROWS)]
        except UserError:  # the column isn't in all files
            continue
        if (leak := _grouping(name, values, count)) is not None:
            found.append(leak)
    return found


def _grouping(name: str, values: Sequence[str], count: int) -> Leak | None:
    counts = Counter(values)
    if len(values) < LEAST_ROWS or len(counts) < 2:
        return None
    together = sum(rows for rows in counts.values() if rows > 1)
    others = sum(rows * (rows - 1) for rows in counts.values()) / len(values)
    adjacent = sum(one == other for one, other in itertools.pairwise(values))
    if adjacent < together / 10:
        # In no order: a row has this many times more in common with all rows than with those read.
        others *= max(1.0, count / len(values))
    largest = max(counts.values()) / len(values)
    named = any(map(OWNERS.fullmatch, _words(name)))
    if together < LEAST_SEEN or others < (OTHERS if named else OTHERS_UNNAMED):
        return None
    if largest > (LARGEST if named else LARGEST_UNNAMED) or not (named or _are_names(counts)):
        return None
    return Leak(
        "column",
        1 - math.exp(-others),
        f"a row has its {name} in common with {others:,.1f} others on average, by the first "
        f"{len(values):,} rows, and the division doesn't look at it, so that rows of one {name} "
        f"are on both sides, and scores flatter if these are alike: prepare.group_by={name} keeps "
        "them in one split",
    )


def _words(name: str) -> list[str]:
    """Such as user and id, of userId, and of user_ids."""
    parts = re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", name)
    return [word.removesuffix("s") for word in re.findall(r"[a-z]+", parts.lower())]


def _are_names(values: Counter[str]) -> bool:
    """Whether the values are short texts, not numbers and dates that are measured."""
    shown = list(values)[:50]
    return all(len(value) <= LONGEST and not _is_measured(value) for value in shown)


def _is_measured(value: str) -> bool:
    try:
        time_number(value)
    except ValueError:
        return False
    return True
