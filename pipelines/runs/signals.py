"""Ctrl-C and signals: asked once, the work ends at the next safe point; asked twice, at once.

SIGTERM is what job managers send before they end a job, SIGUSR1 what Slurm can be told to send some
time before (sbatch --signal=USR1@60).
"""

from __future__ import annotations

import signal
from types import FrameType, TracebackType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class Stopped(KeyboardInterrupt):
    """A signal asked to stop, and all is saved. The message says how to go on."""

    def __init__(self, message: str = "", number: int = signal.SIGINT):
        super().__init__(message)
        self.number = number


def exit_code(interruption: KeyboardInterrupt) -> int:
    """128 and the signal's number, as shells and job managers have it: 130 Ctrl-C, 143 SIGTERM."""
    return 128 + number(interruption)


def number(interruption: KeyboardInterrupt) -> int:
    """Of the signal."""
    return interruption.number if isinstance(interruption, Stopped) else signal.SIGINT


class Interruption:
    """While it is entered, the first signal becomes `requested` instead of raising."""

    def __init__(self) -> None:
        self.requested: int | None = None

    def __enter__(self) -> Interruption:
        self.previous: dict[int, Any] = {}
        for number in SIGNALS:
            try:
                self.previous[number] = signal.signal(number, self._handle)
            except ValueError:  # not the main thread: signals are somebody else's
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
            raise Stopped(number=number)
        self.requested = number


def sigterm_as_interrupt() -> None:
    """Makes the other signals raise KeyboardInterrupt too, so that what is half-written goes."""

    def handle(number: int, frame: FrameType | None) -> None:
        raise Stopped(number=number)

    for number in SIGNALS[1:]:
        signal.signal(number, handle)
