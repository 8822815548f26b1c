"""Ctrl-C and signals: the first one ends the work at the next safe point, the second at once.

Job managers send SIGTERM before they end a job. Slurm can send SIGUSR1 some time before that
(sbatch --signal=USR1@60).
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import NoReturn

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)

Handler = Callable[[int, FrameType | None], object] | int | signal.Handlers | None


class GracefulExit(KeyboardInterrupt):
    """A signal has ended the work, and all is saved. The message says how to resume."""

    def __init__(self, message: str = "", number: int = signal.SIGINT):
        super().__init__(message)
        self.number = number


def exit_code(interruption: KeyboardInterrupt) -> int:
    """128 plus the signal's number, as shells have it: 130 for Ctrl-C, 143 for SIGTERM."""
    return 128 + signal_number(interruption)


def signal_number(interruption: KeyboardInterrupt) -> int:
    return interruption.number if isinstance(interruption, GracefulExit) else signal.SIGINT


EXIT_SECONDS = 10.0
"""Seconds that a process has to end once a signal has ended its work."""


def exit_soon(code: int) -> NoReturn:
    """Exits, and doesn't wait for long for other threads, which may be blocked for ever."""
    deadline = threading.Timer(EXIT_SECONDS, os._exit, [code])
    deadline.daemon = True
    deadline.start()
    sys.exit(code)


class Interruption:
    """In its `with` block the first signal sets `requested` instead of raising an exception."""

    def __init__(self) -> None:
        self.requested: int | None = None

    def __enter__(self) -> Interruption:
        self.previous: dict[int, Handler] = {}
        for number in SIGNALS:
            try:
                self.previous[number] = signal.signal(number, self._handle)
            except ValueError:  # not the main thread: signals belong to others
                break
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested is not None:
            raise GracefulExit(number=number)
        self.requested = number


def sigterm_as_interrupt() -> None:
    """Makes the other signals raise KeyboardInterrupt like Ctrl-C, so that `finally` blocks run."""

    def handle(number: int, frame: FrameType | None) -> None:
        raise GracefulExit(number=number)

    for number in SIGNALS[1:]:
        signal.signal(number, handle)
