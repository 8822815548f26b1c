"""Files and columns that settings name."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from pipelines.core.errors import UserError


def expand_home(path: str) -> Path:
    """The path, with ~ expanded to the home folder."""
    return Path(os.path.expanduser(path))  # Path.expanduser raises RuntimeError for "~nobody"


def digest(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
