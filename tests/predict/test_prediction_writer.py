"""Files of predictions: complete or absent, resumed after a kill, in several formats."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipelines.core.errors import UserError
from pipelines.core.settings import PredictSettings
from pipelines.predict.prediction_writer import (
    ResumableWriter,
    StreamWriter,
    check_output,
    open_writer,
)

KEEP, ESCAPE = (PredictSettings(formulas=what) for what in ("keep", "escape"))

LINES = [
    '{"text": "a, \\"b\\"", "probabilities": {"no": 0.25, "yes": 0.75}}',
    '{"error": "file:2: is empty"}',
    '{"text": "日本\\n語", "probabilities": {"no": 1, "yes": 0.0}, "predictions": ["x", "y"]}',
]


def write_and_die(path: Path, lines: list[str], fingerprint: str = "this") -> None:
    """Writes some predictions, and half a line that is not recorded, and ends."""
    with ResumableWriter(path, fingerprint, KEEP) as partial:
        partial.write(lines)
        partial._file.write(b'{"text": "half a li')


def test_a_file_appears_when_all_rows_are_predicted(tmp_path: Path) -> None:
    path = tmp_path / "below" / "predictions.jsonl"
    with open_writer(str(path), "this", KEEP) as writer:
        writer.write(LINES[:2])
        assert not path.exists()
        writer.write(LINES[2:])
    assert path.read_text().splitlines() == LINES
    assert list(path.parent.iterdir()) == [path]


def test_predictions_before_a_kill_are_kept_and_not_made_again(tmp_path: Path) -> None:
    path = tmp_path / "predictions.jsonl"
    write_and_die(path, LINES[:2])
    assert not path.exists()
    with open_writer(str(path), "this", KEEP) as writer:
        assert writer.done == 2
        writer.write(LINES[2:])
    assert path.read_text().splitlines() == LINES


def test_an_interruption_keeps_the_predictions_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "predictions.jsonl"

    def stopped() -> None:
        with open_writer(str(path), "a", KEEP) as file:
            file.write(LINES[:1])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt, match="after 1 predictions"):
        stopped()
    with open_writer(str(path), "a", KEEP) as file:
        assert file.done == 1


def test_predictions_for_another_input_are_not_resumed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "predictions.jsonl"
    write_and_die(path, LINES[:2], fingerprint="another")
    with open_writer(str(path), "this", KEEP) as writer:
        assert writer.done == 0
        writer.write(LINES[2:])
    assert path.read_text().splitlines() == LINES[2:]
    assert "starting over" in capsys.readouterr().err


@pytest.mark.parametrize(
    "progress", ["", "[]", '{"fingerprint": "this", "rows": 2, "bytes": 9999}']
)
def test_a_wrong_progress_file_is_ignored(tmp_path: Path, progress: str) -> None:
    path = tmp_path / "predictions.jsonl"
    write_and_die(path, LINES[:2])
    path.with_name("predictions.jsonl.partial.json").write_text(progress)
    with open_writer(str(path), "this", KEEP) as writer:
        assert writer.done == 0
        writer.write(LINES)
    assert path.read_text().splitlines() == LINES


def test_two_processes_do_not_write_one_file(tmp_path: Path) -> None:
    path = tmp_path / "predictions.jsonl"
    with ResumableWriter(path, "this", KEEP) as first:
        first.write(LINES)
        with (
            pytest.raises(UserError, match="another process"),
            open_writer(str(path), "this", KEEP),
        ):
            pass
        first.finish()
    assert path.read_text().splitlines() == LINES


def test_a_failure_before_the_first_prediction_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(UserError), open_writer(str(tmp_path / "predictions.jsonl"), "this", KEEP):
        raise UserError("no model")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("ending", "delimiter"), [(".csv", ","), (".tsv", "\t"), (".CSV", ",")])
def test_a_table_has_a_column_a_value_and_a_row_a_prediction(
    tmp_path: Path, ending: str, delimiter: str
) -> None:
    path = tmp_path / f"predictions{ending}"
    with open_writer(str(path), "this", KEEP) as writer:
        writer.write(LINES)
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file, delimiter=delimiter))
    assert rows == [
        ["text", "probabilities.no", "probabilities.yes", "error", "predictions"],
        ['a, "b"', "0.25", "0.75", "", ""],
        ["", "", "", "file:2: is empty", ""],
        ["日本\n語", "1", "0.0", "", '["x", "y"]'],
    ]
    assert list(tmp_path.iterdir()) == [path]


def test_parquet_keeps_numbers_and_lists(tmp_path: Path) -> None:
    path = tmp_path / "predictions.parquet"
    with open_writer(str(path), "this", KEEP) as writer:
        writer.write(LINES)
    none = dict.fromkeys(["text", "probabilities.no", "probabilities.yes", "error", "predictions"])
    assert pq.read_table(path).to_pylist() == [
        {**none, "text": 'a, "b"', "probabilities.no": 0.25, "probabilities.yes": 0.75},
        {**none, "error": "file:2: is empty"},
        {
            **none,
            "text": "日本\n語",
            "probabilities.no": 1.0,
            "probabilities.yes": 0.0,
            "predictions": ["x", "y"],
        },
    ]


def test_parquet_has_the_columns_of_all_chunks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.predict.prediction_writer.CHUNK_ROWS", 1)
    path = tmp_path / "predictions.parquet"
    with open_writer(str(path), "this", KEEP) as writer:
        writer.write(LINES)
    column = pq.read_table(path).column("probabilities.no").to_pylist()
    assert column[1] is None
    assert math.isclose(column[0] + column[2], 1.25)


def test_a_format_that_cannot_be_written_is_an_error_at_once() -> None:
    for name in ("a.xlsx", "a.jsonl.gz"):
        with pytest.raises(UserError, match=r"\.csv, \.tsv, \.parquet"):
            check_output(name, KEEP)
    check_output("a.jsonl", KEEP)
    check_output("predictions", KEEP)


def test_a_pipe_gets_predictions_at_once(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w+") as file:
        stream = StreamWriter(file, "name")
        stream.write(LINES[:1])
        assert json.loads((tmp_path / "file").read_text()) == json.loads(LINES[0])


FORMULAS = (
    '{"text": "=cmd|calc!A0", "-x": "+1+1", "n": -0.5, "label": "@SUM(1)", "tokens": ["=1"]}\n'
    '{"text": "-1.5e3", "-x": "\\t=1", "n": -1, "label": "a=1", "tokens": []}\n'
)


@pytest.mark.parametrize("ending", ["csv", "tsv"])
def test_formulas_are_told_or_become_text_and_numbers_stay(
    ending: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def write(settings: PredictSettings) -> list[list[str]]:
        path = tmp_path / f"answers.{ending}"
        with open_writer(str(path), "this", settings) as writer:
            writer.write(FORMULAS.splitlines())
        with path.open(newline="") as file:
            return list(csv.reader(file, delimiter={"csv": ",", "tsv": "\t"}[ending]))

    kept = [
        ["text", "-x", "n", "label", "tokens"],
        ["=cmd|calc!A0", "+1+1", "-0.5", "@SUM(1)", '["=1"]'],
        ["-1.5e3", "\t=1", "-1", "a=1", "[]"],
    ]
    assert write(KEEP) == kept
    assert "a spreadsheet would compute 5 cells: predict.formulas=escape" in caplog.text
    caplog.clear()
    formulas = {"-x", "=cmd|calc!A0", "+1+1", "@SUM(1)", "\t=1"}
    assert write(ESCAPE) == [[f"'{c}" if c in formulas else c for c in row] for row in kept]
    assert not caplog.text


@pytest.mark.parametrize("output", [None, "a.jsonl", "a.parquet"])
def test_formulas_are_escaped_only_where_there_are_any(output: str | None) -> None:
    check_output("a.CSV", ESCAPE)
    with pytest.raises(UserError, match=r"end its name in \.csv or \.tsv; received"):
        check_output(output, ESCAPE)
