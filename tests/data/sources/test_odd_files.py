"""No regular files, impossible names, files that unpack without end: never waited for."""

from __future__ import annotations

import gzip
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from caption_files import CSV, ROWS, build_source, coco, make_image, read, write_folder

from pipelines.core.contracts import FieldSpec, RowIssues
from pipelines.core.errors import UserError
from pipelines.core.files import is_file, special_kind
from pipelines.data.sources.rows import Columns, lines, read_rows

IMAGE = {"image": FieldSpec((), "string")}


@contextmanager
def special(path: Path, kind: str) -> Iterator[Path]:
    """A path of the kind; reading it would wait for ever, but for a folder."""
    if kind == "a socket":
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))
            yield path
        return
    if kind == "a pipe":
        os.mkfifo(path)
    elif kind == "a device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    yield path


KINDS = ["a pipe", "a socket", "a device", "a folder"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ending", ["csv", "jsonl", "txt", "csv.gz", "parquet"])
def test_a_table_that_is_no_regular_file_is_refused(kind: str, ending: str, tmp_path: Path) -> None:
    columns = Columns({"text": "text", "label": "label"})
    with special(tmp_path / f"a.{ending}", kind) as path:
        assert special_kind(path) == kind
        with pytest.raises(UserError, match=r"must be a (regular )?file; it is"):
            list(read_rows(path, columns, RowIssues()))


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_is_read_whole_is_regular(kind: str, tmp_path: Path) -> None:
    with (
        special(tmp_path / "a.json", kind) as path,
        pytest.raises(UserError, match=f"must be a regular file; it is {kind}"),
    ):
        lines.read_bytes(path)


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_that_is_no_regular_file_is_an_issue(kind: str, tmp_path: Path) -> None:
    settings = write_folder(tmp_path, CSV + "odd.png,x\n")
    made = build_source(**settings, outside_images=True)  # a device is elsewhere
    with special(tmp_path / "photos" / "odd.png", kind):
        found, issues = read(made)
    assert found == ROWS
    assert issues == [f"odd.png: is {kind}, no regular file"]


NAMES = {"a NUL": "p\0.png", "half a character": "\ud800.png", "too long": f"{'x' * 5000}.png"}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_a_name_that_no_file_can_have_is_an_issue(name: str, tmp_path: Path) -> None:
    content = coco()
    content["images"].append({"id": 99, "file_name": name})
    content["annotations"].append({"image_id": 99, "caption": "odd"})
    made = build_source(**write_folder(tmp_path, json.dumps(content), "captions.json"))
    made.check()
    found, issues = read(made)
    assert found == ROWS
    assert len(issues) == 1
    assert not is_file(tmp_path / name)
    made.fingerprint()


def test_a_name_that_no_file_can_have_is_an_issue_in_a_list_too(tmp_path: Path) -> None:
    (tmp_path / "1.png").write_bytes(make_image(1))
    lines_ = [json.dumps({"image": name}) for name in NAMES.values()]
    (tmp_path / "list.jsonl").write_text("\n".join([*lines_, "[" * 9, "1.png"]))
    issues = RowIssues()
    rows = list(build_source().read_inputs(tmp_path / "list.jsonl", IMAGE, issues))
    assert [row["image"].name for row in rows] == ["1.png"]
    assert issues.count == len(NAMES) + 1


@pytest.mark.parametrize("text", ['{"image":' + "[" * 100_000, '{"image":' + "9" * 5_000 + "}"])
def test_json_that_is_too_deep_or_too_long_is_a_mistake(text: str, tmp_path: Path) -> None:
    (tmp_path / "list.jsonl").write_text(text)
    issues = RowIssues()
    assert not list(build_source().read_inputs(tmp_path / "list.jsonl", IMAGE, issues))
    assert issues.count == 1
    with pytest.raises(UserError, match="image"):
        build_source().parse_input(text, IMAGE)


@pytest.mark.parametrize("content", ['{"images":[' + "9" * 5_000, "[" * 100_000])
def test_captions_that_are_no_json_for_any_reason_are_told(content: str, tmp_path: Path) -> None:
    made = build_source(**write_folder(tmp_path, content, "captions.json"))
    with pytest.raises(UserError, match=r"captions\.json") as error:
        made.check()
    assert "\n" not in str(error.value)


def test_a_file_that_unpacks_without_end_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "MOST_WHOLE", 3 << 20)
    packed = gzip.compress(b" " * (4 << 20))
    assert len(packed) < 10_000
    made = build_source(**write_folder(tmp_path, packed, "captions.json.gz"))
    with pytest.raises(UserError, match="must have at most 3 MB, unpacked"):
        made.check()
