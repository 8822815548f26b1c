"""Images of a folder, with captions in files of all forms, and splits of one's own."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import pytest
from caption_files import CSV, ROOT, ROWS, build_source, coco, make_image, read, write_folder
from source_errors import error_of

from pipelines.core.contracts import RowIssues

FLICKR = Path(os.environ.get("FLICKR8K", ROOT / "data" / "flickr8k"))
"""A folder with `images` and `captions.txt` as Flickr8k is published."""


@pytest.mark.parametrize("name", ["captions.csv", "captions.txt"])
def test_an_image_has_all_its_captions_a_line_each(tmp_path: Path, name: str) -> None:
    made = build_source(**write_folder(tmp_path, CSV, name))
    made.check()
    assert made.parts() == ("all",)
    rows, issues = read(made)
    assert rows == ROWS
    assert list(rows) == sorted(rows)
    assert not issues


def test_flickrs_other_form_is_read(tmp_path: Path) -> None:
    lines = (
        "1.png#0\tone, first\n1.png#1\tone  again\n0.png#0\tzero\n3.png#0\tthree\n2.png#0\ttwo\n"
    )
    made = build_source(**write_folder(tmp_path, lines, "Flickr8k.token.txt"))
    made.check()
    assert read(made) == (ROWS, [])


def test_cocos_form_is_read(tmp_path: Path) -> None:
    made = build_source(**write_folder(tmp_path, json.dumps(coco()), "captions.json"))
    made.check()
    assert read(made) == (ROWS, [])


def test_cocos_form_may_be_compressed(tmp_path: Path) -> None:
    packed = gzip.compress(json.dumps(coco()).encode())
    given = write_folder(tmp_path, packed, "captions.json.gz")
    assert read(build_source(**given)) == (ROWS, [])
    Path(given["captions"]).write_bytes(packed[: len(packed) // 2])
    assert "check its permissions and that it is whole" in error_of(build_source(**given))


def test_columns_may_have_other_names_or_none(tmp_path: Path) -> None:
    made = build_source(
        **write_folder(tmp_path, CSV.partition("\n")[2]), image_column=0, caption_column=1
    )
    made.check()
    assert read(made)[0] == ROWS


def test_captions_may_be_separated_by_another_character(tmp_path: Path) -> None:
    piped = "image_name| comment_number| comment\n1.png| 0| one, first\n0.png| 0| zero\n"
    made = build_source(
        **write_folder(tmp_path, piped, count=2),
        image_column="image_name",
        caption_column="comment",
        delimiter="|",
    )
    made.check()
    assert read(made)[0] == {"0.png": "zero", "1.png": "one, first"}


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_coco_file_that_was_cut_is_reported_in_one_line(tmp_path: Path, share: float) -> None:
    text = json.dumps(coco())
    made = build_source(**write_folder(tmp_path, text[: int(len(text) * share)], "captions.json"))
    assert "breaks off at character" in error_of(made)


@pytest.mark.parametrize("content", [[], {"images": []}, coco(images=[{"id": 1}])])
def test_json_of_another_form_is_reported(tmp_path: Path, content: object) -> None:
    made = build_source(**write_folder(tmp_path, json.dumps(content), "captions.json"))
    assert "must be as COCO's" in error_of(made)


def test_what_coco_annotates_but_does_not_list_is_an_issue(tmp_path: Path) -> None:
    content = coco()
    content["annotations"] += [{"image_id": 99, "caption": "x"}, {"image_id": 7, "caption": None}]
    content["annotations"] += [{"image_id": [7], "caption": "x"}]
    rows, issues = read(
        build_source(**write_folder(tmp_path, json.dumps(content), "captions.json"))
    )
    assert rows == ROWS
    assert issues == [
        "captions.json, annotation 6: caption of an unknown image_id",
        "captions.json, annotation 7: caption has no value",
        "captions.json, annotation 8: caption of an unknown image_id",
    ]


# Splits of one's own


def test_the_last_images_by_name_are_held_out(tmp_path: Path) -> None:
    made = build_source(**write_folder(tmp_path, CSV), validation=1, test=1)
    made.check()
    assert made.parts() == ("train", "validation", "test")
    found = {part: list(read(made, part)[0]) for part in made.parts()}
    assert found == {"train": ["0.png", "1.png"], "validation": ["2.png"], "test": ["3.png"]}


def test_a_list_of_names_says_what_is_held_out(tmp_path: Path) -> None:
    (tmp_path / "test.txt").write_text("2.png\n0.png\n\n")
    made = build_source(**write_folder(tmp_path, CSV), test=str(tmp_path / "test.txt"))
    made.check()
    assert made.parts() == ("train", "test")
    assert [list(read(made, part)[0]) for part in made.parts()] == [
        ["1.png", "3.png"],
        ["0.png", "2.png"],
    ]


def test_a_name_that_is_held_out_and_has_no_caption_is_reported(tmp_path: Path) -> None:
    (tmp_path / "test.txt").write_text("2.png\n7.png\n")
    made = build_source(**write_folder(tmp_path, CSV), test=str(tmp_path / "test.txt"))
    issues = RowIssues()
    assert [len(list(made.read(part, issues))) for part in made.parts()] == [3, 1]
    assert issues.first == ["7.png: named in data.test, not in the captions"]
    assert issues.tolerated == 1


def test_splits_may_have_files_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "val").mkdir()
    (tmp_path / "val" / "9.png").write_bytes(make_image(9))
    (tmp_path / "val.csv").write_text("image,caption\n9.png,nine\n")
    own = {
        "validation_captions": str(tmp_path / "val.csv"),
        "validation_images": str(tmp_path / "val"),
    }
    made = build_source(**write_folder(tmp_path, CSV), **own)
    made.check()
    assert made.parts() == ("train", "validation")
    assert read(made, "train") == ({f"photos/{name}": text for name, text in ROWS.items()}, [])
    assert read(made, "validation") == ({"val/9.png": "nine"}, [])


def test_bad_captions_count_once_though_there_are_splits(tmp_path: Path) -> None:
    made = build_source(**write_folder(tmp_path, CSV + "3.png,\n"), validation=1, test=1)
    issues = RowIssues()
    for part in made.parts():
        list(made.read(part, issues))
    assert issues.first == ["captions.csv:7: column 'caption' is empty"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": None}, "data.images and data.captions must be given"),
        ({"captions": None}, "data.captions must be given"),
        ({"images": "no/such"}, "no/such does not exist"),
        ({"captions": "no/such.csv"}, "there is no file no/such.csv"),
        ({"caption_column": "text"}, "has no column 'text'"),
        ({"validation": 2, "test": 2}, "received 0 to train"),
        ({"validation": 1, "validation_captions": "x.csv"}, "give one"),
        ({"test_images": "photos"}, "data.test_images goes with data.test_captions"),
    ],
)
def test_wrong_settings_are_reported(tmp_path: Path, changes: dict, message: str) -> None:
    assert message in error_of(build_source(**{**write_folder(tmp_path, CSV), **changes}))


def test_the_wrong_folder_is_reported_before_anything_is_read(tmp_path: Path) -> None:
    given = write_folder(tmp_path, CSV)
    (tmp_path / "empty").mkdir()
    assert "0.png is not there, nor are 3 more" in error_of(
        build_source(**{**given, "images": str(tmp_path / "empty")})
    )


def test_the_fingerprint_changes_with_an_image_and_with_a_caption(tmp_path: Path) -> None:
    made = build_source(**write_folder(tmp_path, CSV))
    before = made.fingerprint()
    assert made.fingerprint() == before
    (tmp_path / "photos" / "0.png").write_bytes(make_image(77, size=(9, 9)))
    changed = made.fingerprint()
    (tmp_path / "captions.csv").write_text(CSV.replace("zero", "nil"))
    assert len({before, changed, made.fingerprint()}) == 3


@pytest.mark.skipif(not FLICKR.exists(), reason="the real data isn't here")
def test_flickr8k_1000_is_divided_as_its_readme_says() -> None:
    made = build_source(
        images=str(FLICKR / "images"),
        captions=str(FLICKR / "captions.txt"),
        validation=100,
        test=100,
    )
    made.check()
    names = sorted(path.name for path in (FLICKR / "images").iterdir())
    rows, issues = read(made, "test")
    assert list(rows) == names[900:]
    assert not issues
    assert all(len(captions.split("\n")) == 5 for captions in rows.values())
