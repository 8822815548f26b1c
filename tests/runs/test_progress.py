"""The lines of a progress bar without a terminal."""

from __future__ import annotations

import itertools
import logging

import pytest

from pipelines.runs import progress
from pipelines.runs.progress import Bar, format_rate


@pytest.mark.parametrize(
    ("rate", "text"),
    [
        (1234.4, "1,234/s"),
        (10.0, "10/s"),
        (2.54, "2.5/s"),
        (0.5, "2.0 s each"),
        (1 / 151, "2 min 31 s each"),
        (0.0, "0.0/s"),
    ],
)
def test_a_rate_below_one_a_second_is_shown_as_seconds_each(rate: float, text: str) -> None:
    assert format_rate(rate) == text


def test_a_line_has_the_count_the_rate_and_the_time_left(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = itertools.chain([0.0], itertools.repeat(40.0))
    monkeypatch.setattr(progress.time, "perf_counter", lambda: next(now))
    caplog.set_level(logging.INFO)
    with Bar("sweep", 12, "trials", done=4) as bar:
        bar.advance(2)
    assert caplog.messages[0] == "sweep: 6/12 trials · 20.0 s each · 2 min 00 s left"


def test_a_line_without_progress_has_no_time_left(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", -1.0)
    caplog.set_level(logging.INFO)
    with Bar("sweep", 12, "trials") as bar:
        bar.advance(0)
        bar.advance(12)  # which the last line says
    assert caplog.messages[0] == "sweep: 0/12 trials · 0.0/s"
    assert caplog.messages[1].startswith("sweep: 12 trials in ")
