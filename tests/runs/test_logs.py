"""Where log messages go in modes without a run directory of their own."""

from __future__ import annotations

import io
import logging
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.runs.logs import StderrHandler, log_only_to_stderr, stop_logging_to_files


@pytest.fixture(autouse=True)
def root(tmp_path: Path) -> Iterator[logging.Logger]:
    """The root logger with a terminal and a file, as Hydra sets it up."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    file = logging.FileHandler(tmp_path / "run.log", delay=True)
    root.handlers[:] = [StderrHandler(), file]
    root.setLevel(logging.INFO)
    yield root
    file.close()
    root.handlers[:] = handlers
    root.setLevel(level)


def test_messages_go_to_what_stderr_is_at_the_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    streams = [io.StringIO(), io.StringIO()]
    for number, stream in enumerate(streams):
        monkeypatch.setattr(sys, "stderr", stream)
        logging.info("message %d", number)
    assert [stream.getvalue() for stream in streams] == ["message 0\n", "message 1\n"]


def test_a_server_logs_lines_with_their_time_and_no_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    log_only_to_stderr()
    logging.info("message")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d [\d:,]+ INFO message\n", stream.getvalue())
    assert not list(tmp_path.iterdir())


def test_the_terminal_stays_when_logging_to_files_stops(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    stop_logging_to_files()
    logging.info("message")
    assert stream.getvalue() == "message\n"
    assert not list(tmp_path.iterdir())
