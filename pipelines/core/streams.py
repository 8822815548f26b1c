"""Standard input, output and error, also where whoever started the program has closed them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from pipelines.core.files import naming

STDIN, STDOUT = "standard input", "standard output"


def open_closed_streams() -> None:
    """Gives each stream that is closed a file of its own, so that no other file gets its number.

    What is read from standard input or written to standard output then fails, since it would be
    missing; messages to standard error go nowhere, as was asked for.
    """
    if sys.stdin is None:
        sys.stdin = os.fdopen(os.open(os.devnull, os.O_WRONLY), "r", encoding="utf-8")
    if sys.stdout is None:
        sys.stdout = os.fdopen(os.open(os.devnull, os.O_RDONLY), "w", encoding="utf-8")
    if sys.stderr is None:
        sys.stderr = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w", encoding="utf-8")


@contextmanager
def flushed_output() -> Iterator[None]:
    """Flushes standard output at the end, whatever ended the block, so that an error is told.

    What can't be written is dropped: else Python would try once more when it exits.
    """
    try:
        try:
            yield
        finally:
            with naming(STDOUT):
                sys.stdout.flush()
    except OSError as error:
        if error.filename == STDOUT:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise
