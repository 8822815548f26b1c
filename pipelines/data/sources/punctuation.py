"""Marks and capitals to be restored: texts of any kind, whose punctuation is taken away."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Literal

from models.settings import Count, settings
from pipelines.core.contracts import FieldSpec, Provenance, RowIssues, Source, parse_object
from pipelines.core.errors import UserError
from pipelines.core.types import Example
from pipelines.data.sources._named import digest, expand_home
from pipelines.data.sources._packaged import Sha256, find_packaged_file
from pipelines.data.sources._punctuated import passages, take_away
from pipelines.data.sources.rows import (
    Columns,
    check_columns,
    check_exists,
    extension,
    read_rows,
)


@settings
class Punctuation(Source):
    """A passage of a text is a list of words in lower case, with a tag for each.

    path         null for the embedded film reviews; or a file of texts: a text a line, or a column
                 of CSV, TSV, JSON Lines or Parquet.
    text_column  of those.
    every        one text of so many is read.
    division     how passages are best divided: what prepare.division is unless it is given.
    package, version, file, sha256, rows  of the embedded reviews, as of data=imdb.
    """

    format: Literal["punctuation"]
    name: str | None
    path: str | None
    text_column: str
    every: Count
    division: Literal["hash", "blocks"]
    package: str
    version: str
    file: str
    sha256: Sha256
    rows: dict[str, str]
    licence: str | None
    citation: str | None

    columns = ("tokens", "tags")

    def check(self) -> None:
        check_columns(self._path(), self._names())
        if not any(islice(self.read("all", RowIssues()), 1)):
            raise UserError(
                f"{self._path()} must hold texts with marks such as a full stop; it has none"
            )

    def parts(self) -> tuple[str, ...]:
        return ("all",)

    def read(self, part: str, issues: RowIssues) -> Iterator[Example]:
        conditions = list(self.rows.items()) if self.path is None else []
        texts = (
            row["text"]
            for row in read_rows(self._path(), Columns(self._names()), issues)
            if all(row[f"rows.{column}"] == value for column, value in conditions)
        )
        for text in islice(texts, 0, None, self.every):
            for words, tags in passages(text):
                yield {"tokens": words, "tags": tags}

    def fingerprint(self) -> str:
        content = self.sha256 if self.path is None else digest(self._path())
        how = [content, self.rows, self.text_column, self.every, extension(self._path())]
        return hashlib.sha256(json.dumps(how, sort_keys=True).encode()).hexdigest()

    def provenance(self) -> Provenance:
        path = self._path()
        name, origin = path.name, str(path)
        if self.path is None:
            name = "punctuation"
            origin = f"{self.file} of the package {self.package} {self.version}"
        return Provenance(
            self.name or name,
            origin,
            self.licence or "not stated",
            self.citation or "not stated",
        )

    def read_inputs(
        self, path: Path, fields: Mapping[str, FieldSpec], issues: RowIssues
    ) -> Iterator[Example]:
        """Texts, a line each or in a column: what marks and capitals they have is taken away."""
        column = {"text": self.text_column}
        for row in read_rows(path, Columns(column), issues):
            yield self.parse_input(row["text"], fields)

    def parse_input(self, text: str, fields: Mapping[str, FieldSpec]) -> Example:
        if text.lstrip().startswith("{"):
            return parse_object(text, fields)
        words = [word for word, _ in take_away(text)]
        if not words:
            raise UserError("an input must be a text, with a word at least; received none")
        return {"tokens": words}

    def _names(self) -> dict[str, str | int]:
        filters = self.rows if self.path is None else {}
        return {"text": self.text_column, **{f"rows.{column}": column for column in filters}}

    def _path(self) -> Path:
        if self.path is None:
            name = self.name or "punctuation"
            return find_packaged_file(name, self.package, self.version, self.file, self.sha256)
        check_exists(path := expand_home(self.path), "data.path")
        return path
