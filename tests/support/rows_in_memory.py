"""A source of a few rows that a test makes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pipelines.core.contracts import Example, Provenance, RowIssues, Source


class RowsInMemory(Source):
    """The rows, undivided; of any columns."""

    def __init__(self, rows: Sequence[Example]):
        self.rows = rows

    def check(self) -> None: ...

    def parts(self) -> tuple[str, ...]:
        return ("all",)

    def read(self, part: str, issues: RowIssues) -> Iterator[Example]:
        yield from self.rows

    def fingerprint(self) -> str:
        return repr(self.rows)

    def provenance(self) -> Provenance:
        return Provenance("rows", "a test", "none", "")
