"""Predict: answers for a text, a file or standard input, by a run's SavedModel, as JSON lines."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import IO, Any

from pipelines.contracts import Example, RowIssues, Task, UserError
from pipelines.run import Run, written_whole

CHUNK = 256
"""Rows asked at once."""


def predict(
    run: Run, task: Task, names: Mapping[str, str | int], given: str | None, output: str | None
) -> None:
    """Writes, for each row of `given`, its columns and the answer.

    names  by column of the task, the column's name in files.
    given  a file, a text, or None for standard input, a row a line.
    """
    rows = _rows(given, {column: names[column] for column in task.given})
    answer = _load(run)
    with _opened(output) as file:
        while chunk := list(islice(rows, 1 if given is None and sys.stdin.isatty() else CHUNK)):
            for line in _answers(answer, task, chunk):
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
            file.flush()


def _rows(given: str | None, names: dict[str, str | int]) -> Iterator[Example]:
    """Rows by the task's column names; those that can't be read are told on standard error."""
    from pipelines.sources.rows import read_rows

    if given is not None and not _is_file(given):
        if (
            Path(given).suffix in (".csv", ".tsv", ".jsonl", ".parquet", ".txt", ".gz")
            and " " not in given
        ):
            raise UserError(f"input={given}: there is no such file")
        return iter([dict.fromkeys(names, given)])
    if given is None:
        lines = (line.rstrip("\r\n") for line in sys.stdin)
        return (dict.fromkeys(names, line) for line in lines if line.strip())
    issues = RowIssues()

    def read() -> Iterator[Example]:
        yield from read_rows(Path(given), names, issues)
        for message in issues.first:
            print(f"skipped {message}", file=sys.stderr)
        if issues.count:
            print(f"skipped {issues.count} rows that can't be read", file=sys.stderr)

    return read()


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
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
        yield {**{name: row[name] for name in task.given}, **task.present(found)}


@contextmanager
def _opened(output: str | None) -> Iterator[IO[str]]:
    if output is None:
        yield sys.stdout
        return
    with written_whole(Path(output)) as temporary, temporary.open("w", encoding="utf-8") as file:
        yield file
