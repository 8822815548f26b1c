"""Predict: answers for a text, a file or standard input, by a run's SavedModel, as JSON lines."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import IO, Any

from pipelines.contracts import Example, RowIssues, Source, Task, UserError
from pipelines.predictions import shown
from pipelines.run import Run, written_whole

CHUNK = 256
"""Rows asked at once."""

FILES = (".csv", ".tsv", ".jsonl", ".parquet", ".txt", ".gz")
"""What ends so is the name of a file, not a text."""


def predict(run: Run, task: Task, source: Source, given: str | None, output: str | None) -> None:
    """Writes, for each row of `given`, its columns and the answer.

    source  of the run's data: it knows the form of files. given: a file, a text, or None for
            standard input, a text a line.
    """
    rows = _rows(given, task, source)
    model = _load(run)
    answer = model.signatures["serving_default"]
    at_once = 1 if given is None and sys.stdin.isatty() else CHUNK
    with _opened(output) as file:
        while chunk := list(islice(rows, at_once)):
            for line in _answers(answer, task, chunk):
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
            file.flush()


def _rows(given: str | None, task: Task, source: Source) -> Iterator[Example]:
    """Rows by the task's column names; those that can't be read are told on standard error."""
    issues = RowIssues()
    if given is None:
        rows = _lines(task, source, issues)
    elif _is_there(given, folders=source.reads_folders):
        rows = source.read_given(Path(given), task.given, issues)
    elif " " not in given and Path(given).suffix in FILES:
        raise UserError(f"input={given}: there is no such file")
    else:
        return iter([source.given_text(given, task.given)])

    def read() -> Iterator[Example]:
        yield from rows
        for message in issues.first:
            print(f"skipped {message}", file=sys.stderr)
        if issues.count > len(issues.first):
            print(f"skipped {issues.count} rows in all", file=sys.stderr)

    return read()


def _lines(task: Task, source: Source, issues: RowIssues) -> Iterator[Example]:
    for number, line in enumerate(sys.stdin.buffer, 1):
        try:
            text = line.decode("utf-8").rstrip("\r\n")
        except UnicodeDecodeError:
            issues.add(f"standard input:{number}", "not UTF-8")
            continue
        if text.strip() and "\0" not in text:
            try:
                yield source.given_text(text, task.given)
            except UserError as error:
                issues.add(f"standard input:{number}", str(error))


def _is_there(text: str, *, folders: bool) -> bool:
    try:
        return Path(text).is_file() or (folders and Path(text).is_dir())
    except (OSError, ValueError):  # longer than a path may be, or with a NUL
        return False


def _load(run: Run) -> Any:
    if not run.saved_model.exists():
        raise UserError(
            f"{run.directory} holds no saved_model: make one with mode=export run={run.directory}"
        )
    from pipelines.ask import load

    try:
        return load(str(run.saved_model))
    except Exception as error:
        raise UserError(
            f"{run.saved_model} is damaged ({str(error).splitlines()[0][:120]}): "
            f"make it again with mode=export run={run.directory}"
        ) from None


def _answers(answer: Any, task: Task, rows: Iterable[Example]) -> Iterator[dict[str, Any]]:
    import tensorflow as tf

    from pipelines.ask import plain

    rows = list(rows)
    columns = {name: tf.constant([row[name] for row in rows]) for name in task.given}
    outputs = {name: value.numpy() for name, value in answer(**columns).items()}
    for index, row in enumerate(rows):
        found = {name: plain(values[index]) for name, values in outputs.items()}
        yield {**{name: shown(row[name]) for name in task.given}, **task.present(found)}


@contextmanager
def _opened(output: str | None) -> Iterator[IO[str]]:
    if output is None:
        yield open(sys.stdout.fileno(), "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        return
    with written_whole(Path(output)) as temporary, temporary.open("w", encoding="utf-8") as file:
        yield file
