"""A message is one short line, whatever names and values are in it."""

from __future__ import annotations

import pickle

import pytest

from pipelines.core.errors import LONGEST, UserError, shown


@pytest.mark.parametrize(
    ("message", "line"),
    [
        ("a\nb\r\nc", "a b c"),
        ("red \x1b[31m", "red \\x1b[31m"),
        ("half \ud800", "half \\ud800"),
        ("turned \u202e", "turned \\u202e"),
        ("日本 ü – it’s whole", "日本 ü – it’s whole"),
    ],
)
def test_a_message_is_one_line_that_a_terminal_can_show(message: str, line: str) -> None:
    assert str(UserError(message)) == line
    assert str(pickle.loads(pickle.dumps(UserError(message)))) == line


def test_a_long_message_keeps_its_beginning_and_its_end() -> None:
    message = str(UserError(f"path {'x' * 100_000}: do this"))
    assert message.startswith("path xx")
    assert message.endswith("xx: do this")
    assert len(message) <= LONGEST + 3


def bomb(levels: int) -> list[object]:
    value: list[object] = ["x"]
    for _ in range(levels):
        value = [value] * 9
    return value


@pytest.mark.parametrize(
    "value",
    [bomb(60), 10**6000, "x" * 10**6, dict.fromkeys(range(99), "y" * 999)],
    ids=["bomb", "number", "text", "mapping"],
)
def test_what_is_shown_of_a_value_is_short(value: object) -> None:
    assert len(shown(value)) < 800


def test_a_short_value_is_shown_whole() -> None:
    for value in (1.5, None, True, "a", ["a", 1], {"a": [0]}, 2**200):
        assert shown(value) == repr(value)
