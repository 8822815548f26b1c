"""Where log messages go: a run's log file, the terminal, or a server's standard error.

Hydra sets up the handlers of the root logger, as conf/hydra/job_logging/ says: the terminal, and
run.log in the run's directory. Modes without a run directory of their own change that here.
"""

from __future__ import annotations

import logging
import sys

from pipelines.core.plain_text import show_controls


class PlainFormatter(logging.Formatter):
    """As logging's own, but what comes from data drives no terminal, nor when the log is shown."""

    def format(self, record: logging.LogRecord) -> str:
        return show_controls(super().format(record))


class StderrHandler(logging.Handler):
    """Writes to what `sys.stderr` is at the moment.

    While a progress bar is drawn, that is a stream which puts messages above the bar.
    """

    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), file=sys.stderr, flush=True)


def log_only_to_stderr() -> None:
    """Logs to standard error only, each line with its time, as a server does."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(PlainFormatter("%(asctime)s %(levelname)s %(message)s"))
    logging.getLogger().handlers[:] = [handler]


def stop_logging_to_files() -> None:
    """Removes log files: a directory that is the user's or the chief's gets no run.log."""
    root = logging.getLogger()
    for handler in list(root.handlers):
        if isinstance(handler, logging.FileHandler):
            root.removeHandler(handler)
