"""Files of answers: whole or not there, gone on with after a kill, in people's formats."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipelines.core.errors import UserError
from pipelines.predict.output import Partial, Stream, check_output, opened

LINES = [
    '{"text": "a, \\"b\\"", "probabilities": {"no": 0.25, "yes": 0.75}}',
    '{"error": "file:2: is empty"}',
    '{"text": "日本\\n語", "probabilities": {"no": 1, "yes": 0.0}, "answers": ["x", "y"]}',
]


def killed(path: Path, lines: list[str], about: str = "this") -> None:
    """Writes some answers, and more that the note doesn't tell of, and ends."""
    with Partial(path, about) as partial:
        partial.write(lines)
        partial._file.write(b'{"text": "half a li')


def test_a_file_appears_when_all_is_answered(tmp_path: Path) -> None:
    path = tmp_path / "below" / "answers.jsonl"
    with opened(str(path), "this") as answers:
        answers.write(LINES[:2])
        assert not path.exists()
        answers.write(LINES[2:])
    assert path.read_text().splitlines() == LINES
    assert list(path.parent.iterdir()) == [path]


def test_what_was_answered_before_a_kill_is_kept_and_not_asked_again(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    killed(path, LINES[:2])
    assert not path.exists()
    with opened(str(path), "this") as answers:
        assert answers.done == 2
        answers.write(LINES[2:])
    assert path.read_text().splitlines() == LINES


def test_an_interruption_keeps_the_answers_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"

    def stopped() -> None:
        with opened(str(path), "a") as file:
            file.write(LINES[:1])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt, match="after 1 answers"):
        stopped()
    with opened(str(path), "a") as file:
        assert file.done == 1


def test_answers_of_another_question_are_not_gone_on_with(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "answers.jsonl"
    killed(path, LINES[:2], about="another")
    with opened(str(path), "this") as answers:
        assert answers.done == 0
        answers.write(LINES[2:])
    assert path.read_text().splitlines() == LINES[2:]
    assert "starting over" in capsys.readouterr().err


@pytest.mark.parametrize("note", ["", "[]", '{"about": "this", "rows": 2, "bytes": 9999}'])
def test_a_note_that_says_nothing_true_is_not_believed(tmp_path: Path, note: str) -> None:
    path = tmp_path / "answers.jsonl"
    killed(path, LINES[:2])
    path.with_name("answers.jsonl.partial.json").write_text(note)
    with opened(str(path), "this") as answers:
        assert answers.done == 0
        answers.write(LINES)
    assert path.read_text().splitlines() == LINES


def test_two_processes_do_not_write_one_file(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    with Partial(path, "this") as first:
        first.write(LINES)
        with pytest.raises(UserError, match="another process"), opened(str(path), "this"):
            pass
        first.finish()
    assert path.read_text().splitlines() == LINES


def test_a_failure_before_the_first_answer_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(UserError), opened(str(tmp_path / "answers.jsonl"), "this"):
        raise UserError("no model")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("ending", "delimiter"), [(".csv", ","), (".tsv", "\t"), (".CSV", ",")])
def test_a_table_has_a_column_a_value_and_a_row_an_answer(
    tmp_path: Path, ending: str, delimiter: str
) -> None:
    path = tmp_path / f"answers{ending}"
    with opened(str(path), "this") as answers:
        answers.write(LINES)
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file, delimiter=delimiter))
    assert rows == [
        ["text", "probabilities.no", "probabilities.yes", "error", "answers"],
        ['a, "b"', "0.25", "0.75", "", ""],
        ["", "", "", "file:2: is empty", ""],
        ["日本\n語", "1", "0.0", "", '["x", "y"]'],
    ]
    assert list(tmp_path.iterdir()) == [path]


def test_parquet_keeps_numbers_and_lists(tmp_path: Path) -> None:
    path = tmp_path / "answers.parquet"
    with opened(str(path), "this") as answers:
        answers.write(LINES)
    none = dict.fromkeys(["text", "probabilities.no", "probabilities.yes", "error", "answers"])
    assert pq.read_table(path).to_pylist() == [
        {**none, "text": 'a, "b"', "probabilities.no": 0.25, "probabilities.yes": 0.75},
        {**none, "error": "file:2: is empty"},
        {
            **none,
            "text": "日本\n語",
            "probabilities.no": 1.0,
            "probabilities.yes": 0.0,
            "answers": ["x", "y"],
        },
    ]


def test_parquet_has_the_columns_of_all_chunks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.predict.output.CHUNK", 1)
    path = tmp_path / "answers.parquet"
    with opened(str(path), "this") as answers:
        answers.write(LINES)
    column = pq.read_table(path).column("probabilities.no").to_pylist()
    assert column[1] is None
    assert math.isclose(column[0] + column[2], 1.25)


def test_a_format_that_cannot_be_written_is_told_at_once() -> None:
    for name in ("a.xlsx", "a.jsonl.gz"):
        with pytest.raises(UserError, match=r"\.csv, \.tsv, \.parquet"):
            check_output(name)
    check_output("a.jsonl")
    check_output("answers")


def test_a_pipe_gets_answers_at_once(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w+") as file:
        stream = Stream(file)
        stream.write(LINES[:1])
        assert json.loads((tmp_path / "file").read_text()) == json.loads(LINES[0])
