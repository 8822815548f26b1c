"""A reader of files, as fuzzing knows it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from formats import Format

from pipelines.core.errors import UserError


class Reader(NamedTuple):
    """One file that a program reads.

    name     as in the table of results.
    path     where the file is, with whatever else must be there beside it.
    format   of the file.
    read     reads it and uses what it got.
    cost     how many times as long as others it takes, about.
    told     errors that are the reader's way of saying that it can't read the file.
    """

    name: str
    path: Path
    format: Format
    read: Callable[[], object]
    cost: int = 1
    told: tuple[type[Exception], ...] = (UserError,)
