"""Files that a run wrote, damaged in any way: one line with the file and the remedy."""

from __future__ import annotations

import errno
import tokenize
import zipfile
import zlib
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.core.errors import UserError
from pipelines.core.saved_files import (
    LONGEST,
    DamagedError,
    read_json,
    read_json_lines,
    read_yaml,
    reading,
)

BOMB = "\n".join(
    ["a: &a [x, x, x, x, x, x, x, x, x]"]
    + [f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]" for old, new in pairwise("abcdefghi")]
)
"""YAML of 400 bytes that stands for 9^9 values."""


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize("read", [read_json, read_yaml])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(content=st.binary() | st.text('{}[]":,&*!a1 \n-').map(str.encode))
def test_whatever_the_bytes_a_value_comes_or_a_line(read, content: bytes, tmp_path: Path) -> None:
    path = write(tmp_path / "a", content)
    message = ""
    try:
        read(path, "make it again")
    except DamagedError as error:
        message = str(error)
    if message:
        assert message.startswith(f"{path} is damaged (")
        assert message.endswith("): make it again")
        assert "\n" not in message
        assert len(message) < LONGEST + len(str(path)) + 60


@pytest.mark.parametrize(
    ("read", "content"),
    [
        (read_json, "[" * 100_000),
        (read_json, '{"a": ' * 100_000),
        (read_json, "9" * 5_000),
        (read_yaml, "[" * 10_000),
        (read_yaml, BOMB),
        (read_yaml, "a: &a [*a]"),
        (read_yaml, "!!python/object/apply:os.system [true]"),
        (read_yaml, "\x00"),
    ],
    ids=["deep list", "deep object", "long number", "deep YAML", "bomb", "circle", "code", "NUL"],
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
