"""Every usable row is read as it was written; every other one is told with its file and line."""

from __future__ import annotations

import bz2
import csv
import gzip
import json
import lzma
import tracemalloc
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.core.contracts import RowIssues
from pipelines.core.errors import UserError
from pipelines.data.sources.rows import (
    Columns,
    Dialect,
    column_names,
    delimited,
    label_text,
    read_lines,
    read_rows,
)

COLUMNS = {"text": "text", "label": "label"}
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)
USABLE = TEXTS.filter(lambda text: not text.isspace())
FILES = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def read(path: Path, columns=COLUMNS, **how) -> tuple[list[dict[str, str]], RowIssues]:
    issues = RowIssues()
    return list(read_rows(path, Columns(columns, labels={"label"}), issues, Dialect(**how))), issues


def write_file(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def one_line(error: pytest.ExceptionInfo[UserError]) -> str:
    message = str(error.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@FILES
@given(rows=st.lists(st.tuples(USABLE, st.sampled_from(["good", "bad", "1"])), min_size=1))
def test_any_text_survives_csv(rows, delimiter: str, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter=delimiter).writerows(
            [("label", "text"), *((b, a) for a, b in rows)]
        )
    found, issues = read(path, delimiter=delimiter)
    assert found == [{"text": text, "label": label} for text, label in rows]
    assert issues.count == 0


@pytest.mark.parametrize("ascii_only", [True, False])
@FILES
@given(rows=st.lists(st.tuples(USABLE, st.sampled_from(["good", "1"])), min_size=1))
def test_any_text_survives_json_lines(rows, ascii_only: bool, tmp_path: Path) -> None:
    lines = [json.dumps({"text": a, "label": b}, ensure_ascii=ascii_only) for a, b in rows]
    found, issues = read(write_file(tmp_path / "a.jsonl", "\n".join(lines)))
    assert found == [{"text": text, "label": label} for text, label in rows]
    assert issues.count == 0


@FILES
@given(content=st.binary() | st.text(' a,"\n\r\0é').map(str.encode))
@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.txt", "a.csv.gz", "a.parquet"])
def test_whatever_the_bytes_rows_come_or_a_user_error(content, name: str, tmp_path: Path) -> None:
    path = write_file(tmp_path / name, content)
    try:
        rows, _ = read(path, {"text": 0} if ".csv" in name else {"text": "text"})
    except UserError:
        return
    for row in rows:
        assert row["text"].strip()
        assert row["text"].encode()


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())]
)
def test_parquet_texts_of_any_kind_are_read_and_nulls_are_bad_rows(kind, tmp_path: Path) -> None:
    texts = pa.array(["one", None, "three"], pa.string()).cast(kind)
    pq.write_table(
        pa.table({"x": [0, 0, 0], "label": [1, 0, 1], "text": texts}), tmp_path / "a.parquet"
    )
    found, issues = read(tmp_path / "a.parquet")
    assert found == [{"text": "one", "label": "1"}, {"text": "three", "label": "1"}]
    assert issues.first == ["a.parquet:2: column 'text' has no value"]


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([1, 2], ["1", "2"]),
        ([1.0, 0.5], ["1", "0.5"]),
        ([True, False], ["true", "false"]),
        (["a", " b "], ["a", "b"]),
        ([float("nan"), float("inf")], []),
        ([[1], [2]], []),
    ],
)
def test_parquet_labels_of_any_type_are_text_or_bad_rows(labels, expected, tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["x", "y"], "label": labels}), tmp_path / "a.parquet")
    found, issues = read(tmp_path / "a.parquet")
    assert [row["label"] for row in found] == expected
    assert issues.count == 2 - len(expected)


def test_the_same_label_is_the_same_text_in_every_format() -> None:
    assert {label_text(value) for value in (1, 1.0, "1", "1.0", " 1 ", "1.00")} == {"1"}
    assert {label_text(value) for value in (True, "True", "true", "TRUE")} == {"true"}
    assert {label_text(value) for value in (0, -0.0, "0", "-0.0")} == {"0"}
    assert label_text("1.10") == "1.10"
    assert label_text("None") == "None"


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (b"one field", "wrong number of fields"),
        (b"a,b,c", "wrong number of fields"),
        (b",good", "column 'text' is empty"),
        (b'" \t",good', "column 'text' is empty"),
        ("\N{NO-BREAK SPACE}\N{IDEOGRAPHIC SPACE},good".encode(), "column 'text' is empty"),
        (b"fine, ", "column 'label' is empty"),
        (b"caf\xe9,good", "column 'text' is not valid UTF-8"),
        (b"fine,caf\xe9", "column 'label' is not valid UTF-8"),
        (b"a\0b,good", "column 'text' holds a NUL byte"),
        (b'"fine"not,good', "text after a closing quote"),
    ],
)
def test_a_bad_csv_row_is_reported_with_its_line_and_the_rest_is_read(
    row, reason, tmp_path
) -> None:
    content = b'text,label\n"two\nlines",good\n\n' + row + b"\nlast,bad\n"
    found, issues = read(write_file(tmp_path / "a.csv", content))
    assert found == [{"text": "two\nlines", "label": "good"}, {"text": "last", "label": "bad"}]
    assert issues.first == [f"a.csv:5: {reason}"]
    assert issues.reasons == {reason: 1}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"text": "a", "label": }', "not valid JSON"),
        (b'{"text": "a", "label": "b"} and more', "not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
        (b'{"text": ' + b"1" * 5000 + b', "label": "b"}', "not valid JSON"),
        (b"[1, 2]", "not a JSON object"),
        (b"null", "not a JSON object"),
        (b'{"text": "a"}', "column 'label' has no value"),
        (b'{"text": null, "label": "b"}', "column 'text' has no value"),
        (b'{"text": 7, "label": "b"}', "column 'text' is not text"),
        (b'{"text": ["a"], "label": "b"}', "column 'text' is not text"),
        (b'{"text": "a", "label": ["b"]}', "column 'label' is not text"),
        (b'{"text": "a", "label": {"b": 1}}', "column 'label' is not text"),
        (b'{"text": "a", "label": NaN}', "column 'label' has no value"),
        (b'{"text": "", "label": "b"}', "column 'text' is empty"),
        (b'{"text": "\\ud800", "label": "b"}', "column 'text' is not valid UTF-8"),
        (b'{"text": "\xff", "label": "b"}', "column 'text' is not valid UTF-8"),
        (b'{"text": "\\u0000a", "label": "b"}', "column 'text' holds a NUL byte"),
    ],
)
def test_a_bad_json_line_is_reported_and_the_rest_is_read(line, reason, tmp_path) -> None:
    content = b'{"text": "one", "label": 1}\n\n' + line + b'\n{"label": true, "text": "two"}'
    found, issues = read(write_file(tmp_path / "a.jsonl", content))
    assert found == [{"text": "one", "label": "1"}, {"text": "two", "label": "true"}]
    assert issues.first == [f"a.jsonl:3: {reason}"]


@pytest.mark.parametrize("last", ['"never closed,good\nnext,bad\n', '"open,good\n"next",bad\n'])
def test_a_quote_that_never_closes_is_reported_with_the_line_where_its_record_starts(
    last, tmp_path
) -> None:
    path = write_file(tmp_path / "a.csv", 'text,label\n"a\nb",good\n' + last + "x,y\n" * 100)
    with pytest.raises(UserError, match="starts in line 4 doesn't") as error:
        read(path)
    assert "data.quoting=false" in one_line(error)


def test_a_quote_that_never_closes_swallows_no_more_than_the_longest_field(
    tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr(delimited, "MAX_LINE_BYTES", 1 << 18)
    path = tmp_path / "a.csv"
    with path.open("wb") as file:
        file.write(b'text,label\nfine,good\n"never closed,good\n')
        file.write(b"0123456789\n" * 3_000_000)
    tracemalloc.start()
    with pytest.raises(UserError, match="starts in line 3 doesn't"):
        read(path)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 12_000_000


def test_quotes_are_plain_characters_without_quoting(tmp_path) -> None:
    path = write_file(tmp_path / "a.tsv", 'text\tlabel\n"so\tgood\n" to speak\tbad\n')
    found, _ = read(path, quoting=False)
    assert [row["text"] for row in found] == ['"so', '" to speak']


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.txt"])
def test_a_line_without_end_is_fatal_and_is_not_read_whole(name, tmp_path) -> None:
    path = tmp_path / name
    with path.open("wb") as file:
        # More than is looked at to see whether this is a text file at all.
        file.write((b'{"text": "a"}\n' if "json" in name else b"text\n") * 250_000)
        file.truncate(1 << 33)  # eight gigabytes of NUL, without using any disk
    with pytest.raises(UserError, match="line 250001 is longer"):
        read(path, {"text": "text"})


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path) -> None:
    found, _ = read(write_file(tmp_path / "a.csv", "text,label\nx,y\n".encode("utf-8-sig")))
    assert found == [{"text": "x", "label": "y"}]
    assert list(read_lines(write_file(tmp_path / "a.txt", "x\n".encode("utf-8-sig")))) == ["x"]


def test_utf_16_is_refused_with_the_remedy(tmp_path) -> None:
    with pytest.raises(UserError, match="is UTF-16: save it as UTF-8") as error:
        read(write_file(tmp_path / "a.csv", "text,label\nx,y\n".encode("utf-16")))
    one_line(error)


@pytest.mark.parametrize(
    ("start", "message"),
    [
        (b"PK\x03\x04\x14\0rest", "Excel workbook: export its table as CSV"),
        (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", "it is a PDF"),
        (b"PAR1\x15\x04\0", "ends in .parquet"),
        (b"\x1f\x8b\x08", "ends in .gz"),
        (bytes(range(9)) * 20, "it is in a binary format"),
    ],
)
def test_files_that_are_no_text_are_refused_by_their_kind(
    start: bytes, message: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message) as error:
        read(write_file(tmp_path / "a.csv", start))
    assert "must be a text file" in str(error.value)


@pytest.mark.parametrize("start", ["PAR1", "%PDF", "SQLite format 3", "PK"])
def test_a_text_may_begin_like_a_binary_file(start: str, tmp_path: Path) -> None:
    found, _ = read(write_file(tmp_path / "a.csv", f"{start},text,label\n1,x,y\n".encode()))
    assert found == [{"text": "x", "label": "y"}]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_csv_lines_may_end_in_any_way(end, tmp_path) -> None:
    found, _ = read(write_file(tmp_path / "a.csv", end.join(["text,label", "a,1", "b,0"])))
    assert found == [{"text": "a", "label": "1"}, {"text": "b", "label": "0"}]


@pytest.mark.parametrize(("suffix", "module"), [("gz", gzip), ("bz2", bz2), ("xz", lzma)])
def test_compressed_files_are_read_and_damaged_ones_refused(suffix, module, tmp_path) -> None:
    rows = "".join(f"text {number},{number}\n" for number in range(5000))
    packed = module.compress(f"text,label\n{rows}".encode())
    assert len(read(write_file(tmp_path / f"a.CSV.{suffix}", packed))[0]) == 5000
    for content in (packed[: len(packed) // 2], b"text,label\nplain,1\n"):
        with pytest.raises(UserError, match="can't be read") as error:
            read(write_file(tmp_path / f"a.csv.{suffix}", content))
        one_line(error)


def test_damaged_parquet_is_refused(tmp_path) -> None:
    pq.write_table(
        pa.table({"text": ["x" * 99] * 999, "label": ["y"] * 999}), tmp_path / "a.parquet"
    )
    content = (tmp_path / "a.parquet").read_bytes()
    for damaged in (content[:-20], b"PAR1" + b"\xff" * 60 + content[64:], b"text,label"):
        with pytest.raises(UserError, match="can't be read") as error:
            read(write_file(tmp_path / "b.parquet", damaged))
        one_line(error)


def test_plain_text_gives_a_row_a_line_and_keeps_its_numbers(tmp_path) -> None:
    path = write_file(tmp_path / "a.txt", "one\r\n\n three\u2028still three\x0c\n")
    found, issues = read(path, {"source": "anything"})
    assert [row["source"] for row in found] == ["one", " three\u2028still three\x0c"]
    assert issues.first == ["a.txt:2: column 'anything' is empty"]
    assert list(read_lines(path)) == ["one", "", " three\u2028still three\x0c"]


def test_without_a_header_columns_go_by_position(tmp_path) -> None:
    path = write_file(tmp_path / "a.csv", "1,title,first\n2,title,second\nbroken\n")
    found, issues = read(path, {"text": 2, "label": 0})
    assert found == [{"text": "first", "label": "1"}, {"text": "second", "label": "2"}]
    assert issues.first == ["a.csv:3: wrong number of fields"]
    with pytest.raises(UserError, match=r"there is no column 3.*0 to 2"):
        read(path, {"text": 3, "label": 0})


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "", "is empty"),
        ("a.csv", "\n\n", "is empty"),
        ("a.csv", "text,label\n", "none that can be read"),
        ("a.csv", "review,label\nx,y\n", "no column 'text'; choices: label, review"),
        ("a.csv", "texts,label\nx,y\n", "did you mean 'texts'?"),
        ("a.csv", "text;label\nx;y\n", "set data.delimiter=semicolon"),
        ("a.csv", "text,text,label\nx,y,z\n", "'text' more than once"),
        ("a.csv", '"text"s,label\nx,y\n', "starts in line 1 doesn't"),
        ("a.tsv", "text,label\nx,y\n", "set data.delimiter=comma"),
        ("a.jsonl", "", "is empty"),
        ("a.jsonl", "\n \n", "is empty"),
        ("a.jsonl", '[{"text": "x", "label": "y"}]', "its first lines are none"),
        ("a.jsonl", '{"txt": "x", "label": "y"}', "did you mean 'txt'?"),
        ("a.parquet", "", "can't be read"),
        ("a.txt", "x\n", "it has a text a line"),
        ("a.txt", "\n", "it is empty"),
        ("a.json", "{}", "name it .jsonl"),
        ("a.xlsx", "PK", "must end in .csv"),
    ],
)
def test_a_file_that_cannot_do_is_reported_in_one_line(name, content, message, tmp_path) -> None:
    with pytest.raises(UserError) as error:
        read(write_file(tmp_path / name, content))
    assert message in one_line(error)


def test_a_position_where_columns_have_names_is_reported(tmp_path) -> None:
    path = write_file(tmp_path / "a.csv", "text,label\nx,y\n")
    with pytest.raises(UserError, match=r"data\.label_column: a position"):
        read(path, {"text": "text", "label": 1})
    with pytest.raises(UserError, match=r"data\.text_column: a position"):
        read(write_file(tmp_path / "a.jsonl", '{"text": "x"}'), {"text": 0})


def test_column_names_are_those_of_the_file(tmp_path) -> None:
    assert column_names(write_file(tmp_path / "a.csv", " a ,b\n1,2\n")) == ["a", "b"]
    assert column_names(write_file(tmp_path / "a.jsonl", '{"a": 1}\n{"b": 2, "a": 3}')) == [
        "a",
        "b",
    ]
    pq.write_table(pa.table({"a": [1], "b": [2]}), tmp_path / "a.parquet")
    assert column_names(tmp_path / "a.parquet") == ["a", "b"]


def test_a_file_larger_than_a_block_is_read_in_order(tmp_path) -> None:
    lines = [f"é{number},{number % 3}" for number in range(200_000)]
    found, issues = read(write_file(tmp_path / "a.csv", "\n".join(["text,label", *lines])))
    assert [row["text"] for row in found] == [f"é{number}" for number in range(200_000)]
    assert issues.count == 0
