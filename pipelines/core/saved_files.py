"""Reading what was saved: a damaged file, whatever is wrong with it, is told in one line.

Libraries raise some thirty kinds of errors for damaged content, and none says which. What reads a
file that this program wrote does so through `reading`, and needs no list of errors of its own.
What the file's values must be is said by a type, which `typed` checks.
"""

from __future__ import annotations

import errno
import functools
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, TypeVar, cast

import yaml
from pydantic import TypeAdapter, ValidationError

from pipelines.core.errors import UserError
from pipelines.core.files import special_kind
from pipelines.core.types import Json, JsonObject

DEFECTS = (NameError, ImportError)
"""Errors that no content leads to. All others may be of it: a library's AssertionError, and also
MemoryError, since a few bytes may claim to stand for terabytes.
"""

OF_CONTENT = (None, errno.EINVAL, errno.EOVERFLOW)
"""Numbers of an OSError that damaged content leads to: of h5py, and of places no file has.

Others are the system's, such as that a file isn't there, or may not be read.
"""

MOST_BYTES = 32 << 20
"""Of a file that is read whole, where nothing else is said: in memory it takes up to 25 times that.
"""

MOST_YAML = 1 << 18
"""As MOST_BYTES: YAML takes ten seconds for a megabyte, and holds settings."""

MOST_LINE = 16 << 20
"""Bytes of a line."""

MOST_DEPTH = 64
"""Levels of nested values; what the program writes has ten at most."""

TOO_DEEP = f"it is nested deeper than {MOST_DEPTH} levels"

HALF_CHARACTER = re.compile(r"\\u[dD][89a-fA-F]|\\U0000[dD][89a-fA-F]")
"""An escape that is one, unless another half comes next."""

LONGEST = 200
"""Characters of a library's message that are shown."""

Kind = TypeVar("Kind")


class DamagedError(UserError):
    """A file is damaged, or not what it should be."""


@contextmanager
def reading(path: Path, remedy: str) -> Iterator[None]:
    """Turns errors of reading a file's content into a DamagedError with the file and the remedy.

    A UserError stays as it is, and so does an error of the system, such as FileNotFoundError.
    """
    try:
        yield
    except (UserError, *DEFECTS):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno not in OF_CONTENT:
            raise
        raise DamagedError(f"{path} is damaged ({describe(error)}): {remedy}") from None


def describe(error: BaseException) -> str:
    """An error's message in one short line."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def typed(kind: type[Kind], value: Json) -> Kind:
    """The value as what `kind` says: a dataclass, a TypedDict, a list of them.

    ValueError that names the first place where it is something else.
    """
    try:
        return cast(Kind, _adapter(cast(Any, kind)).validate_python(value))
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "it"
        raise ValueError(f"{where[:LONGEST]}: {first['msg'].lower()}") from None


@functools.cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def read_json(path: Path, remedy: str, *, most: int = MOST_BYTES) -> Json:
    """The file's JSON. FileNotFoundError if there is none, DamagedError if it isn't JSON.

    most  bytes that the file may have.
    """
    with reading(path, remedy):
        return parse_json(_read(path, most))


def parse_json(text: str | bytes) -> Json:
    """The value. An error that `reading` takes for damage, if it isn't JSON."""
    whole = text if isinstance(text, str) else text.decode()
    return _check(json.loads(whole), whole)


def _check(value: Json, text: str) -> Json:
    """The value, which `text` spells.

    ValueError if it is nested so deep that what works on it may fail, or has half a character, as
    escapes can spell it, which nothing can write.
    """
    if HALF_CHARACTER.search(text):
        json.dumps(value, ensure_ascii=False, default=str).encode()
    level = [value]
    for _ in range(MOST_DEPTH):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return value
    raise ValueError(TOO_DEEP)


def read_yaml(path: Path, remedy: str) -> Json:
    """As `read_json`. Aliases are refused: some hundred bytes of them can stand for billions."""
    with reading(path, remedy):
        text = _read(path, MOST_YAML)
        return _check(yaml.load(text, _PlainLoader), text)


def read_json_lines(path: Path, remedy: str) -> Iterator[JsonObject]:
    """The JSON objects of a file with one a line."""
    for line in read_lines(path, remedy):
        with reading(path, remedy):
            value = parse_json(line)
            if not isinstance(value, dict):
                raise TypeError("a line is no JSON object")
        yield value


def read_lines(path: Path, remedy: str) -> Iterator[bytes]:
    """The lines of a file of any size, with their ends."""
    with reading(path, remedy), open_regular(path) as file:
        while line := file.readline(MOST_LINE + 1):
            if len(line) > MOST_LINE:
                raise ValueError(f"a line has more than {MOST_LINE:,} bytes")
            yield line


def _read(path: Path, most: int) -> str:
    with open_regular(path) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise ValueError(f"it has {path.stat().st_size:,} bytes, more than {most:,}")
    return content.decode("utf-8")


def check_regular(path: Path) -> None:
    """Raises ValueError for a pipe, a device and the like, which might never end."""
    if kind := special_kind(path):
        raise ValueError(f"it is {kind}")


def open_regular(path: Path) -> IO[bytes]:
    """The file, to be read; ValueError as of `check_regular`."""
    check_regular(path)
    return path.open("rb")


class _PlainLoader(yaml.SafeLoader):
    """YAML without aliases, and not nested deep, which takes seconds to find out at the end."""

    _depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it has aliases, which no file of ours has")
        if self._depth > MOST_DEPTH:
            raise yaml.YAMLError(TOO_DEEP)
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node
