"""Progress of long work: a live bar on a terminal, otherwise a line in the log now and then."""

from __future__ import annotations

import logging
import sys
import time
from types import TracebackType

from pipelines.core.formatting import duration

log = logging.getLogger(__name__)

SECONDS_BETWEEN_LINES = 15.0


def format_rate(rate: float) -> str:
    """A rate in units a second: "1,234/s", "2.5/s", or "48.3 s each" below one a second."""
    if 0 < rate < 1:
        return f"{duration(1 / rate)} each"
    return f"{rate:,.{0 if rate >= 10 else 1}f}/s"


class Bar:
    """A progress bar: units done, of a total if it is known, with the rate and the time left.

    Use it as a context manager. `advance` may have values to show next to the bar. With shows=False
    it only counts.
    """

    def __init__(
        self, title: str, total: int | None, unit: str, done: int = 0, *, shows: bool = True
    ):
        self.title, self.total, self.unit = title, total, unit
        self.done = self.first = done
        self.shown = ""
        self.shows = shows
        self.live = shows and sys.stderr.isatty()

    def __enter__(self) -> Bar:
        self.start = self.last_line = time.perf_counter()
        if self.live:
            self._open_bar()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.live:
            self.bar.stop()
        if kind is None and self.shows:
            seconds = time.perf_counter() - self.start
            log.info(
                "%s: %s %s in %.1f s%s",
                self.title,
                f"{self.done:,}",
                self.unit,
                seconds,
                self.shown,
            )

    def advance(self, count: int = 1, **values: float) -> None:
        """Adds to the units done. Values are shown as "loss 0.412"."""
        self.done += count
        if values:
            parts = (f" · {name.replace('_', ' ')} {value:.4g}" for name, value in values.items())
            self.shown = "".join(parts)
        if self.live:
            self.bar.update(
                self.task, completed=self.done, shown=self.shown, pace=format_rate(self._rate())
            )
        elif self.shows and self._line_is_due():
            self.last_line = time.perf_counter()
            log.info("%s", self._line())

    def _line_is_due(self) -> bool:
        """Whether to log progress. Completion has a line of its own."""
        seconds = time.perf_counter() - self.last_line
        return seconds > SECONDS_BETWEEN_LINES and self.done != self.total

    def _rate(self) -> float:
        return (self.done - self.first) / max(time.perf_counter() - self.start, 1e-9)

    def _line(self) -> str:
        rate = self._rate()
        if self.total is None:
            return f"{self.title}: {self.done:,} {self.unit} · {format_rate(rate)}{self.shown}"
        time_left = f" · {duration((self.total - self.done) / rate)} left" if rate else ""
        return (
            f"{self.title}: {self.done:,}/{self.total:,} {self.unit} · {format_rate(rate)}"
            f"{time_left}{self.shown}"
        )

    def _open_bar(self) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn(f"{self.unit} · {{task.fields[pace]}}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[shown]}"),
            console=Console(stderr=True),
            transient=True,
        )
        self.task = self.bar.add_task(
            self.title, total=self.total, completed=self.done, shown="", pace=""
        )
        self.bar.start()
