"""What counts as not having held, by readers that do just that."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import judging
import numpy as np
import pytest
from formats import BINARY
from judging import RESULT, TOLD, NotHeldError, judge, try_inputs
from reader import Reader

from pipelines.core.errors import UserError
from pipelines.core.saved_files import DamagedError


def reader(path: Path, read: Callable[[], object]) -> Reader:
    return Reader("a", path / "a", BINARY, read)


def tell(error: Exception) -> Callable[[], object]:
    def read() -> object:
        raise error

    return read


def test_a_result_and_a_line_are_fine(tmp_path: Path) -> None:
    made = reader(tmp_path, lambda: (tmp_path / "a").read_bytes())
    assert judge(made, b"x") == RESULT
    assert made.read() == b"x"
    assert judge(reader(tmp_path, tell(DamagedError("a is damaged: mend it"))), b"") == TOLD


def long_message() -> UserError:
    error = UserError("x")
    error.args = ("x" * 3000,)
    return error


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (KeyError("x"), "KeyError in test_judging.py, read"),
        (MemoryError(), "MemoryError"),
        (FileNotFoundError(2, "no file"), "FileNotFoundError"),
        (UserError(""), "message of 0 characters"),
        (long_message(), "message of 3,000 characters"),
    ],
)
def test_other_errors_and_long_messages_are_not(
    error: Exception, said: str, tmp_path: Path
) -> None:
    with pytest.raises(NotHeldError, match=f"^{said}"):
        judge(reader(tmp_path, tell(error)), b"")


def test_computing_without_end_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judging, "SECONDS", 0.2)

    def hang() -> None:
        while True:
            try:
                np.zeros(10).sum()
            except Exception:
                continue

    with pytest.raises(NotHeldError, match="no end"):
        judge(reader(tmp_path, hang), b"")


def test_memory_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # More than the process has ever had, whatever ran before.
    room = judging._peak() - judging._resident() + (150 << 20)
    monkeypatch.setattr(judging, "MOST_MEMORY", room - (50 << 20))
    assert judge(reader(tmp_path, lambda: None), b"") == RESULT
    with pytest.raises(NotHeldError, match="GB of memory"):
        judge(reader(tmp_path, lambda: np.ones(room, np.uint8)), b"")


def test_the_same_seed_gives_the_same_inputs() -> None:
    from damage import KINDS

    def inputs(first: int) -> list[bytes]:
        made: list[bytes] = []
        try_inputs(KINDS["bits flipped"](b"0123456789", BINARY), 9, first, made.append)
        return made

    assert inputs(1) == inputs(1)
    assert inputs(1) != inputs(2)
