"""Files that a run wrote, damaged in any way: one line with the file and the remedy."""

from __future__ import annotations

import errno
import os
import tokenize
import zipfile
import zlib
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest

from pipelines.core import saved_files
from pipelines.core.errors import UserError
from pipelines.core.saved_files import (
    LONGEST,
    DamagedError,
    read_json,
    read_json_lines,
    read_yaml,
    reading,
    typed,
)

BOMB = "\n".join(
    ["a: &a [x, x, x, x, x, x, x, x, x]"]
    + [f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]" for old, new in pairwise("abcdefghi")]
)
"""YAML of 400 bytes that stands for 9^9 values."""


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    ("read", "content"),
    [
        (read_json, "[" * 100_000),
        (read_json, '{"a": ' * 100_000),
        (read_json, "[" * 66 + "]" * 66),
        (read_json, r'["\ud800"]'),
        (read_yaml, r'["\ud800"]'),
        (read_json, "9" * 5_000),
        (read_yaml, "[" * 10_000),
        (read_yaml, BOMB),
        (read_yaml, "a: &a [*a]"),
        (read_yaml, "!!python/object/apply:os.system [true]"),
        (read_yaml, "\x00"),
    ],
    ids=[
        "deep list",
        "66 lists",
        "half a character",
        "half a character in YAML",
        "deep object",
        "long number",
        "deep YAML",
        "bomb",
        "circle",
        "code",
        "NUL",
    ],
)
def test_what_would_take_all_memory_or_run_code_is_damage(
    read, content: str, tmp_path: Path
) -> None:
    with pytest.raises(DamagedError, match="make it again"):
        read(write(tmp_path / "a", content), "make it again")


def test_more_than_can_be_meant_is_not_read(tmp_path: Path) -> None:
    assert read_json(write(tmp_path / "a", '"12345678"'), "", most=10) == "12345678"
    with pytest.raises(DamagedError, match="it has 11 bytes, more than 10"):
        read_json(write(tmp_path / "a", '"123456789"'), "", most=10)


@pytest.mark.parametrize(
    "error",
    [
        OSError("x"), ValueError("x"), KeyError("x"), AttributeError("x"), EOFError("x"),
        NotImplementedError("x"), RecursionError("x"), AssertionError("x"), MemoryError("x"),
        zipfile.BadZipFile("x"), zlib.error("x"), tokenize.TokenError("x"),
    ],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
def test_all_that_libraries_raise_is_damage(error: Exception, tmp_path: Path) -> None:
    told = pytest.raises(DamagedError, match=r"a is damaged \('?x'?\): mend it")
    with told, reading(tmp_path / "a", "mend it"):
        raise error


def test_errors_without_words_are_named(tmp_path: Path) -> None:
    with pytest.raises(DamagedError, match=r"\(EOFError\)"), reading(tmp_path / "a", ""):
        raise EOFError


def test_what_is_not_there_and_what_was_said_already_stay_as_they_are(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "none", "")
    with pytest.raises(UserError, match=r"^said$"), reading(tmp_path / "a", ""):
        raise UserError("said")
    for number in (errno.EMFILE, errno.EACCES, errno.ENOTDIR):
        with pytest.raises(OSError, match=r"^\[Errno"), reading(tmp_path / "a", ""):
            raise OSError(number, "of the system")


def test_defects_and_interruptions_are_no_damage(tmp_path: Path) -> None:
    with pytest.raises(NameError), reading(tmp_path / "a", ""):
        raise NameError
    with pytest.raises(KeyboardInterrupt), reading(tmp_path / "a", ""):
        raise KeyboardInterrupt


@pytest.mark.parametrize("line", [b"{", b"[]", b"3", b"\xff"])
def test_lines_are_objects_or_damage(line: bytes, tmp_path: Path) -> None:
    path = write(tmp_path / "history", b'{"a": 1}\n' + line)
    found = read_json_lines(path, "again")
    assert next(found) == {"a": 1}
    with pytest.raises(DamagedError, match="history is damaged"):
        next(found)


def test_a_message_is_short_whatever_the_library_says(tmp_path: Path) -> None:
    with pytest.raises(DamagedError) as error, reading(tmp_path / "a", "mend it"):
        raise ValueError("x\n" * 10_000)
    assert "\n" not in str(error.value)
    assert str(error.value).endswith("…): mend it")
    assert len(str(error.value)) < LONGEST + len(str(tmp_path)) + 60


def test_a_line_without_an_end_is_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saved_files, "MOST_LINE", 9)
    assert list(read_json_lines(write(tmp_path / "a", '{"a":12}\n{}'), "")) == [{"a": 12}, {}]
    with pytest.raises(DamagedError, match="more than 9 bytes"):
        list(read_json_lines(write(tmp_path / "a", '{"a":123}\n'), ""))


@pytest.mark.parametrize("read", [read_json, read_yaml, lambda *_: list(read_json_lines(*_))])
def test_a_pipe_is_not_waited_for(read, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a")
    with pytest.raises(DamagedError, match="it is a pipe"):
        read(tmp_path / "a", "make it again")


@dataclass(frozen=True)
class Part:
    names: list[str]
    size: int | None = None


def test_values_are_of_the_type_or_the_first_that_is_not_is_named() -> None:
    assert typed(list[Part], [{"names": ["a"], "of a later version": 1}]) == [Part(["a"])]
    for wrong, place in [
        ({}, "it:"),
        ([{"names": ["a"]}, {"names": "a"}], r"1\.names:"),
        ([{"names": ["a", 2]}], r"0\.names\.1:"),
        ([{"names": [], "size": 0.5}], r"0\.size:"),
    ]:
        with pytest.raises(ValueError, match=f"^{place}"):
            typed(list[Part], wrong)
