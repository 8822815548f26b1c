"""Pictures and captions are read from packages, folders and TFDS; bad ones are told, not fatal."""

from __future__ import annotations

import base64
import gzip
import json
import struct
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import yaml
from PIL import Image

from pipelines.arrow import ArrowWriter, RawFile, RawWriter
from pipelines.codecs.images import ImageCodec, ImageSettings
from pipelines.contracts import Codec, FileBytes, RowIssues, UserError
from pipelines.export import _ask, write_imports
from pipelines.predict import predict
from pipelines.prepare import prepare
from pipelines.run import Run
from pipelines.schema import _build
from pipelines.settings import PrepareSettings
from pipelines.sources import _pictures
from pipelines.sources.emoji import Emoji, base, words
from pipelines.sources.image_captions import ImageCaptions
from pipelines.sources.tfds_captions import TfdsCaptions

ROOT = Path(__file__).parent.parent
FLICKR = ROOT.parent / "shared" / "data" / "flickr8k_1000"


def settings_of(name: str) -> dict:
    return yaml.safe_load((ROOT / f"conf/data/{name}.yaml").read_text(encoding="utf-8"))


def picture(number: int = 0, form: str = "PNG", size: tuple[int, int] = (6, 4)) -> bytes:
    noise = np.random.default_rng(number).integers(0, 256, (*size[::-1], 3), np.uint8)
    file = BytesIO()
    Image.fromarray(noise).save(file, form)
    return file.getvalue()


def told(made: ImageCaptions | Emoji | TfdsCaptions) -> str:
    with pytest.raises(UserError) as error:
        made.check()
    assert "\n" not in str(error.value)
    return str(error.value)


# Emoji


def emoji(**changes) -> Emoji:
    return _build(Emoji, {**settings_of("emoji"), **changes}, "data")


def captions_of(source: Emoji) -> dict[str, dict[str, str]]:
    """By part: captions by picture."""
    issues = RowIssues()
    found = {
        part: {row["image"].name: row["captions"] for row in source.read(part, issues)}
        for part in source.parts()
    }
    assert not issues.count
    return found


def test_there_are_3953_emoji_with_names_in_14_languages() -> None:
    assert len(emoji().names.sha256) == 14
    for language in emoji().names.sha256:
        source = emoji(language=language, split="picture")
        source.check()
        (captions,) = captions_of(source).values()
        assert len(captions) == len(set(captions.values())) == 3953
        assert not any(":" in text or "_" in text for text in captions.values())


def test_names_are_as_people_write_them() -> None:
    assert captions_of(emoji(split="picture"))["all"]["1f44b-1f3fd.png"] == (
        "waving hand medium skin tone"
    )
    german = captions_of(emoji(language="de", split="picture"))["all"]
    assert german["1f44b-1f3fd.png"] == "winkende hand mittlere hautfarbe"


@pytest.mark.parametrize("language", ["en", "de", "ja", "zh", "ar"])
def test_what_is_held_out_by_composition_is_made_of_what_training_shows(language: str) -> None:
    parts = captions_of(emoji(language=language))
    assert {part: len(rows) for part, rows in parts.items()} == {
        "train": 3163,
        "validation": 316,
        "test": 474,
    }
    known = set().union(*map(words, parts["train"].values()))
    bases = {_base(file) for file in parts["train"]}
    for part in ("validation", "test"):
        assert all(words(caption) <= known for caption in parts[part].values())
        assert all(_base(file) in bases for file in parts[part])


def _base(file: str) -> str:
    return base("".join(chr(int(part, 16)) for part in file.removesuffix(".png").split("-")))


def test_no_picture_and_no_caption_is_in_two_splits() -> None:
    issues, seen = RowIssues(), set()
    for part in ("train", "validation", "test"):
        here = {value for row in emoji().read(part, issues) for value in row.values()}
        assert not here & seen
        seen |= here


def test_the_same_pictures_are_held_out_each_time() -> None:
    assert captions_of(emoji()) == captions_of(emoji())
    assert emoji().fingerprint() == emoji().fingerprint()
    assert emoji().fingerprint() != emoji(split="picture").fingerprint()
    assert emoji().fingerprint() != emoji(language="de").fingerprint()


def test_variations_of_an_emoji_have_the_same_base() -> None:
    assert base("👋🏽") == base("👋")
    assert base("👩🏽‍🚒") == base("👨‍🚒") == base("🧑🏿‍🚒")
    assert base("🏃🏽‍♀️‍➡️") == base("🏃")
    assert base("👋") != base("👍")


def test_an_unknown_language_is_told_with_those_there_are() -> None:
    assert "choices: ar, de, en" in told(emoji(language="xx"))


def test_other_pictures_in_the_package_are_told() -> None:
    changed = {**settings_of("emoji")["pictures"], "sha256": "0" * 64}
    assert "holds other files" in told(emoji(pictures=changed))


# Folders


def folder(path: Path, captions: str | bytes, name: str = "captions.csv", count: int = 4) -> dict:
    """Settings for that file, and pictures 0.png, 1.png, ... in a folder."""
    (path / "photos").mkdir()
    for number in range(count):
        (path / "photos" / f"{number}.png").write_bytes(picture(number))
    content = captions if isinstance(captions, bytes) else captions.encode()
    (path / name).write_bytes(content)
    return {"images": str(path / "photos"), "captions": str(path / name)}


def source(**changes) -> ImageCaptions:
    return _build(ImageCaptions, {**settings_of("image_captions"), **changes}, "data")


def read(made: ImageCaptions, part: str = "all") -> tuple[dict[str, str], list[str]]:
    issues = RowIssues()
    rows = {row["image"].name: row["captions"] for row in made.read(part, issues)}
    return rows, sorted(issues.first)


CSV = 'image,caption\n1.png,"one, first"\n0.png,zero\n1.png,one again\n3.png,three\n2.png,two\n'
ROWS = {"0.png": "zero", "1.png": "one, first\none again", "2.png": "two", "3.png": "three"}


@pytest.mark.parametrize("name", ["captions.csv", "captions.txt"])
def test_a_picture_has_all_its_captions_a_line_each(tmp_path: Path, name: str) -> None:
    made = source(**folder(tmp_path, CSV, name))
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
    made = source(**folder(tmp_path, lines, "Flickr8k.token.txt"))
    made.check()
    assert read(made) == (ROWS, [])


def coco(**more) -> dict:
    images = [{"id": 7 + number, "file_name": f"{number}.png"} for number in range(4)]
    captions = [(8, "one, first"), (7, "zero"), (8, "one\nagain"), (10, "three"), (9, "two")]
    notes = [{"image_id": image, "id": 0, "caption": caption} for image, caption in captions]
    return {"info": {}, "images": images, "annotations": notes, **more}


def test_cocos_form_is_read(tmp_path: Path) -> None:
    made = source(**folder(tmp_path, json.dumps(coco()), "captions.json"))
    made.check()
    assert read(made) == (ROWS, [])


def test_cocos_form_may_be_compressed(tmp_path: Path) -> None:
    packed = gzip.compress(json.dumps(coco()).encode())
    given = folder(tmp_path, packed, "captions.json.gz")
    assert read(source(**given)) == (ROWS, [])
    Path(given["captions"]).write_bytes(packed[: len(packed) // 2])
    assert "check its permissions and that it is whole" in told(source(**given))


def test_columns_may_have_other_names_or_none(tmp_path: Path) -> None:
    made = source(**folder(tmp_path, CSV.partition("\n")[2]), image_column=0, caption_column=1)
    made.check()
    assert read(made)[0] == ROWS


def test_captions_may_be_separated_by_another_character(tmp_path: Path) -> None:
    piped = "image_name| comment_number| comment\n1.png| 0| one, first\n0.png| 0| zero\n"
    made = source(
        **folder(tmp_path, piped, count=2),
        image_column="image_name",
        caption_column="comment",
        delimiter="|",
    )
    made.check()
    assert read(made)[0] == {"0.png": "zero", "1.png": "one, first"}


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_coco_file_that_was_cut_is_told_in_one_line(tmp_path: Path, share: float) -> None:
    text = json.dumps(coco())
    made = source(**folder(tmp_path, text[: int(len(text) * share)], "captions.json"))
    assert "breaks off at character" in told(made)


@pytest.mark.parametrize("content", [[], {"images": []}, coco(images=[{"id": 1}])])
def test_json_of_another_form_is_told(tmp_path: Path, content: object) -> None:
    made = source(**folder(tmp_path, json.dumps(content), "captions.json"))
    assert "must be as COCO's" in told(made)


def test_what_coco_annotates_but_does_not_list_is_an_issue(tmp_path: Path) -> None:
    content = coco()
    content["annotations"] += [{"image_id": 99, "caption": "x"}, {"image_id": 7, "caption": None}]
    content["annotations"] += [{"image_id": [7], "caption": "x"}]
    rows, issues = read(source(**folder(tmp_path, json.dumps(content), "captions.json")))
    assert rows == ROWS
    assert issues == [
        "captions.json, annotation 6: caption of an unknown image_id",
        "captions.json, annotation 7: caption has no value",
        "captions.json, annotation 8: caption of an unknown image_id",
    ]


# Splits of one's own


def test_the_last_pictures_by_name_are_held_out(tmp_path: Path) -> None:
    made = source(**folder(tmp_path, CSV), validation=1, test=1)
    made.check()
    assert made.parts() == ("train", "validation", "test")
    found = {part: list(read(made, part)[0]) for part in made.parts()}
    assert found == {"train": ["0.png", "1.png"], "validation": ["2.png"], "test": ["3.png"]}


def test_a_list_of_names_says_what_is_held_out(tmp_path: Path) -> None:
    (tmp_path / "test.txt").write_text("2.png\n0.png\n\n")
    made = source(**folder(tmp_path, CSV), test=str(tmp_path / "test.txt"))
    made.check()
    assert made.parts() == ("train", "test")
    assert [list(read(made, part)[0]) for part in made.parts()] == [
        ["1.png", "3.png"],
        ["0.png", "2.png"],
    ]


def test_a_name_that_is_held_out_and_has_no_caption_is_told(tmp_path: Path) -> None:
    (tmp_path / "test.txt").write_text("2.png\n7.png\n")
    made = source(**folder(tmp_path, CSV), test=str(tmp_path / "test.txt"))
    issues = RowIssues()
    assert [len(list(made.read(part, issues))) for part in made.parts()] == [3, 1]
    assert issues.first == ["7.png: named in data.test, not in the captions"]
    assert issues.tolerated == 1


def test_splits_may_have_files_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "val").mkdir()
    (tmp_path / "val" / "9.png").write_bytes(picture(9))
    (tmp_path / "val.csv").write_text("image,caption\n9.png,nine\n")
    own = {
        "validation_captions": str(tmp_path / "val.csv"),
        "validation_images": str(tmp_path / "val"),
    }
    made = source(**folder(tmp_path, CSV), **own)
    made.check()
    assert made.parts() == ("train", "validation")
    assert read(made, "train") == ({f"photos/{name}": text for name, text in ROWS.items()}, [])
    assert read(made, "validation") == ({"val/9.png": "nine"}, [])


def test_bad_captions_count_once_though_there_are_splits(tmp_path: Path) -> None:
    made = source(**folder(tmp_path, CSV + "3.png,\n"), validation=1, test=1)
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
def test_wrong_settings_are_told(tmp_path: Path, changes: dict, message: str) -> None:
    assert message in told(source(**{**folder(tmp_path, CSV), **changes}))


def test_the_wrong_folder_is_told_before_anything_is_read(tmp_path: Path) -> None:
    given = folder(tmp_path, CSV)
    (tmp_path / "empty").mkdir()
    assert "0.png is not there, nor are 3 more" in told(
        source(**{**given, "images": str(tmp_path / "empty")})
    )


def test_the_fingerprint_changes_with_a_picture_and_with_a_caption(tmp_path: Path) -> None:
    made = source(**folder(tmp_path, CSV))
    before = made.fingerprint()
    assert made.fingerprint() == before
    (tmp_path / "photos" / "0.png").write_bytes(picture(77, size=(9, 9)))
    changed = made.fingerprint()
    (tmp_path / "captions.csv").write_text(CSV.replace("zero", "nil"))
    assert len({before, changed, made.fingerprint()}) == 3


@pytest.mark.skipif(not FLICKR.exists(), reason="the real data isn't here")
def test_flickr8k_1000_is_divided_as_its_readme_says() -> None:
    made = source(
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


# Bad pictures


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
    "text.jpg": (b"I am no picture", "no picture of a known format"),
    "empty.png": (b"", "empty file"),
    "truncated.png": (picture(5, size=(60, 60))[:2000], "broken picture"),
    "truncated.jpg": (picture(6, "JPEG", (60, 60))[:1500], "broken picture"),
    "head.png": (picture(7)[:20], "broken header"),
    "bomb.png": (header_only(50_000, 50_000), "more than 100,000,000 pixels"),
    "animation.webp": (animated_webp(), "animated WebP"),
    "second.gif": (picture(8, "GIF")[:-1] + b"," + bytes(9), "broken header"),
}


def test_every_bad_picture_is_an_issue_and_the_others_are_read(tmp_path: Path) -> None:
    names = [*BAD, "missing.png"]
    rows = "".join(f"{name},x\n" for name in names)
    made = source(**folder(tmp_path, CSV + rows))
    for name, (content, _) in BAD.items():
        (tmp_path / "photos" / name).write_bytes(content)
    (tmp_path / "photos" / "mute.jpg").write_bytes(picture(8, "JPEG"))
    found, issues = read(made)
    assert found == ROWS
    expected = [f"{name}: {reason}" for name, (_, reason) in BAD.items()]
    expected += ["missing.png: there is no such file", "mute.jpg: picture without a caption"]
    assert issues == sorted(expected)


def test_pictures_that_the_captions_are_not_about_are_told_but_are_no_bad_rows(
    tmp_path: Path,
) -> None:
    made = source(**folder(tmp_path, CSV + "missing.png,five\n"))
    for name in ("mute.jpg", "silent.png"):
        (tmp_path / "photos" / name).write_bytes(picture(8))
    issues = RowIssues()
    assert len(list(made.read("all", issues))) == len(ROWS)
    assert issues.count == 3
    assert issues.tolerated == 2


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "WEBP", "BMP"])
def test_no_bytes_at_all_raise_anything_or_end_the_process(form: str) -> None:
    random = np.random.default_rng(0)
    whole = np.frombuffer(picture(1, form, (20, 24)), np.uint8)
    for _ in range(200):
        broken = whole.copy()
        places = random.integers(4, random.choice([60, len(whole)]), 3)
        broken[places] = random.integers(0, 256, 3)
        _pictures.fault(broken.tobytes())


def test_a_coco_picture_without_captions_is_an_issue(tmp_path: Path) -> None:
    content = coco()
    content["annotations"] = content["annotations"][:-1]
    rows, issues = read(source(**folder(tmp_path, json.dumps(content), "captions.json")))
    assert "2.png" not in rows
    assert issues == ["2.png: picture without a caption"]


def test_too_large_a_file_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_pictures, "MOST_BYTES", 4 << 20)
    made = source(**folder(tmp_path, CSV))
    with (tmp_path / "photos" / "0.png").open("wb") as file:
        file.truncate(5 << 20)
    assert read(made)[1] == ["0.png: more than 4 MB"]


def test_prepare_skips_bad_pictures_and_counts_them(tmp_path: Path) -> None:
    made = source(
        **folder(tmp_path, "image,caption\n" + "".join(f"{n}.png,n\n" for n in range(20)), count=20)
    )
    (tmp_path / "photos" / "3.png").write_bytes(b"broken")

    def prepared(bad_rows: float):
        return prepare(
            made,
            {"image": ImageCodec("image", ImageSettings(size=8, fit="pad"))},
            reads=("image", "captions"),
            identity=("image",),
            stratify=None,
            settings=PrepareSettings(
                validation=0.2,
                test=0.2,
                bad_rows=bad_rows,
                limit=None,
                division_seed=0,
                cache_dir=str(tmp_path / "cache"),
            ),
        )

    with pytest.raises(UserError, match=r"1 of 20 rows .* 3\.png: no picture"):
        prepared(0.01)
    data = prepared(0.1)
    assert data.report["bad row reasons"] == {"no picture of a known format": 1}
    assert sum(map(len, data.splits.values())) == 19
    train = data.splits["train"]
    (example,) = train.examples([0])
    number = int(example["image"].name.removesuffix(".png"))
    assert isinstance(example["image"], FileBytes)
    assert example["image"] == picture(number)
    assert train.gather(np.arange(3))["image"].shape == (3, 8, 8, 3)
    # The pictures stay where they are.
    assert (data.directory / "raw.arrow").stat().st_size < sum(len(picture(n)) for n in range(20))
    assert next(value.name for values in train.raw("image") for value in values) == f"{number}.png"


def test_the_largest_picture_allowed_is_read_and_prepared() -> None:
    file = BytesIO()
    Image.new("RGBA", (10_000, 10_000), (255, 0, 0, 255)).save(file, "PNG", compress_level=1)
    assert _pictures.fault(file.getvalue()) is None
    made = ImageCodec("image", ImageSettings(size=8, fit="pad")).encode(
        tf.constant([file.getvalue()])
    )
    assert (made.numpy() == (255, 0, 0)).all()


def test_pictures_that_left_their_folder_are_told(tmp_path: Path) -> None:
    given = folder(tmp_path, CSV)
    file = RawFile(_written(tmp_path, source(**given)), source(**given).files_in())
    assert file.at(2) == {"image": picture(2), "captions": "two"}
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
    (tmp_path / "more" / "val" / "9.png").write_bytes(picture(9))
    (tmp_path / "val.csv").write_text("image,caption\n9.png,nine\n")
    made = source(**folder(tmp_path, CSV), **own)
    (row,) = made.read("validation", RowIssues())
    assert row["image"].name == "more/val/9.png"
    assert (made.files_in() / row["image"].name).read_bytes() == row["image"]


# To predict for


def given(made: ImageCaptions, path: Path) -> tuple[list[str], list[str]]:
    issues = RowIssues()
    rows = list(made.read_given(path, ("image",), issues))
    assert all(list(row) == ["image"] for row in rows)
    return [row["image"].name for row in rows], issues.first


def test_a_picture_a_folder_or_a_list_can_be_given(tmp_path: Path) -> None:
    made = source(**folder(tmp_path, CSV))
    photos = tmp_path / "photos"
    (photos / "bad.jpg").write_bytes(b"bad")
    assert given(made, photos / "1.png") == (["1.png"], [])
    names, issues = given(made, photos)
    assert names == ["0.png", "1.png", "2.png", "3.png"]
    assert issues == ["bad.jpg: no picture of a known format"]
    with pytest.raises(UserError, match=r"captions\.csv: .*, or a file with a name a line \(\.txt"):
        given(made, tmp_path / "captions.csv")
    listed = tmp_path / "list.txt"
    listed.write_text(f"{{\n{photos}/2.png\n\nphotos/0.png\nnone.png\n")
    names, issues = given(made, listed)
    assert names == [f"{photos}/2.png", "photos/0.png"]
    assert issues == [
        'list.txt:1: a picture must be a file or {"image": …} as JSON',
        "list.txt:3: is empty",
        "none.png: there is no such file",
    ]


def test_json_with_base64_can_be_given() -> None:
    line = json.dumps({"image": {"b64": base64.b64encode(picture()).decode()}})
    assert source().given_text(line, ("image",)) == {"image": picture()}


@pytest.mark.parametrize(
    "text",
    ["none.png", '{"image": {"b64": "???"}}', '{"picture": "a"}', '{"image": {"b64": "aGFsbG8="}}'],
)
def test_what_is_no_picture_cannot_be_given(text: str) -> None:
    with pytest.raises(UserError) as error:
        source().given_text(text, ("image",))
    assert "\n" not in str(error.value)


class Named:
    """Of a task, what predicting needs."""

    given = ("image",)

    def present(self, answer: dict) -> dict:
        return answer


def test_predict_shows_the_names_of_pictures_and_never_their_bytes(tmp_path: Path) -> None:
    made = source(**folder(tmp_path, CSV))
    run = Run(tmp_path / "run")
    module = tf.Module()

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "image")])
    def answer(image: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"bytes": tf.strings.length(image)}

    module.answer = answer
    tf.saved_model.save(module, str(run.saved_model), answer)
    write_imports(run.saved_model, Codec({}))
    output = tmp_path / "answers.jsonl"
    predict(run, Named(), made, str(tmp_path / "photos"), str(output))
    lines = [json.loads(line) for line in output.read_text().splitlines()]
    assert lines == [
        {"image": f"{number}.png", "bytes": len(picture(number))} for number in range(4)
    ]
    # As another program asks it.
    assert _ask(run.saved_model, [{"image": picture(1)}]) == [{"bytes": len(picture(1))}]


# TensorFlow Datasets


@pytest.fixture(scope="module")
def tfds_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with the set tiny_captions, of the form of coco_captions."""
    import tensorflow_datasets as tfds

    with tfds.core.registered.skip_registration():

        class TinyCaptions(tfds.core.GeneratorBasedBuilder):
            VERSION = tfds.core.Version("1.0.0")

            def _info(self) -> tfds.core.DatasetInfo:
                caption = {"id": np.int64, "text": np.str_}
                features = {
                    "image": tfds.features.Image(encoding_format="jpeg"),
                    "image/filename": tfds.features.Text(),
                    "captions": tfds.features.Sequence(caption),
                    "texts": tfds.features.Sequence(tfds.features.Text()),
                    "one": tfds.features.Text(),
                }
                return tfds.core.DatasetInfo(
                    builder=self, features=tfds.features.FeaturesDict(features)
                )

            def _split_generators(self, dl_manager):
                return {part: self._generate_examples(part) for part in ("train", "val", "test")}

            def _generate_examples(self, part):
                for number in range(5):
                    texts = [f"{part} {number}", "a\nline"][: number + 1]
                    yield (
                        number,
                        {
                            "image": BytesIO(picture(number, "JPEG")),
                            "image/filename": f"{number}.jpg",
                            "captions": [{"id": 0, "text": text} for text in texts],
                            "texts": texts,
                            "one": texts[0],
                        },
                    )

    path = tmp_path_factory.mktemp("tfds")
    TinyCaptions(data_dir=str(path)).download_and_prepare()
    return path


def tfds_source(path: Path, **changes) -> TfdsCaptions:
    tiny = {"name": "tiny_captions", "data_dir": str(path)}
    return _build(TfdsCaptions, {**settings_of("coco_captions"), **tiny, **changes}, "data")


@pytest.mark.parametrize("column", ["captions/text", "texts"])
def test_captions_of_tfds_are_lines_and_pictures_their_files(
    tfds_folder: Path, column: str
) -> None:
    made = tfds_source(tfds_folder, captions_column=column)
    made.check()
    assert made.parts() == ("train", "validation", "test")
    issues = RowIssues()
    rows = {row["image"].name: row for row in made.read("validation", issues)}
    assert not issues.count
    assert len(rows) == 5
    assert rows["0.jpg"]["captions"] == "val 0"
    assert rows["3.jpg"] == {"image": picture(3, "JPEG"), "captions": "val 3\na line"}


def test_one_caption_of_tfds_will_do_and_a_name_is_not_needed(tfds_folder: Path) -> None:
    made = tfds_source(tfds_folder, captions_column="one", name_column=None)
    made.check()
    names = {row["image"].name for row in made.read("test", RowIssues())}
    assert names == {f"test:{number}" for number in range(1, 6)}


def test_what_tfds_has_not_is_told(tfds_folder: Path) -> None:
    assert "data.image_column" in told(tfds_source(tfds_folder, image_column="one"))
    assert "data.captions_column" in told(tfds_source(tfds_folder, captions_column="none"))
    assert "captions (sequence)" in told(tfds_source(tfds_folder, image_column="pixels"))
