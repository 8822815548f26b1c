"""Files and columns that settings name."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path

from pipelines.core.errors import UserError


def expand_home(path: str) -> Path:
    """The path, with ~ expanded to the home folder."""
    return Path(os.path.expanduser(path))  # Path.expanduser raises RuntimeError for "~nobody"


def digest(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def find_parts(
    files: Iterable[Path],
    names_of: Callable[[Path], Collection[str]],
    part_names: Mapping[str, Collection[str]],
    folder: Path,
) -> dict[str, Path]:
    """Of a folder's files, those that are a part each, by the part.

    names_of    the words of a file's name that may say its part.
    part_names  those words, for each part.

    UserError if two files are one part.
    """
    found: dict[str, Path] = {}
    for part, words in part_names.items():
        matches = [file for file in files if not set(names_of(file)).isdisjoint(words)]
        if len(matches) > 1:
            which = " and ".join(file.name for file in matches)
            raise UserError(
                f"data.path: {folder} must hold one {part} file; it holds {which}: rename one"
            )
        if matches:
            found[part] = matches[0]
    return found


def check_files_differ(paths: Iterable[Path], settings: str) -> None:
    """Raises UserError if two paths lead to one file; `settings` are what named them."""
    paths = list(paths)
    if len({path.resolve() for path in paths}) < len(paths):
        raise UserError(
            f"{settings} must be different files; two of them are the same: give another, or null"
        )


def check_columns_differ(columns: Mapping[str, str | int]) -> None:
    """Raises UserError if two settings data.<key>_column name one column."""
    if len(set(columns.values())) < len(columns):
        settings = " and ".join(f"data.{key}_column" for key in columns)
        received = ", ".join(repr(column) for column in dict.fromkeys(columns.values()))
        raise UserError(
            f"{settings} must differ; both are {received}: give the columns of the "
            f"{' and of the '.join(columns)}"
        )
