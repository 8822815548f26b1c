"""Predict: answers for a text, a file, a folder or standard input, by a run's SavedModel.

One answer a row, in the order of the rows; of a row that can't be read or answered, the reason.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from pipelines.core.contracts import Codec, FieldSpec, RowIssues, Source
from pipelines.core.errors import UserError
from pipelines.core.formatting import shown
from pipelines.core.task import Task
from pipelines.core.types import Example
from pipelines.data.sources._named import digest
from pipelines.data.sources.rows import COMPRESSIONS, EXTENSIONS, FaultError, extension, usable_text
from pipelines.predict.output import check_output, opened
from pipelines.predict.windows import BATCH_ROWS, ROWS, Fault, Row, answered
from pipelines.runs.directory import Run
from pipelines.runs.progress import Bar

FILES = (*EXTENSIONS, *COMPRESSIONS)
"""What ends so is the name of a file, not a text."""

FAULT = '{"error": '
"""How the line of a row without an answer begins."""


def predict(run: Run, task: Task, source: Source, given: str | None, output: str | None) -> None:
    """Writes, for each row of `given`, its columns and the answer, as JSON lines or by `output`.

    source  of the run's data: it knows the form of files. given: a file, a folder, a text, or None
            for standard input, a text a line. output: see answers.py; None for standard output.
    """
    if output is not None:
        check_output(output)
    asked = _question(given, source)
    if not run.saved_model.exists():
        raise UserError(
            f"{run.directory} holds no saved_model: make one with mode=export run={run.directory}"
        )
    with opened(output, _about(run, source, asked)) as answers:
        model = _Model(run, task)
        fields = Codec(task.codec()).load(run.codec).raw_fields(task.input_columns)
        rows = islice(_rows(asked, fields, source), answers.done, None)
        total = None if output is None else _count(asked, source)
        lost = 0
        with Bar("predict", total, "rows", answers.done, shows=output is not None) as bar:
            for lines in answered(rows, model.lines, at_once=_at_once(asked)):
                answers.write(lines)
                lost += sum(line.startswith(FAULT) for line in lines)
                bar.advance(len(lines))
    if lost:
        asked_for = bar.done - bar.first
        print(f'{lost:,} of {asked_for:,} rows have no answer: see "error"', file=sys.stderr)


# What is asked


class _Question(NamedTuple):
    """Files in order, or pictures' folders; else a text; else standard input."""

    files: list[Path]
    text: str | None = None
    names_files: bool = False
    """Whether a line says which file it is of."""

    @property
    def is_stream(self) -> bool:
        return not self.files and self.text is None


def _question(given: str | None, source: Source) -> _Question:
    if given is None:
        return _Question([])
    path = Path(given)
    if not _exists(path):
        if " " not in given and path.suffix in FILES:
            raise UserError(f"input={given}: there is no such file")
        return _Question([], given)
    if path.is_file() or source.reads_folders:
        return _Question([path])
    found = sorted(file for file in path.iterdir() if extension(file) in EXTENSIONS)
    if not found:
        raise UserError(f"input={given}: the folder must hold {', '.join(EXTENSIONS)} files")
    return _Question(found, names_files=True)


def _exists(path: Path) -> bool:
    try:
        return path.is_file() or path.is_dir()
    except (OSError, ValueError):  # longer than a path may be, or with a NUL
        return False


def _at_once(asked: _Question) -> int:
    """Rows that are waited for before any is answered."""
    if asked.is_stream:
        return 1 if sys.stdin.isatty() else BATCH_ROWS
    return ROWS


def _count(asked: _Question, source: Source) -> int | None:
    """About how many rows there are, where that is quickly known."""
    counts = [source.count_inputs(path) for path in asked.files]
    return None if asked.is_stream or None in counts else sum(count or 0 for count in counts)


@dataclass
class _Found(RowIssues):
    """Issues that have not yet been written in the place of their rows."""

    waiting: list[Fault] = field(default_factory=list)

    def add(self, where: str, reason: str, *, tolerated: bool = False) -> None:
        self.waiting.append(Fault(f"{where}: {reason}"))

    def taken(self) -> list[Fault]:
        taken, self.waiting = self.waiting, []
        return taken


def _rows(asked: _Question, fields: Mapping[str, FieldSpec], source: Source) -> Iterator[Row]:
    """Rows by the task's column names, and faults where rows can't be read."""
    if asked.is_stream:
        yield from _lines(fields, source)
    elif asked.text is not None:
        yield source.parse_input(asked.text, fields)
    for path in asked.files:
        issues = _Found()
        for row in source.read_inputs(path, fields, issues):
            yield from issues.taken()
            yield {"file": path.name, **row} if asked.names_files else row
        yield from issues.taken()


def _lines(fields: Mapping[str, FieldSpec], source: Source) -> Iterator[Row]:
    for number, line in enumerate(sys.stdin.buffer, 1):
        try:
            text = usable_text(line.decode("utf-8").rstrip("\r\n"))
            yield source.parse_input(text, fields)
        except UnicodeDecodeError:
            yield Fault(f"standard input:{number}: is not valid UTF-8")
        except (UserError, FaultError) as error:
            yield Fault(f"standard input:{number}: {error}")


def _about(run: Run, source: Source, asked: _Question) -> str:
    """Changes with all that the answers depend on; of standard input, with each process."""
    if asked.is_stream:
        return secrets.token_hex()
    found = hashlib.sha256(repr((source, asked)).encode("utf-8", "surrogatepass"))
    for path in asked.files:
        for file in sorted(path.iterdir()) if path.is_dir() else [path]:
            state = file.stat()
            found.update(repr((file.resolve(), state.st_size, state.st_mtime_ns)).encode())
    for file in sorted(run.saved_model.rglob("*")):
        if file.is_file() and file != run.card:
            found.update(digest(file).encode())
    return found.hexdigest()


# What is answered


class _Model:
    """A run's SavedModel, and its answers as lines. UserError if it can't be loaded."""

    def __init__(self, run: Run, task: Task):
        from pipelines.export.client import load

        try:
            self._model = load(str(run.saved_model))  # its signatures don't keep it alive
        except Exception as error:
            raise UserError(
                f"{run.saved_model} is damaged ({str(error).splitlines()[0][:120]}): "
                f"make it again with mode=export run={run.directory}"
            ) from None
        self._answer = self._model.signatures["serving_default"]
        self._task = task

    def lines(self, rows: list[Row]) -> list[str]:
        """A JSON object for each of the rows, which are all examples or all faults."""
        answers = [
            {"error": row.reason} if isinstance(row, Fault) else row for row in self._answers(rows)
        ]
        return [json.dumps(answer, ensure_ascii=False) for answer in answers]

    def _answers(self, rows: list[Row]) -> list[dict[str, Any] | Fault]:
        """A batch that fails is asked in halves, so that a bad row is lost alone."""
        import tensorflow as tf

        examples = [row for row in rows if not isinstance(row, Fault)]
        if not examples:
            return [row for row in rows if isinstance(row, Fault)]
        try:
            return self._ask(examples)
        except tf.errors.OpError as error:
            if len(examples) == 1:
                reason = " ".join(error.message.split())[:200]
                return [Fault(f"the model can't answer it: {reason}")]
            middle = len(rows) // 2
            return self._answers(rows[:middle]) + self._answers(rows[middle:])

    def _ask(self, rows: list[Example]) -> list[dict[str, Any] | Fault]:
        import tensorflow as tf

        from pipelines.export.client import plain

        given = self._task.input_columns
        said = self._answer(**{name: tf.constant([row[name] for row in rows]) for name in given})
        arrays = {name: value.numpy() for name, value in said.items()}
        # A column at a time: a call a value would take longer than the model. What explains an
        # answer, such as attention, is large, and hardly ever told.
        columns: dict[str, Any] = {
            name: a if a.ndim > 2 else plain(a) for name, a in arrays.items()
        }
        return [
            {
                **{name: shown(value) for name, value in row.items()},
                **self._told({name: values[i] for name, values in columns.items()}),
            }
            for i, row in enumerate(rows)
        ]

    def _told(self, answer: dict[str, Any]) -> dict[str, Any]:
        from pipelines.export.client import plain

        return {name: plain(value) for name, value in self._task.to_json(answer).items()}
