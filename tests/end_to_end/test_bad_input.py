"""People's data as it is: a fault is one line that says what to do, and leaves nothing behind."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import pytest
from conftest import QUICK, ROOT
from hydra import compose, initialize_config_dir

from pipelines.core.errors import UserError
from pipelines.pipeline import run

ROWS = [(f"a {word} film number {n}", label) for n in range(12) for word, label in
        (("good", "positive"), ("bad", "negative"))]  # fmt: skip


def train(directory: Path, *overrides: str) -> dict:
    """A quick run in this process; returns its metrics."""
    given = ["data=text_files", *QUICK, "train.epochs=1", "evaluate.diagnostics=false"]
    given += ["export.saved_model=false", "train.tensorboard=false", *overrides]
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        composed = compose("config", given)
    run(composed, given, str(directory))
    return json.loads((directory / "metrics.json").read_text())


def write_csv(
    path: Path, rows: list[tuple[str, ...]], header: tuple[str, ...] = ("text", "label")
) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def fail_to_train(tmp_path: Path, *overrides: str) -> str:
    """The one line that a run ends with; checks that nothing half-written is left."""
    directory = tmp_path / "run"
    with pytest.raises(UserError) as error:
        train(directory, *overrides)
    assert not directory.exists()
    assert not list(Path(os.environ["RECURRENT_CACHE"]).glob("*.tmp*"))
    message = str(error.value)
    assert "\n" not in message
    return message


def test_a_missing_file_is_named_with_its_neighbours(tmp_path: Path) -> None:
    write_csv(tmp_path / "reviews.csv", ROWS)
    message = fail_to_train(tmp_path, f"data.path={tmp_path / 'review.csv'}")
    assert "review.csv" in message
    assert "reviews.csv" in message


@pytest.mark.parametrize("content", [b"", b"text,label\n"])
def test_an_empty_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "empty.csv").write_bytes(content)
    assert "empty" in fail_to_train(tmp_path, f"data.path={tmp_path / 'empty.csv'}")


def test_a_missing_column_is_reported_with_those_that_are_there(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", ROWS, ("review", "label"))
    message = fail_to_train(tmp_path, f"data.path={path}")
    assert "data.text_column" in message
    assert "review" in message


def write_headless(path: Path, rows: list[tuple[str, ...]]) -> Path:
    write_csv(path, rows[1:], rows[0])
    return path


@pytest.mark.parametrize(
    ("rows", "advice"),
    [
        (ROWS, "data.text_column=0 data.label_column=1"),
        ([(label, text) for text, label in ROWS], "data.text_column=1 data.label_column=0"),
        (
            [(str(n), label, "2024-05-01", text) for n, (text, label) in enumerate(ROWS)],
            "data.text_column=3 data.label_column=1",
        ),
    ],
)
def test_a_file_without_a_header_is_reported_with_positions_that_work(
    tmp_path: Path, rows: list[tuple[str, ...]], advice: str
) -> None:
    path = write_headless(tmp_path / "a.csv", rows)
    message = fail_to_train(tmp_path, f"data.path={path}")
    assert "first line looks like data" in message
    assert f"set {advice} " in message
    metrics = train(tmp_path / "run", f"data.path={path}", *advice.split())
    assert metrics["data"]["rows"] == len(ROWS)
    assert set(metrics["data"]["strata"]["train"]) == {"positive", "negative"}


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (("review", "stars"), "choices: review, stars"),
        (("review text of the customer", "number of stars"), "choices: number of stars"),
        (("txt", "lbl"), "did you mean 'txt'?"),
    ],
)
def test_a_header_with_other_names_is_not_taken_for_data(
    tmp_path: Path, header: tuple[str, str], expected: str
) -> None:
    message = fail_to_train(tmp_path, f"data.path={write_csv(tmp_path / 'a.csv', ROWS, header)}")
    assert expected in message
    assert "looks like data" not in message


def test_a_single_class(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", [(text, "positive") for text, _ in ROWS])
    assert "at least two" in fail_to_train(tmp_path, f"data.path={path}")


def test_a_label_that_occurs_in_test_only(tmp_path: Path) -> None:
    write_csv(tmp_path / "train.csv", ROWS)
    write_csv(
        tmp_path / "test.csv", [("something else", "mixed"), *[(f"{t}!", la) for t, la in ROWS]]
    )
    message = fail_to_train(tmp_path, f"data.path={tmp_path}")
    assert "'mixed'" in message
    assert "positive" in message


def test_a_quote_that_never_closes_is_reported_by_the_line_where_it_opens(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", ROWS)
    lines = path.read_text().splitlines()
    lines[4] = '"' + lines[4]
    path.write_text("\n".join(lines))
    assert "a.csv:5" in fail_to_train(tmp_path, f"data.path={path}")


@pytest.mark.parametrize(
    "row", [b"caf\xe9 film,positive", b"   ,positive", b"a film,", b"one,two,three,four"]
)
def test_a_few_bad_rows_are_skipped_and_counted_and_more_are_an_error(
    tmp_path: Path, row: bytes
) -> None:
    path = write_csv(tmp_path / "a.csv", ROWS)
    path.write_bytes(path.read_bytes() + row + b"\n")
    message = fail_to_train(tmp_path, f"data.path={path}", "prepare.bad_rows=0")
    assert "a.csv:26" in message
    assert "prepare.bad_rows" in message
    metrics = train(tmp_path / "run", f"data.path={path}", "prepare.bad_rows=0.1")
    assert metrics["data"]["bad_rows"] == 1
    assert metrics["data"]["bad_row_examples"][0].startswith("a.csv:26")


def test_emoji_and_rows_of_a_megabyte_are_texts_like_others(tmp_path: Path) -> None:
    odd = [("👍🏽", "positive"), ("word " * 210_000, "negative"), ("<br />", "negative")]
    path = write_csv(tmp_path / "a.csv", [*ROWS, *odd])
    metrics = train(tmp_path / "run", f"data.path={path}")
    assert metrics["data"]["bad_rows"] == 0
    assert sum(metrics["data"]["splits"].values()) == len(ROWS) + 3


@pytest.mark.parametrize("labels", [("1", "2", "10"), ("bad", "fair", "good")])
def test_labels_are_words_or_numbers_and_two_or_more(
    tmp_path: Path, labels: tuple[str, ...]
) -> None:
    rows = [(f"film {n} is {label}", label) for n in range(20) for label in labels]
    metrics = train(tmp_path / "run", f"data.path={write_csv(tmp_path / 'a.csv', rows)}")
    assert metrics["test"]["accuracy"]["value"] >= 0
    codec = json.loads((tmp_path / "run" / "codec" / "label.json").read_text())
    assert codec["names"] == list(labels)


@pytest.mark.parametrize("labels", ["aabb", "aaaab", "aabbcc"])
def test_a_handful_of_rows_is_enough(tmp_path: Path, labels: str) -> None:
    path = write_csv(tmp_path / "a.csv", [(f"text number {n}", a) for n, a in enumerate(labels)])
    shares = ["prepare.validation=0.08", "prepare.test=0.12"]
    metrics = train(tmp_path / "run", f"data.path={path}", *shares, "evaluate.diagnostics=true")
    assert metrics["data"]["splits"] == {"train": len(labels) - 2, "validation": 1, "test": 1}
    assert (tmp_path / "run" / "report.html").exists()


def test_too_few_rows_for_three_splits(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", ROWS[:3])
    message = fail_to_train(tmp_path, f"data.path={path}")
    assert "validation split is empty" in message
    assert "train keeps one of each label" in message


def test_training_rows_that_are_also_in_test_are_dropped_and_counted(tmp_path: Path) -> None:
    write_csv(tmp_path / "train.csv", ROWS)
    write_csv(
        tmp_path / "test.csv", [(f" {ROWS[0][0].upper()} ", ROWS[0][1]), ("other", "negative")]
    )
    metrics = train(tmp_path / "run", f"data.path={tmp_path}")
    assert metrics["data"]["splits"]["test"] == 2
    assert sum(metrics["data"]["splits"].values()) == len(ROWS) - 1 + 2


def test_a_cache_that_cannot_be_written(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", ROWS)
    (tmp_path / "file").write_text("")
    message = fail_to_train(
        tmp_path, f"data.path={path}", f"prepare.cache_dir={tmp_path / 'file' / 'x'}"
    )
    assert "prepare.cache_dir" in message
