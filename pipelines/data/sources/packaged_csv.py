"""A CSV file that lies in an ordinary Python package, read without running the package's code."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from models.settings import settings
from pipelines.core.contracts import Provenance, RowIssues
from pipelines.core.errors import UserError, shown
from pipelines.core.types import Example
from pipelines.data.sources._packaged import Sha256, find_packaged_file
from pipelines.data.sources._row_source import RowSource
from pipelines.data.sources.rows import Columns, check_columns, check_extra_columns, read_rows


@settings
class PackagedCsv(RowSource):
    """Each row is a text with its label; the file must have this SHA-256.

    package, version  as pip knows them.
    file         path of the CSV file inside the package's installation.
    rows         column and the value it must have: {source: imdb}; {} for all rows.
    label_names  the file's labels and what we call them.
    division     how its rows are best divided: what prepare.division is unless it is given.
    """

    format: Literal["packaged_csv"]
    name: str
    package: str
    version: str
    file: str
    sha256: Sha256
    rows: dict[str, str]
    text_column: str
    label_column: str
    label_names: dict[str, str]
    division: Literal["hash", "related", "blocks"]
    licence: str
    citation: str

    columns = ("text", "label")

    def check(self) -> None:
        check_columns(self._path(), self._columns())

    def parts(self) -> tuple[str, ...]:
        return ("all",)

    def read(self, part: str, issues: RowIssues) -> Iterator[Example]:
        return self.read_with(part, issues, ())

    def check_extra(self, names: Sequence[str]) -> None:
        check_extra_columns(self._path(), names)

    def read_with(self, part: str, issues: RowIssues, extra: Sequence[str]) -> Iterator[Example]:
        conditions = [(f"rows.{column}", value) for column, value in self.rows.items()]
        names = self._columns() | {name: name for name in extra}
        columns = Columns(names, labels=("label", *extra))
        for row in read_rows(self._path(), columns, issues):
            if all(row[key] == value for key, value in conditions):
                label = row["label"]
                if label not in self.label_names:
                    raise UserError(
                        f"data.label_names must name all labels of {self.file}; "
                        f"it lacks {shown(label)}: add it"
                    )
                example = {"text": row["text"], "label": self.label_names[label]}
                yield example | {name: row[name] for name in extra}

    def fingerprint(self) -> str:
        how = [self.sha256, self.rows, self.text_column, self.label_column, self.label_names]
        return hashlib.sha256(json.dumps(how, sort_keys=True).encode()).hexdigest()

    def provenance(self) -> Provenance:
        origin = f"{self.file} of the package {self.package} {self.version}, from the Python index"
        return Provenance(self.name, origin, self.licence, self.citation)

    def _columns(self) -> dict[str, str]:
        filters = {f"rows.{column}": column for column in self.rows}
        return {"text": self.text_column, "label": self.label_column, **filters}

    def _path(self) -> Path:
        return find_packaged_file(self.name, self.package, self.version, self.file, self.sha256)
