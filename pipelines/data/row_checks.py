"""Whether the rows that were read are enough, and whether their strata can be strata."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipelines.core.contracts import RowIssues
from pipelines.core.errors import UserError, shown
from pipelines.core.types import Value

MOST_STRATA, FEW = 10_000, 10
"""More values than this are no strata but a column taken by mistake, as are more than FEW where
most occur only once."""


def check_rows(
    name: str, count: int, issues: RowIssues, rejected: Mapping[str, int], *, allowed: float
) -> None:
    """Raises UserError if no row can be used, or too many can't be read.

    name      of the data, for messages. count: rows that can be used.
    rejected  rows that cleaning keeps out, by reason.
    allowed   share of rows that may be unreadable.
    """
    total = issues.count + count + sum(rejected.values())
    if total == 0:
        raise UserError(f"{name} has no rows")
    if not count and rejected:
        why = ", ".join(f"{number:,} {reason}" for reason, number in rejected.items())
        raise UserError(f"cleaning leaves no rows of {name}: {why}; see task.cleaning")
    bad = issues.count - issues.tolerated
    total -= issues.tolerated
    if bad > allowed * total:
        first = "; ".join(issues.first[:3]) + ("; …" if issues.count > 3 else "")
        raise UserError(
            f"{bad:,} of {total:,} rows of {name} can't be read "
            f"({bad / total:.1%}, allowed {allowed:.1%}): {first}. {_remedy(issues)}"
        )


def _remedy(issues: RowIssues) -> str:
    remedy = "Mend them or raise prepare.bad_rows"
    if any("UTF-8" in reason for reason in issues.reasons):
        return f"Convert the file, such as by iconv -f WINDOWS-1252 -t UTF-8. {remedy}"
    return remedy


def check_strata(name: str, column: str | None, values: Sequence[Value], count: int) -> None:
    """Raises UserError if the column's values, of so many rows, are too many or only one."""
    if len(values) > max(FEW, count / 2):
        raise strata_error(name, column, values, count)
    if column is not None and len(values) < 2:
        raise UserError(
            f"column {shown(column)} of {name} holds only {shown(values[0])}: "
            "at least two different values are needed; is it the right label column?"
        )


def strata_error(name: str, column: str | None, values: Sequence[Value], rows: int) -> UserError:
    examples = ", ".join(repr(value) for value in values[:5])
    return UserError(
        f"column {shown(column)} of {name} has {len(values):,} different values "
        f"among {rows:,} rows ({examples}, ...): is it the right label column? Numbers to be "
        "estimated are no classes"
    )
