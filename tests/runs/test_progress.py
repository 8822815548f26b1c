"""What a bar's lines say where there is no terminal."""

from __future__ import annotations

import itertools
import logging

import pytest

from pipelines.runs import progress
from pipelines.runs.progress import Bar, pace


@pytest.mark.parametrize(
    ("rate", "told"),
    [
        (1234.4, "1,234/s"),
        (10.0, "10/s"),
        (2.54, "2.5/s"),
        (0.5, "2.0 s each"),
        (1 / 151, "2 min 31 s each"),
        (0.0, "0.0/s"),
    ],
)
def test_what_takes_longer_than_a_second_is_told_in_seconds_each(rate: float, told: str) -> None:
    assert pace(rate) == told


def test_a_line_has_what_is_done_how_fast_and_the_time_left(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = itertools.chain([0.0], itertools.repeat(40.0))
    monkeypatch.setattr(progress.time, "perf_counter", lambda: next(now))
    caplog.set_level(logging.INFO)
    with Bar("sweep", 12, "trials", done=4) as bar:
        bar.advance(2)
    assert caplog.messages[0] == "sweep: 6/12 trials · 20.0 s each · 2 min 00 s left"


def test_a_line_of_nothing_done_says_no_time(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", -1.0)
    caplog.set_level(logging.INFO)
    with Bar("sweep", 12, "trials") as bar:
        bar.advance(0)
        bar.advance(12)  # which the last line says
    assert caplog.messages[0] == "sweep: 0/12 trials · 0.0/s"
    assert caplog.messages[1].startswith("sweep: 12 trials in ")
