"""Line i of one file belongs to line i of the other, or the user is told why not."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import shutil
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from source_errors import error_of

from pipelines.core.contracts import FieldSpec, RowIssues
from pipelines.core.errors import UserError
from pipelines.core.paths import ROOT
from pipelines.data.sources import parallel_text
from pipelines.data.sources.parallel_text import ParallelText
from pipelines.data.sources.rows import lines

SOURCE = {"source": FieldSpec((), "string")}


SETTINGS = yaml.safe_load((ROOT / "conf/data/parallel_text.yaml").read_text(encoding="utf-8"))
FILES = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
# All that str.splitlines takes for the end of a line, among other characters.
WILD = st.text(
    st.sampled_from(" aé日\v\f\r\x1c\x1d\x1e\x85\u2028\u2029\ufeff")
    | st.characters(exclude_categories=["Cs"], exclude_characters="\n\0")
)


def source(**changes) -> ParallelText:
    plain = {name: str(value) for name, value in changes.items()}
    return ParallelText(**{**SETTINGS, **plain})


def pair(folder: Path, one: str | bytes, other: str | bytes, names=("a.en", "a.de")) -> dict:
    """Settings for two files with that content."""
    for name, content in zip(names, (one, other), strict=True):
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return {"source": folder / names[0], "target": folder / names[1]}


def read(made: ParallelText, part: str = "all") -> tuple[list[tuple[str, str]], list[str]]:
    issues = RowIssues()
    rows = [(row["source"], row["target"]) for row in made.read(part, issues)]
    return rows, issues.first


def test_one_pair_of_files_is_all_the_data(tmp_path: Path) -> None:
    made = source(**pair(tmp_path, "one\ntwo\n", "eins\nzwei\n"))
    made.check()
    assert made.parts() == ("all",)
    assert read(made) == ([("one", "eins"), ("two", "zwei")], [])


def test_given_pairs_of_files_are_parts(tmp_path: Path) -> None:
    train = pair(tmp_path, "one\n", "eins\n")
    test = pair(tmp_path, "two\n", "zwei\n", ("b.en", "b.de"))
    made = source(**train, test_source=test["source"], test_target=test["target"])
    made.check()
    assert made.parts() == ("train", "test")
    assert read(made, "test") == ([("two", "zwei")], [])


@FILES
@given(
    lines=st.lists(st.tuples(WILD, WILD)),
    end=st.sampled_from(["\n", "\r\n"]),
    marks=st.tuples(st.booleans(), st.booleans()),
)
def test_any_lines_stay_with_their_partners(lines, end, marks, tmp_path: Path) -> None:
    # A return before the end belongs to the end.
    lines = [("one", "eins"), *((one.rstrip("\r"), other.rstrip("\r")) for one, other in lines)]
    data = [
        "".join(text + end for text in side).encode("utf-8-sig" if mark else "utf-8")
        for side, mark in zip(zip(*lines, strict=True), marks, strict=True)
    ]
    rows, issues = read(source(**pair(tmp_path, *data)))
    blank = [not one.strip() or not other.strip() for one, other in lines]
    assert rows == [line for line, empty in zip(lines, blank, strict=True) if not empty]
    numbers = [int(issue.split(":")[1]) for issue in issues]
    assert numbers == [number for number, empty in enumerate(blank, 1) if empty][: len(numbers)]


@FILES
@given(one=st.binary(), other=st.binary())
def test_whatever_the_bytes_usable_pairs_come_or_a_user_error(one, other, tmp_path: Path) -> None:
    made = source(**pair(tmp_path, one, other))
    rows, message = [], ""
    try:
        made.check()
        rows, _ = read(made)
    except UserError as error:
        message = str(error)
    assert "\n" not in message
    assert all(text.strip() and text.encode() for row in rows for text in row)


def test_a_line_ends_with_a_newline_and_nothing_else(tmp_path: Path) -> None:
    odd = "a\u2028b\x85c\x0bd\x0ce\rf"
    rows, _ = read(source(**pair(tmp_path, f"{odd}\r\nsecond", "eins\nzwei\n")))
    assert rows == [(odd, "eins"), ("second", "zwei")]


@pytest.mark.parametrize(("suffix", "module"), [("gz", gzip), ("bz2", bz2), ("xz", lzma)])
def test_a_compressed_file_goes_with_a_plain_one(suffix: str, module, tmp_path: Path) -> None:
    content = module.compress(b"eins\nzwei\n")
    made = source(**pair(tmp_path, "one\ntwo\n", content, ("a.en", f"a.de.{suffix}")))
    made.check()
    assert read(made)[0] == [("one", "eins"), ("two", "zwei")]
    (tmp_path / f"a.de.{suffix}").write_bytes(content[:-9])
    assert "can't be read" in error_of(made)


def test_blank_lines_are_bad_rows_with_their_side(tmp_path: Path) -> None:
    rows, issues = read(source(**pair(tmp_path, "one\n\n \nfour\n", "eins\nzwei\n\nvier\n")))
    assert rows == [("one", "eins"), ("four", "vier")]
    assert issues == ["a.en:2: empty source", "a.en:3: both empty"]
    _, issues = read(source(**pair(tmp_path, "one\ntwo\n", "eins\n\u3000\n")))
    assert issues == ["a.de:2: empty target"]


def test_a_line_that_cannot_be_used_is_a_bad_row(tmp_path: Path) -> None:
    target = "eins\nfünf\nsüß\n".encode() + b"vi\xe9r\n" + b"f\0nf\n"
    rows, issues = read(source(**pair(tmp_path, "1\n2\n3\n4\n5\n", target)))
    assert [number for number, _ in rows] == ["1", "2", "3"]
    assert issues == [
        "a.de:4: target is not valid UTF-8",
        "a.de:5: target holds a NUL byte",
    ]


def test_a_file_in_another_encoding_is_reported_with_how_to_convert_it(tmp_path: Path) -> None:
    german = "ein Mann\nMänner\nschöne Grüße\n"
    message = error_of(source(**pair(tmp_path, "a\nb\nc\n", german.encode("latin-1"))))
    assert message.startswith(f"data.target: {tmp_path}/a.de must be UTF-8; line 2 isn't ('M\\xe4n")
    assert message.endswith("iconv -f WINDOWS-1252 -t UTF-8 a.de > NEW")
    assert "is UTF-16" in error_of(source(**pair(tmp_path, "a\nb\nc\n", german.encode("utf-16"))))


def test_a_file_with_more_lines_is_reported_with_both_numbers_and_the_first_too_many(
    tmp_path: Path,
) -> None:
    made = source(**pair(tmp_path, "one\ntwo\n", f"eins\nzwei\n{'drei ' * 50}\nvier\n"))
    message = error_of(made)
    assert f"{tmp_path}/a.de has 4 lines and {tmp_path}/a.en 2; " in message
    assert "a.de:3 is the first without a partner ('drei drei" in message
    assert len(message) < 450 + 2 * len(str(tmp_path))
    with pytest.raises(UserError) as error:
        read(made)
    assert str(error.value) == message


def test_blank_lines_at_the_end_of_one_file_are_reported_as_such(tmp_path: Path) -> None:
    message = error_of(source(**pair(tmp_path, "one\ntwo\n\n \n", "eins\nzwei\n")))
    assert "a.en has 4 lines" in message
    assert message.endswith("the lines beyond 2 are blank: remove them")


def test_large_files_are_checked_when_they_are_read(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(parallel_text, "_QUICK_BYTES", 3)
    made = source(**pair(tmp_path, "one\ntwo\n", "eins\n"))
    made.check()
    with pytest.raises(UserError, match="has 2 lines"):
        read(made)


def test_files_that_are_not_given_are_reported(tmp_path: Path) -> None:
    assert error_of(source()).startswith("data.source and data.target must be given")
    files = pair(tmp_path, "one\n", "eins\n")
    assert "data.target is null: give both" in error_of(source(source=files["source"]))
    message = error_of(source(**files, test_target=files["target"]))
    assert message.startswith("data.test_source and data.test_target go together; ")
    assert "data.test_source is null" in message
    message = error_of(source(validation_source=files["source"], validation_target=files["target"]))
    assert message.startswith("data.source and data.target must be given")


def test_a_missing_file_is_reported_by_its_setting_with_the_nearest_names(tmp_path: Path) -> None:
    files = pair(tmp_path, "one\n", "eins\n")
    message = error_of(source(source=files["source"], target=tmp_path / "a.d"))
    assert message.startswith("data.target: there is no file")
    assert "did you mean 'a.de'" in message
    assert error_of(source(**files, validation_source=tmp_path, validation_target="x")).startswith(
        f"data.validation_source: {tmp_path} must be a file"
    )
    for odd in ("~nobody-here/x.de", "x" * 5000, "a\0b.de", f"{files['source']}/x", ""):
        error_of(source(source=files["source"], target=odd))


def test_the_same_file_twice_is_reported(tmp_path: Path) -> None:
    files = pair(tmp_path, "one\n", "eins\n")
    link = tmp_path / "link.de"
    os.symlink(files["source"], link)
    for other in (files["source"], link):
        assert "must be different files" in error_of(source(source=files["source"], target=other))
    twice = source(**files, test_source=files["source"], test_target=files["target"])
    assert "must be different files" in error_of(twice)


@pytest.mark.parametrize("content", ["", "\n\n", " \r\n"])
def test_an_empty_file_is_reported(content: str, tmp_path: Path) -> None:
    message = error_of(source(**pair(tmp_path, "one\n", content)))
    assert message == f"data.target: {tmp_path}/a.de must hold a sentence a line; it is empty"


def test_a_file_with_columns_is_reported(tmp_path: Path) -> None:
    message = error_of(source(**pair(tmp_path, "one\n", "eins\n", ("a.en", "a.csv.gz"))))
    assert "a.csv.gz has columns: use data=pair_files" in message


def test_an_unreadable_file_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail_to_open(*_):
        raise PermissionError(13, "Permission denied")

    made = source(**pair(tmp_path, "one\n", "eins\n"))
    monkeypatch.setattr(lines, "open", fail_to_open, raising=False)
    assert "can't be read (Permission denied)" in error_of(made)


def test_provenance_is_the_files_and_what_is_said(tmp_path: Path) -> None:
    files = pair(tmp_path, "one\n", "eins\n")
    provenance = source(**files).provenance()
    assert provenance.name == "a.en and a.de"
    assert provenance.origin == f"{tmp_path}/a.en, {tmp_path}/a.de"
    assert provenance.licence == provenance.citation == "not stated"
    said = source(**files, name="mine", licence="CC0", citation="me").provenance()
    assert (said.name, said.licence, said.citation) == ("mine", "CC0", "me")


def test_the_fingerprint_changes_with_content_and_sides_only(tmp_path: Path) -> None:
    files = pair(tmp_path, "one\n", "eins\n")
    first = source(**files).fingerprint()
    copy = {side: shutil.copy(path, tmp_path / f"copy.{side}") for side, path in files.items()}
    assert source(**copy, name="other", licence="CC0").fingerprint() == first
    assert source(source=files["target"], target=files["source"]).fingerprint() != first
    tested = source(**files, test_source=copy["source"], test_target=copy["target"])
    assert tested.fingerprint() != first
    Path(copy["target"]).write_text("eins!\n")
    assert source(**copy).fingerprint() != first


def test_what_is_given_to_translate_is_lines_or_a_column(tmp_path: Path) -> None:
    made = source(**pair(tmp_path, "one\n", "eins\n"))
    for name, content in {"b.en": "two\n\nthree\n", "b.jsonl": '{"source": "two"}'}.items():
        (tmp_path / name).write_text(content)
        issues = RowIssues()
        rows = list(made.read_inputs(tmp_path / name, SOURCE, issues))
        assert rows[0] == {"source": "two"}
        assert issues.first == (["b.en:2: column 'source' is empty"] if name == "b.en" else [])
