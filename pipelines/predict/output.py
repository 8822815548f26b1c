"""Where answers go: standard output, or a file that appears whole, and is gone on with if killed.

Until all is answered, the answers are in FILE.partial as JSON lines, and FILE.partial.json says how
many of them are there for good.
"""

from __future__ import annotations

import csv
import errno
import fcntl
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import IO, Any, Protocol

from pipelines.core.errors import UserError
from pipelines.core.files import atomic_write, sync
from pipelines.runs.signals import Stopped, number

CHUNK = 10_000
"""Answers that are held at a time when they are written in another format."""


class Answers(Protocol):
    """Takes the answers to rows in their order."""

    done: int
    """Rows that are answered already, by an earlier process."""

    def write(self, lines: Sequence[str]) -> None:
        """One JSON object each, without a line's end."""


class Stream:
    """Writes at once, and can't go on with what another process wrote."""

    def __init__(self, file: IO[str]):
        self.done = 0
        self._file = file

    def write(self, lines: Sequence[str]) -> None:
        self._file.writelines(f"{line}\n" for line in lines)
        self._file.flush()


class Partial:
    """Answers on their way into a file.

    about  what they are answers to, and whose; others' are not gone on with.
    """

    def __init__(self, path: Path, about: str):
        self.done = 0
        self.path = path
        self.lines = path.with_name(f"{path.name}.partial")
        self.note = path.with_name(f"{path.name}.partial.json")
        self._about = about

    def __enter__(self) -> Partial:
        self._file = self.lines.open("ab")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise UserError(f"another process is writing {self.lines}") from None
        self._size = os.fstat(self._file.fileno()).st_size
        self._go_on()
        self._file.truncate(self._size)
        return self

    def _go_on(self) -> None:
        """From where the note says, if it is of the same question."""
        try:
            note = json.loads(self.note.read_bytes())
            mine = note["about"] == self._about and note["bytes"] <= self._size
        except (OSError, ValueError, KeyError, TypeError):
            note, mine = {}, False
        self._size, self.done = (note["bytes"], note["rows"]) if mine else (0, 0)
        if mine:
            print(f"going on after the {self.done:,} answers in {self.lines}", file=sys.stderr)
        elif note:
            what = "another input, reading or model"
            print(f"starting over: {self.lines} holds answers of {what}", file=sys.stderr)

    def write(self, lines: Sequence[str]) -> None:
        """They are on the disk when this returns."""
        content = "".join(f"{line}\n" for line in lines).encode()
        self._file.write(content)
        self._file.flush()
        os.fsync(self._file.fileno())
        self._size += len(content)
        self.done += len(lines)
        with atomic_write(self.note) as temporary:
            facts = {"about": self._about, "rows": self.done, "bytes": self._size}
            temporary.write_text(json.dumps(facts))

    def finish(self) -> None:
        """Puts the answers where they belong, in the format of the file's name."""
        convert = FORMATS.get(self.path.suffix.lower())
        if convert is None:
            os.replace(self.lines, self.path)
            sync(self.path.parent)
        else:
            with atomic_write(self.path) as temporary:
                convert(self.lines, temporary)
            self.lines.unlink()
        self.note.unlink(missing_ok=True)

    def __exit__(self, *_: object) -> None:
        self._file.close()
        if not self.done:
            self.lines.unlink(missing_ok=True)


def check_output(output: str) -> None:
    """Raises UserError for a format that can't be written."""
    if Path(output).suffix.lower() in (".pq", ".feather", ".xlsx", ".xml", ".gz", ".bz2", ".xz"):
        raise UserError(
            f"output: answers are written as JSON lines, or as {', '.join(FORMATS)} by the file's "
            f"name; received {Path(output).name}: choose one of these"
        )


@contextmanager
def opened(output: str | None, about: str) -> Iterator[Answers]:
    """Takes answers for a file, or for standard output if there is none."""
    if output is None:
        yield Stream(open(sys.stdout.fileno(), "w", encoding="utf-8", closefd=False))  # noqa: SIM115
        return
    path = Path(output)
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if path.exists() and not path.is_file():  # such as a pipe
        with path.open("w", encoding="utf-8") as file:
            yield Stream(file)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with Partial(path, about) as partial:
        try:
            yield partial
        except KeyboardInterrupt as stop:
            told = f"stopped after {partial.done:,} answers: the same command goes on after them"
            raise Stopped(told, number(stop)) from None
        partial.finish()


# Other formats


def _delimited(delimiter: str) -> Callable[[Path, Path], None]:
    def convert(lines: Path, path: Path) -> None:
        """One column a value; lists as JSON. Empty where an answer lacks it."""
        names: dict[str, None] = {}
        for answer in _read(lines):
            names.update(dict.fromkeys(answer))
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(names), delimiter=delimiter, lineterminator="\n")
            writer.writeheader()
            for answer in _read(lines):
                writer.writerow(
                    {name: _cell(value) for name, value in answer.items() if value is not None}
                )

    return convert


def _cell(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list) else value


def _parquet(lines: Path, path: Path) -> None:
    """One column a value; null where an answer lacks it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    # Names first: a table has the columns of its first row only.
    names = {name: None for answer in _read(lines) for name in answer}
    empty = dict.fromkeys(names)
    chunks = (pa.Table.from_pylist([{**empty, **a} for a in some]) for some in _chunks(lines))
    schema = pa.unify_schemas((chunk.schema for chunk in chunks), promote_options="permissive")
    with pq.ParquetWriter(path, schema) as writer:
        for some in _chunks(lines):
            writer.write_table(pa.Table.from_pylist(some, schema))


FORMATS: dict[str, Callable[[Path, Path], None]] = {
    ".csv": _delimited(","),
    ".tsv": _delimited("\t"),
    ".parquet": _parquet,
}
"""By the ending of a file's name; others are JSON lines."""


def _read(lines: Path) -> Iterator[dict[str, Any]]:
    with lines.open(encoding="utf-8") as file:
        for line in file:
            yield dict(_flat(json.loads(line)))


def _flat(answer: dict[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    """Objects in objects as "probabilities.positive"."""
    for name, value in answer.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _chunks(lines: Path) -> Iterator[list[dict[str, Any]]]:
    answers = _read(lines)
    while chunk := list(islice(answers, CHUNK)):
        yield chunk
