"""Files as people name them in settings."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

from pipelines.contracts import UserError


def named(given: str) -> Path:
    return Path(os.path.expanduser(given))  # Path.expanduser raises RuntimeError for "~nobody"


def digest(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_different(paths: Iterable[Path], settings: str) -> None:
    """Raises UserError if two paths lead to one file; `settings` are what named them."""
    paths = list(paths)
    if len({path.resolve() for path in paths}) < len(paths):
        raise UserError(
            f"{settings} must be different files; two of them are the same: give another, or null"
        )
