"""Ctrl-C and SIGTERM: asked once, the work ends at the next safe point; asked twice, at once."""

from __future__ import annotations

import signal
from types import FrameType, TracebackType
from typing import Any


class Interruption:
    """While it is entered, a signal sets `requested` instead of raising, unless it comes again."""

    def __init__(self) -> None:
        self.requested = False

    def __enter__(self) -> Interruption:
        self.previous: dict[int, Any] = {}
        for number in (signal.SIGINT, signal.SIGTERM):
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
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True


def terminate_like_ctrl_c() -> None:
    """Makes SIGTERM raise KeyboardInterrupt, so that what is half-written is cleaned up."""

    def handle(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, handle)
