"""Reading what was saved: a damaged file, whatever is wrong with it, is told in one line.

Libraries raise some twenty kinds of errors for damaged content, and none says which. What reads a
file that this program wrote does so through `reading`, and needs no list of errors of its own.
"""

from __future__ import annotations

import errno
import json
import lzma
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from pipelines.core.errors import UserError
from pipelines.core.types import Json, JsonObject

DAMAGE = (
    ValueError, LookupError, TypeError, AttributeError, EOFError, ArithmeticError,
    RuntimeError, struct.error, zipfile.BadZipFile, zlib.error, lzma.LZMAError,
    yaml.YAMLError,
)  # fmt: skip
"""What reading damaged content raises. RuntimeError has RecursionError and NotImplementedError.

An OSError is most often the system's, such as that a file isn't there, or may not be read.
"""

OF_CONTENT = (None, errno.EINVAL, errno.EOVERFLOW)
"""Numbers of an OSError that damaged content leads to: of h5py, and of places no file has."""

MOST_BYTES = 1 << 30
"""Of a file that is read whole."""

LONGEST = 200
"""Characters of a library's message that are shown."""


class DamagedError(UserError):
    """A file is damaged, or not what it should be."""


@contextmanager
def reading(path: Path, remedy: str) -> Iterator[None]:
    """Turns errors of reading a file's content into a DamagedError with the file and the remedy.

    A UserError stays as it is, and so does an error of the system, such as FileNotFoundError.
    """
    try:
        yield
    except UserError:
        raise
    except (OSError, *DAMAGE) as error:
        if isinstance(error, OSError) and error.errno not in OF_CONTENT:
            raise
        raise DamagedError(f"{path} is damaged ({describe(error)}): {remedy}") from None


def describe(error: BaseException) -> str:
    """An error's message in one short line."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def read_json(path: Path, remedy: str) -> Json:
    """The file's JSON. FileNotFoundError if there is none, DamagedError if it isn't JSON."""
    with reading(path, remedy):
        return json.loads(_read(path))


def read_yaml(path: Path, remedy: str) -> Json:
    """As `read_json`. Aliases are refused: some hundred bytes of them can stand for billions."""
    with reading(path, remedy):
        return yaml.load(_read(path), _PlainLoader)


def read_json_lines(path: Path, remedy: str) -> Iterator[JsonObject]:
    """The JSON objects of a file with one a line."""
    with reading(path, remedy), path.open("rb") as file:
        for line in file:
            value = json.loads(line)
            if not isinstance(value, dict):
                raise TypeError("a line is no JSON object")
            yield value


def _read(path: Path) -> str:
    size = path.stat().st_size
    if size > MOST_BYTES:
        raise ValueError(f"it has {size:,} bytes, more than {MOST_BYTES:,}")
    return path.read_text(encoding="utf-8")


class _PlainLoader(yaml.SafeLoader):
    """YAML without aliases."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it has aliases, which no file of ours has")
        return super().compose_node(parent, index)
