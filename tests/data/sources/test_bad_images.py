"""Images that can't be read are told, not fatal."""

from __future__ import annotations

import json
import struct
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from caption_files import CSV, ROWS, build_source, coco, make_image, read, write_folder
from only_data import OnlyData
from PIL import Image

from pipelines.core.contracts import FileBytes, RowIssues
from pipelines.core.errors import UserError
from pipelines.core.settings import PrepareSettings
from pipelines.data.arrow import ArrowWriter, RawFile, RawWriter
from pipelines.data.codecs.images import ImageCodec, ImageSettings
from pipelines.data.prepare import prepare
from pipelines.data.sources import _image_files as _images
from pipelines.data.sources._image_files import OUTSIDE
from pipelines.data.sources.image_captions import ImageCaptions


def header_only(width: int, height: int) -> bytes:
    """A PNG that says how large it is, without its pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def animated_webp() -> bytes:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    file = BytesIO()
    frames[0].save(file, "WEBP", save_all=True, append_images=frames[1:])
    return file.getvalue()


BAD = {
    "text.jpg": (b"I am no image", "no image of a known format"),
    "empty.png": (b"", "empty file"),
    "truncated.png": (make_image(5, size=(60, 60))[:2000], "broken image"),
    "truncated.jpg": (make_image(6, "JPEG", (60, 60))[:1500], "broken image"),
    "head.png": (make_image(7)[:20], "broken header"),
    "bomb.png": (header_only(50_000, 50_000), "more than 100,000,000 pixels"),
    "animation.webp": (animated_webp(), "animated WebP"),
    "second.gif": (make_image(8, "GIF")[:-1] + b"," + bytes(9), "broken header"),
}


def test_every_bad_image_is_an_issue_and_the_others_are_read(tmp_path: Path) -> None:
    names = [*BAD, "missing.png"]
    rows = "".join(f"{name},x\n" for name in names)
    made = build_source(**write_folder(tmp_path, CSV + rows))
    for name, (content, _) in BAD.items():
        (tmp_path / "photos" / name).write_bytes(content)
    (tmp_path / "photos" / "mute.jpg").write_bytes(make_image(8, "JPEG"))
    found, issues = read(made)
    assert found == ROWS
    expected = [f"{name}: {reason}" for name, (_, reason) in BAD.items()]
    expected += ["missing.png: there is no such file", "mute.jpg: image without a caption"]
    assert issues == sorted(expected)


@pytest.mark.parametrize("kind", ["csv", "json"])
def test_captions_name_no_image_outside_its_folder_unless_asked_for(
    kind: str, tmp_path: Path
) -> None:
    (tmp_path / "secret.png").write_bytes(make_image(9))
    outside = ["../secret.png", f"{tmp_path}/secret.png", "link.png", "../none.png"]
    if kind == "csv":
        captions = CSV + "".join(f"{name},x\n" for name in outside)
    else:
        notes = coco()
        for number, name in enumerate(outside, 1):
            notes["images"].append({"id": number, "file_name": name})
            notes["annotations"].append({"image_id": number, "caption": "x"})
        captions = json.dumps(notes)
    changes = write_folder(tmp_path, captions, f"captions.{kind}")
    (tmp_path / "photos" / "link.png").symlink_to(tmp_path / "secret.png")
    strict, free = (build_source(**changes, outside_images=asked) for asked in (False, True))
    found, issues = read(strict)
    assert found == ROWS
    shown = ["../secret.png", "../secret.png", "link.png", "../none.png"]
    assert issues == sorted(f"{name}: {OUTSIDE}" for name in shown)
    assert strict.fingerprint() != free.fingerprint()
    found, issues = read(free)
    assert found == {**ROWS, "../secret.png": "x", "link.png": "x"}
    assert issues == ["../none.png: there is no such file"]


def test_images_that_the_captions_are_not_about_are_reported_but_are_no_bad_rows(
    tmp_path: Path,
) -> None:
    made = build_source(**write_folder(tmp_path, CSV + "missing.png,five\n"))
    for name in ("mute.jpg", "silent.png"):
        (tmp_path / "photos" / name).write_bytes(make_image(8))
    issues = RowIssues()
    assert len(list(made.read("all", issues))) == len(ROWS)
    assert issues.count == 3
    assert issues.tolerated == 2


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "WEBP", "BMP"])
def test_no_bytes_at_all_raise_anything_or_end_the_process(form: str) -> None:
    random = np.random.default_rng(0)
    keep_decodable = np.frombuffer(make_image(1, form, (20, 24)), np.uint8)
    for _ in range(200):
        broken = keep_decodable.copy()
        places = random.integers(4, random.choice([60, len(keep_decodable)]), 3)
        broken[places] = random.integers(0, 256, 3)
        _images.find_fault(broken.tobytes())


def test_a_coco_image_without_captions_is_an_issue(tmp_path: Path) -> None:
    content = coco()
    content["annotations"] = content["annotations"][:-1]
    rows, issues = read(
        build_source(**write_folder(tmp_path, json.dumps(content), "captions.json"))
    )
    assert "2.png" not in rows
    assert issues == ["2.png: image without a caption"]


def test_too_large_a_file_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_images, "MAX_BYTES", 4 << 20)
    made = build_source(**write_folder(tmp_path, CSV))
    with (tmp_path / "photos" / "0.png").open("wb") as file:
        file.truncate(5 << 20)
    assert read(made)[1] == ["0.png: more than 4 MB"]


def test_prepare_skips_bad_images_and_counts_them(tmp_path: Path) -> None:
    made = build_source(
        **write_folder(
            tmp_path, "image,caption\n" + "".join(f"{n}.png,n\n" for n in range(20)), count=20
        )
    )
    (tmp_path / "photos" / "3.png").write_bytes(b"broken")

    def prepared(bad_rows: float):
        codec = {"image": ImageCodec("image", ImageSettings(size=8, fit="pad"))}
        settings = PrepareSettings(
            validation=0.2,
            test=0.2,
            bad_rows=bad_rows,
            limit=None,
            division="hash",
            group_by=None,
            block_rows=10,
            time_column=None,
            split_seed=0,
            cache_dir=str(tmp_path / "cache"),
        )
        return prepare(made, OnlyData(codec, dedupe_by=("image",)), settings)

    with pytest.raises(UserError, match=r"1 of 20 rows .* 3\.png: no image"):
        prepared(0.01)
    data = prepared(0.1)
    assert data.report["bad_row_reasons"] == {"no image of a known format": 1}
    assert sum(map(len, data.splits.values())) == 19
    train = data.splits["train"]
    (example,) = train.examples([0])
    number = int(example["image"].name.removesuffix(".png"))
    assert isinstance(example["image"], FileBytes)
    assert example["image"] == make_image(number)
    assert train.gather(np.arange(3))["image"].shape == (3, 8, 8, 3)
    # The images stay where they are.
    assert (data.directory / "raw.arrow").stat().st_size < sum(
        len(make_image(n)) for n in range(20)
    )
    assert next(value.name for values in train.raw("image") for value in values) == f"{number}.png"


def test_the_largest_image_allowed_is_read_and_prepared() -> None:
    file = BytesIO()
    Image.new("RGBA", (10_000, 10_000), (255, 0, 0, 255)).save(file, "PNG", compress_level=1)
    assert _images.find_fault(file.getvalue()) is None
    made = ImageCodec("image", ImageSettings(size=8, fit="pad")).encode(
        tf.constant([file.getvalue()])
    )
    assert (made.numpy() == (255, 0, 0)).all()


def test_images_that_left_their_folder_are_reported(tmp_path: Path) -> None:
    given = write_folder(tmp_path, CSV)
    file = RawFile(_written(tmp_path, build_source(**given)), build_source(**given).files_in())
    assert file.at(2) == {"image": make_image(2), "captions": "two"}
    assert file.at(2)["image"].name == "2.png"
    (tmp_path / "photos" / "2.png").unlink()
    with pytest.raises(UserError, match="must stay where it was"):
        file.at(2)


def _written(path: Path, made: ImageCaptions) -> Path:
    with ArrowWriter(path / "raw.arrow") as file:
        raw = RawWriter(file, made.columns, kept=True)
        for example in made.read("all", RowIssues()):
            raw.add(example)
        raw.flush()
    return path / "raw.arrow"


def test_files_of_several_folders_are_found_again(tmp_path: Path) -> None:
    own = {
        "validation_captions": str(tmp_path / "val.csv"),
        "validation_images": str(tmp_path / "more" / "val"),
    }
    (tmp_path / "more" / "val").mkdir(parents=True)
    (tmp_path / "more" / "val" / "9.png").write_bytes(make_image(9))
    (tmp_path / "val.csv").write_text("image,caption\n9.png,nine\n")
    made = build_source(**write_folder(tmp_path, CSV), **own)
    (row,) = made.read("validation", RowIssues())
    assert row["image"].name == "more/val/9.png"
    assert (made.files_in() / row["image"].name).read_bytes() == row["image"]
