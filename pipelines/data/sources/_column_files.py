"""The base of sources whose files have one example a row, and values in columns."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from models.settings import Whole, settings
from pipelines.core.contracts import FieldSpec, Provenance, RowIssues
from pipelines.core.errors import UserError
from pipelines.core.types import Example
from pipelines.data.sources._named import (
    check_columns_differ,
    check_files_differ,
    digest,
    expand_home,
    find_parts,
)
from pipelines.data.sources._row_source import RowSource
from pipelines.data.sources.rows import (
    EXTENSIONS,
    Columns,
    Dialect,
    check_columns,
    check_extra_columns,
    check_file,
    column_names,
    extension,
    read_rows,
    resolve_delimiter,
    unreadable_error,
)

Column = str | Whole
"""A name in the header; or a position, counted from 0, in CSV and TSV without a header."""

_STEMS = {
    "train": ("train",),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test",),
}


@settings
class ColumnFiles(RowSource):
    r"""CSV, TSV, JSON Lines or Parquet. Other columns of a file are ignored.

    A subclass has `columns`, and for each a setting <name>_column: the column in the file.

    name             shown in the report; null for the path's last part.
    path             a file, which we divide; or a folder with train.*, test.* and any of
                     validation.*, valid.*, val.*, dev.*; or the training file, where
                     validation_path or test_path is given.
    delimiter        between the fields of CSV and TSV: comma, semicolon, tab, pipe, or any one
                     character; null for the extension's.
    quoting          false where double quotes are plain characters, as in many TSV files.
    """

    name: str | None
    path: str | None
    validation_path: str | None
    test_path: str | None
    delimiter: str | None
    quoting: bool
    licence: str | None
    citation: str | None

    labels: ClassVar[tuple[str, ...]] = ()
    """Those of `columns` that are labels; see `read_rows`."""

    def check(self) -> None:
        names = self._names()
        check_columns_differ(names)
        dialect = self._dialect()
        files = self._files()
        for path in files.values():
            check_columns(path, names, dialect)
        check_files_differ(files.values(), "data.path, data.validation_path and data.test_path")

    def parts(self) -> tuple[str, ...]:
        return tuple(self._files())

    def read(self, part: str, issues: RowIssues) -> Iterator[Example]:
        return self.read_with(part, issues, ())

    def further_columns(self) -> tuple[str, ...]:
        read = self._names().values()
        if any(isinstance(column, int) for column in read):
            return ()  # there is no header
        path = next(iter(self._files().values()))
        return tuple(name for name in column_names(path, self._dialect()) if name not in read)

    def check_extra(self, names: Sequence[str]) -> None:
        for path in self._files().values():
            check_extra_columns(path, names, self._dialect())

    def read_with(self, part: str, issues: RowIssues, extra: Sequence[str]) -> Iterator[Example]:
        names = self._names() | {name: name for name in extra}
        columns = Columns(names, labels=(*self.labels, *extra))
        return read_rows(self._files()[part], columns, issues, self._dialect())

    def fingerprint(self) -> str:
        files = {part: (extension(path), digest(path)) for part, path in self._files().items()}
        how = [*self._names().values(), self.delimiter, self.quoting]
        return hashlib.sha256(json.dumps([files, how]).encode()).hexdigest()

    def provenance(self) -> Provenance:
        return Provenance(
            name=self.name or Path(self.path or "").name,
            origin=", ".join(str(path) for path in self._files().values()),
            licence=self.licence or "not stated",
            citation=self.citation or "not stated",
        )

    def read_inputs(
        self, path: Path, fields: Mapping[str, FieldSpec], issues: RowIssues
    ) -> Iterator[Example]:
        names: dict[str, str | int] = {column: self._names()[column] for column in fields}
        if extension(path) == ".txt" and self.delimiter is None:
            names = {column: column for column in fields}
        return read_rows(path, Columns(names, fields=fields), issues, self._dialect())

    def _names(self) -> dict[str, str | int]:
        return {column: getattr(self, f"{column}_column") for column in self.columns}

    def _dialect(self) -> Dialect:
        return Dialect(resolve_delimiter(self.delimiter), self.quoting)

    def _files(self) -> dict[str, Path]:
        """The file of each part; only {"all": …} if there is a single file, which we divide."""
        if self.path is None:
            raise UserError("data.path must be given: data.path=FILE, or a folder with train.csv")
        path = expand_home(self.path)
        files = _in_folder(path) if os.path.isdir(path) else {"train": path}
        paths = {"validation": self.validation_path, "test": self.test_path}
        for part, part_path in paths.items():
            if part_path is not None:
                files[part] = expand_home(part_path)
        for part, file in files.items():
            check_file(file, "data.path" if paths.get(part) is None else f"data.{part}_path")
        return files if len(files) > 1 else {"all": files["train"]}


def _in_folder(folder: Path) -> dict[str, Path]:
    try:
        names = sorted(file for file in folder.iterdir() if extension(file) in EXTENSIONS)
    except OSError as error:
        raise unreadable_error(folder, error) from None
    files = find_parts(names, lambda file: [file.name.lower().partition(".")[0]], _STEMS, folder)
    if "train" not in files:
        holds = ", ".join(file.name for file in names[:5]) or "no file of a known format"
        raise UserError(
            f"data.path: a folder must hold train.csv, .tsv, .jsonl or .parquet; {folder} holds "
            f"{holds}: rename the training file, or give its own path"
        )
    return files
