"""Predict: for a text, a file, a folder or standard input, by a run's SavedModel.

There is one prediction a row, in the order of the rows. A row that can't be read or predicted gets
the reason in its place.
"""

from __future__ import annotations

import hashlib
import secrets
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from pipelines.core.contracts import Codec, FieldSpec, RowIssues, Source
from pipelines.core.errors import UserError
from pipelines.core.files import naming
from pipelines.core.formatting import to_readable_json
from pipelines.core.plain_text import json_text
from pipelines.core.saved_files import describe, reading
from pipelines.core.settings import PredictSettings
from pipelines.core.streams import STDIN
from pipelines.core.task import Task
from pipelines.core.types import Example, Json, JsonObject
from pipelines.data.sources._named import digest
from pipelines.data.sources.rows import COMPRESSIONS, EXTENSIONS, FaultError, extension, usable_text
from pipelines.distributed.tensorflow import import_tensorflow
from pipelines.export.client import as_tensors, load, model_inputs, to_plain
from pipelines.predict.batched_inference import (
    BATCH_ROWS,
    WINDOW_ROWS,
    Row,
    RowError,
    predict_in_order,
)
from pipelines.predict.prediction_writer import check_output, open_writer
from pipelines.runs.directory import Run
from pipelines.runs.progress import Bar

FILE_ENDINGS = (*EXTENSIONS, *COMPRESSIONS)
"""An input with one of these endings is a file's name, not a text."""

Prediction = JsonObject


def predict(
    run: Run,
    task: Task,
    source: Source,
    text_or_path: str | None,
    output: str | None,
    settings: PredictSettings,
) -> None:
    """Writes, for each row of the input, its columns and the prediction as a JSON object.

    source  of the run's data: it knows the files' format.
    text_or_path  a file, a folder or a text; None for standard input, a text a line.
    output  a file; None for standard output. See prediction_writer.py.

    UserError for what isn't there, before TensorFlow is imported.
    """
    check_output(output, settings)
    inputs = _resolve_inputs(text_or_path, source)
    if not run.saved_model.exists():
        raise UserError(
            f"{run.directory} holds no saved_model: make one with mode=export run={run.directory}"
        )
    import_tensorflow()
    with open_writer(output, _fingerprint(run, source, inputs), settings) as writer:
        model = _SavedModel(run, task)
        fields = Codec(task.codec()).load(run.codec).raw_fields(task.input_columns)
        rows = islice(_read_rows(inputs, fields, source), writer.done, None)
        total = None if output is None else _count_rows(inputs, source)
        errors = 0
        with Bar("predict", total, "rows", writer.done, shows=output is not None) as bar:
            results = predict_in_order(rows, model.predict, window_rows=_window_rows(inputs))
            for window in results:
                writer.write([_to_line(result) for result in window])
                errors += sum(isinstance(result, RowError) for result in window)
                bar.advance(len(window))
    if errors:
        rows_here = bar.done - bar.first
        print(f'{errors:,} of {rows_here:,} rows have no prediction: see "error"', file=sys.stderr)


def _to_line(result: Prediction | RowError) -> str:
    content = {"error": result.reason} if isinstance(result, RowError) else result
    return json_text(content)


# Inputs


class _Inputs(NamedTuple):
    """Files in order (or folders, if the source reads them); else a text; else standard input."""

    files: list[Path]
    text: str | None = None
    with_file_names: bool = False
    """Whether each row says which file it is from."""

    @property
    def is_stream(self) -> bool:
        return not self.files and self.text is None


def _resolve_inputs(text_or_path: str | None, source: Source) -> _Inputs:
    if text_or_path is None:
        return _Inputs([])
    path = Path(text_or_path)
    if not _exists(path):
        if " " not in text_or_path and path.suffix in FILE_ENDINGS:
            raise UserError(f"input={text_or_path}: there is no such file")
        return _Inputs([], text_or_path)
    if path.is_file() and path.stat().st_size == 0:
        raise UserError(f"input={text_or_path}: the file is empty")
    if path.is_file() or source.reads_folders:
        return _Inputs([path])
    files = sorted(file for file in path.iterdir() if extension(file) in EXTENSIONS)
    if not files:
        raise UserError(f"input={text_or_path}: the folder must hold {', '.join(EXTENSIONS)} files")
    return _Inputs(files, with_file_names=True)


def _exists(path: Path) -> bool:
    try:
        return path.is_file() or path.is_dir()
    except (OSError, ValueError):  # longer than a path may be, or with a NUL
        return False


def _window_rows(inputs: _Inputs) -> int:
    """Rows to read before any is predicted. A person at a terminal waits for each."""
    if inputs.is_stream:
        return 1 if sys.stdin.isatty() else BATCH_ROWS
    return WINDOW_ROWS


def _count_rows(inputs: _Inputs, source: Source) -> int | None:
    """About how many rows there are; None if only reading them tells."""
    counts = [source.count_inputs(path) for path in inputs.files]
    return None if inputs.is_stream or None in counts else sum(count or 0 for count in counts)


@dataclass
class _PendingErrors(RowIssues):
    """Errors of rows that were read, until they are passed on in the place of the rows."""

    pending: list[RowError] = field(default_factory=list)

    def add(self, where: str, reason: str, *, tolerated: bool = False) -> None:
        self.pending.append(RowError(f"{where}: {reason}"))

    def take(self) -> list[RowError]:
        errors, self.pending = self.pending, []
        return errors


def _read_rows(inputs: _Inputs, fields: Mapping[str, FieldSpec], source: Source) -> Iterator[Row]:
    """Rows by the task's column names, and errors where rows can't be read."""
    if inputs.is_stream:
        yield from _read_lines(fields, source)
    elif inputs.text is not None:
        yield source.parse_input(inputs.text, fields)
    for path in inputs.files:
        errors = _PendingErrors()
        for row in source.read_inputs(path, fields, errors):
            yield from errors.take()
            yield {"file": path.name, **row} if inputs.with_file_names else row
        yield from errors.take()


def _read_lines(fields: Mapping[str, FieldSpec], source: Source) -> Iterator[Row]:
    for number, line in enumerate(_standard_input(), 1):
        try:
            text = usable_text(line.decode("utf-8").rstrip("\r\n"))
            yield source.parse_input(text, fields)
        except UnicodeDecodeError:
            yield RowError(f"standard input:{number}: is not valid UTF-8")
        except (UserError, FaultError) as error:
            yield RowError(f"standard input:{number}: {error}")


def _standard_input() -> Iterator[bytes]:
    with naming(STDIN):
        yield from sys.stdin.buffer


def _fingerprint(run: Run, source: Source, inputs: _Inputs) -> str:
    """Changes with all that the predictions depend on. Standard input always has a new one."""
    if inputs.is_stream:
        return secrets.token_hex()
    fingerprint = hashlib.sha256(repr((source, inputs)).encode("utf-8", "surrogatepass"))
    for path in inputs.files:
        for file in sorted(path.iterdir()) if path.is_dir() else [path]:
            state = file.stat()
            fingerprint.update(repr((file.resolve(), state.st_size, state.st_mtime_ns)).encode())
    for file in sorted(run.saved_model.rglob("*")):
        if file.is_file() and file != run.card:
            fingerprint.update(digest(file).encode())
    return fingerprint.hexdigest()


# Predictions


class _SavedModel:
    """A run's SavedModel. Raises UserError if it can't be loaded."""

    def __init__(self, run: Run, task: Task):
        with reading(run.saved_model, f"make it again with mode=export run={run.directory}"):
            try:
                self._model = load(str(run.saved_model))  # its signatures don't keep it alive
            except (OSError, ImportError) as error:  # of whichever file in it
                raise ValueError(describe(error)) from None
            self._function = self._model.signatures["serving_default"]
            self._specs = self._function.structured_input_signature[1]
        self._task = task

    def predict(self, rows: list[Row]) -> list[Prediction | RowError]:
        """Predicts rows that are all examples or all errors: a result for each."""
        errors: list[Prediction | RowError] = [row for row in rows if isinstance(row, RowError)]
        return errors or self._predict([row for row in rows if not isinstance(row, RowError)])

    def _predict(self, rows: list[Example]) -> list[Prediction | RowError]:
        """Predictions for a batch. A batch that fails is halved, so only its bad rows are lost."""
        import tensorflow as tf

        try:
            outputs = self._function(**as_tensors(model_inputs(rows, self._specs)))
        except (tf.errors.OpError, ValueError, TypeError) as error:
            if len(rows) == 1:
                message = error.message if isinstance(error, tf.errors.OpError) else str(error)
                return [RowError(f"the model can't predict it: {' '.join(message.split())[:200]}")]
            middle = len(rows) // 2
            return self._predict(rows[:middle]) + self._predict(rows[middle:])
        arrays = {name: value.numpy() for name, value in outputs.items()}
        # Column by column: a call for each value would take longer than the model. Outputs with
        # more axes, such as attention, are large, and tasks hardly ever show them.
        columns: dict[str, Json] = {
            name: a if a.ndim > 2 else to_plain(a) for name, a in arrays.items()
        }
        return [
            {
                **{name: to_readable_json(value) for name, value in row.items()},
                **self._to_json({name: values[i] for name, values in columns.items()}),
            }
            for i, row in enumerate(rows)
        ]

    def _to_json(self, outputs: JsonObject) -> Prediction:
        return {name: to_plain(value) for name, value in self._task.to_json(outputs).items()}
