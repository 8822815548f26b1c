"""Where predictions are written: standard output, or a file that appears when it is complete.

Until then, the predictions are in FILE.partial as JSON lines, and FILE.partial.json says how many
of them are safely on the disk. The same command resumes after those, if it was killed.
"""

from __future__ import annotations

import csv
import errno
import fcntl
import json
import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from itertools import chain, islice
from pathlib import Path
from typing import IO, Protocol

from pydantic import NonNegativeInt

from pipelines.core.errors import UserError
from pipelines.core.files import atomic_write, naming, sync
from pipelines.core.plain_text import escape_formula, is_formula
from pipelines.core.saved_files import DamagedError, read_json, reading, typed
from pipelines.core.settings import PredictSettings
from pipelines.core.streams import STDOUT
from pipelines.runs.signals import GracefulExit, signal_number

log = logging.getLogger(__name__)

CHUNK_ROWS = 10_000
"""Predictions in memory while they are converted to another format."""


class PredictionWriter(Protocol):
    """Writes the predictions for rows in their order."""

    done: int
    """Rows whose predictions an earlier process has written."""

    def write(self, lines: Sequence[str]) -> None:
        """Writes JSON objects, each a line without its line end."""


class StreamWriter:
    """Writes to a stream immediately. It can't resume what another process wrote."""

    def __init__(self, file: IO[str], name: str):
        self.done = 0
        self._file, self._name = file, name

    def write(self, lines: Sequence[str]) -> None:
        with naming(self._name):
            self._file.writelines(f"{line}\n" for line in lines)
            self._file.flush()


@dataclass(frozen=True)
class _Progress:
    """How much of a file with predictions is safely on the disk: rows, in so many bytes."""

    fingerprint: str
    rows: NonNegativeInt
    bytes: NonNegativeInt


class ResumableWriter:
    """Writes to FILE.partial, and puts the file in its place at the end.

    fingerprint  of the input and the model; predictions with another one are not resumed.
    """

    def __init__(self, path: Path, fingerprint: str, settings: PredictSettings):
        self.done = 0
        self.settings = settings
        self.path = path
        self.partial = path.with_name(f"{path.name}.partial")
        self.progress = path.with_name(f"{path.name}.partial.json")
        self._fingerprint = fingerprint

    def __enter__(self) -> ResumableWriter:
        self._file = self.partial.open("ab")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise UserError(f"another process is writing {self.partial}") from None
        self._size = os.fstat(self._file.fileno()).st_size
        self._resume()
        # Lines after the recorded size may be half-written: they are predicted again.
        self._file.truncate(self._size)
        return self

    def _resume(self) -> None:
        """Sets the size and the number of rows to those recorded for the same input and model."""
        recorded = None
        with suppress(OSError, DamagedError), reading(self.progress, ""):
            recorded = typed(_Progress, read_json(self.progress, ""))
        if (
            recorded is not None
            and recorded.fingerprint == self._fingerprint
            and recorded.bytes <= self._size
        ):
            self._size, self.done = recorded.bytes, recorded.rows
            print(f"resuming after {self.done:,} predictions in {self.partial}", file=sys.stderr)
            return
        self._size = self.done = 0
        if recorded is not None:
            reason = "it holds predictions for another input, data format or model"
            print(f"starting over with {self.partial}: {reason}", file=sys.stderr)

    def write(self, lines: Sequence[str]) -> None:
        """Writes the lines. They are on the disk when this returns."""
        content = "".join(f"{line}\n" for line in lines).encode()
        with naming(self.partial):
            self._file.write(content)
            self._file.flush()
            os.fsync(self._file.fileno())
        self._size += len(content)
        self.done += len(lines)
        # Lines first, their number second: a kill in between only repeats some predictions.
        with atomic_write(self.progress) as temporary:
            state = _Progress(self._fingerprint, self.done, self._size)
            temporary.write_text(json.dumps(asdict(state)))

    def finish(self) -> None:
        """Puts the predictions in their place, in the format of the file's name."""
        convert = FORMATS.get(self.path.suffix.lower())
        if convert is None:
            os.replace(self.partial, self.path)
            sync(self.path.parent)
        else:
            with atomic_write(self.path) as temporary:
                convert(self.partial, temporary, self.settings)
            self.partial.unlink()
        self.progress.unlink(missing_ok=True)

    def __exit__(self, *_: object) -> None:
        with naming(self.partial):  # it writes once more what could not be written
            self._file.close()
        if not self.done:
            self.partial.unlink(missing_ok=True)


def check_output(output: str | None, settings: PredictSettings) -> None:
    """Raises UserError for a format that can't be written, or that has no formulas to escape."""
    ending = Path(output or "").suffix.lower()
    if settings.formulas == "escape" and ending not in DELIMITERS:
        raise UserError(
            f"predict.formulas=escape goes with an output that spreadsheets open: end its name in "
            f"{' or '.join(DELIMITERS)}; received {output or 'none'}"
        )
    if output is not None and ending in (".pq", ".feather", ".xlsx", ".xml", ".gz", ".bz2", ".xz"):
        raise UserError(
            f"output: predictions are written as JSON lines, or as {', '.join(FORMATS)} if the "
            f"file's name ends so; received {Path(output).name}: choose one of these"
        )


@contextmanager
def open_writer(
    output: str | None, fingerprint: str, settings: PredictSettings
) -> Iterator[PredictionWriter]:
    """A writer for a file; for standard output if there is none. Raises GracefulExit."""
    if output is None:
        file = open(sys.stdout.fileno(), "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        yield StreamWriter(file, STDOUT)
        return
    path = Path(output)
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if path.exists() and not path.is_file():  # such as a pipe
        with naming(output), path.open("w", encoding="utf-8") as file:
            yield StreamWriter(file, output)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with ResumableWriter(path, fingerprint, settings) as writer:
        try:
            yield writer
        except KeyboardInterrupt as stop:
            message = f"stopped after {writer.done:,} predictions: the same command resumes there"
            raise GracefulExit(message, signal_number(stop)) from None
        writer.finish()


# Other formats


Converter = Callable[[Path, Path, PredictSettings], None]


def _make_csv_writer(delimiter: str) -> Converter:
    def convert(lines: Path, path: Path, settings: PredictSettings) -> None:
        """Writes one column a value, lists as JSON; an empty cell where a prediction lacks it."""
        names = dict.fromkeys(name for prediction in _read(lines) for name in prediction)
        header: dict[str, object] = {name: name for name in names}
        escape, formulas = settings.formulas == "escape", 0
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, delimiter=delimiter, lineterminator="\n")
            for row in chain([header], _read(lines)):
                cells = [_cell(row.get(name)) for name in names]
                formulas += sum(map(is_formula, cells))
                writer.writerow(map(escape_formula, cells) if escape else cells)
        if formulas and not escape:
            remedy = "predict.formulas=escape makes them texts"
            log.warning("a spreadsheet would compute %s cells: %s", f"{formulas:,}", remedy)

    return convert


def _cell(value: object) -> object:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list) else value


def _parquet(lines: Path, path: Path, settings: PredictSettings) -> None:
    """Writes one column a value; null where a prediction lacks the value."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    # Names first: a table made of rows has only the columns of its first row.
    names = {name: None for prediction in _read(lines) for name in prediction}
    empty = dict.fromkeys(names)
    # Twice over the file: a type may show late, such as float after many integers.
    tables = (pa.Table.from_pylist([{**empty, **row} for row in rows]) for rows in _chunks(lines))
    schema = pa.unify_schemas((table.schema for table in tables), promote_options="permissive")
    with pq.ParquetWriter(path, schema) as writer:
        for rows in _chunks(lines):
            writer.write_table(pa.Table.from_pylist(rows, schema))


DELIMITERS = {".csv": ",", ".tsv": "\t"}

FORMATS: dict[str, Converter] = {
    **{ending: _make_csv_writer(delimiter) for ending, delimiter in DELIMITERS.items()},
    ".parquet": _parquet,
}
"""Formats by the ending of a file's name; any other ending means JSON lines."""


def _read(lines: Path) -> Iterator[dict[str, object]]:
    with lines.open(encoding="utf-8") as file:
        for line in file:
            yield dict(_flatten(json.loads(line)))


def _flatten(prediction: Mapping[str, object], prefix: str = "") -> Iterable[tuple[str, object]]:
    """Nested objects as dotted names: "probabilities.positive"."""
    for name, value in prediction.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _chunks(lines: Path) -> Iterator[list[dict[str, object]]]:
    predictions = _read(lines)
    while chunk := list(islice(predictions, CHUNK_ROWS)):
        yield chunk
