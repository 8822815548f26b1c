"""Columns of a file that say which rows belong together, and that the division doesn't look at."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Sequence

from pipelines.core.contracts import RowIssues, Source
from pipelines.core.errors import UserError
from pipelines.data.keys import time_number
from pipelines.data.leaks import LEAST_ROWS, Leak

ROWS = 5000
"""That are read, from the beginning of the file."""

OWNERS = frozenset(
    "id uid user username author reviewer writer speaker signer person patient subject customer "
    "client session visit film movie book product item asin document doc article thread "
    "conversation group family host site domain url".split()
)
"""Words in the name of a column whose values often have several rows."""

OFTEN, RARELY = 0.2, 0.5
"""Share of rows that must have their value together with another row: if the column's name says
that it groups them, and if it doesn't."""

LARGEST, LARGEST_UNNAMED = 0.5, 0.1
"""Share of the rows that the most frequent value may have; as above. More is a category."""

LONGEST = 60
"""Characters of a value. More is a text."""


def find_unused_columns(source: Source, part: str, used: Sequence[str]) -> list[Leak]:
    """Columns beside those in `used` that group the first rows of a part."""
    names = [name for name in source.further_columns() if name not in used]
    found = []
    for name in names:
        try:
            rows = source.read_with(part, RowIssues(), [name])
            values = [str(row[name]) for row in itertools.islice(rows, ROWS)]
        except UserError:  # the column isn't in all files
            continue
        if (leak := _grouping(name, values)) is not None:
            found.append(leak)
    return found


def _grouping(name: str, values: Sequence[str]) -> Leak | None:
    counts = Counter(values)
    if len(values) < LEAST_ROWS or len(counts) < 2:
        return None
    together = sum(count for count in counts.values() if count > 1) / len(values)
    largest = max(counts.values()) / len(values)
    named = not OWNERS.isdisjoint(_words(name))
    if named and (together < OFTEN or largest > LARGEST):
        return None
    if not named and (together < RARELY or largest > LARGEST_UNNAMED or not _are_names(counts)):
        return None
    return Leak(
        "column",
        together,
        f"{together:.0%} of the first {len(values):,} rows have their {name} in common with another "
        f"row ({len(counts):,} different ones), and the division doesn't look at it, so that rows "
        f"of one {name} are on both sides: prepare.group_by={name} keeps them in one split",
    )


def _words(name: str) -> list[str]:
    """ "userId" and "user_id" are user, id."""
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
