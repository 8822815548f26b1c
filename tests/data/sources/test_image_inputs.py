"""Images that are given to predict for: files, folders, lists and JSON."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
import tensorflow as tf
from caption_files import CSV, build_source, make_image, write_folder

from pipelines.core.contracts import Codec, FieldSpec, RowIssues
from pipelines.core.errors import UserError
from pipelines.core.settings import PredictSettings
from pipelines.data.sources._image_files import OUTSIDE
from pipelines.data.sources.image_captions import ImageCaptions
from pipelines.export.saved_model import _ask, write_imports
from pipelines.predict.predict import predict
from pipelines.runs.directory import Run

IMAGE = {"image": FieldSpec((), "string")}


def read_inputs(source: ImageCaptions, path: Path) -> tuple[list[str], list[str]]:
    issues = RowIssues()
    rows = list(source.read_inputs(path, IMAGE, issues))
    assert all(list(row) == ["image"] for row in rows)
    return [row["image"].name for row in rows], issues.first


def test_an_image_a_folder_or_a_list_can_be_given(tmp_path: Path) -> None:
    source = build_source(**write_folder(tmp_path, CSV))
    photos = tmp_path / "photos"
    (photos / "bad.jpg").write_bytes(b"bad")
    assert read_inputs(source, photos / "1.png") == (["1.png"], [])
    names, issues = read_inputs(source, photos)
    assert names == ["0.png", "1.png", "2.png", "3.png"]
    assert issues == ["bad.jpg: no image of a known format"]
    with pytest.raises(UserError, match=r"captions\.csv: .*, or a file with a name a line \(\.txt"):
        read_inputs(source, tmp_path / "captions.csv")
    listed = tmp_path / "list.txt"
    listed.write_text(f"{{\n{photos}/2.png\n\nphotos/0.png\nnone.png\n")
    names, issues = read_inputs(source, listed)
    assert names == [f"{photos}/2.png", "photos/0.png"]
    assert issues == [
        'list.txt:1: an image must be a file or {"image": …} as JSON',
        "list.txt:3: is empty",
        "none.png: there is no such file",
    ]


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """An image that lies beside the folder of images, with a link to it in there."""
    path = tmp_path / "private" / "secret.png"
    path.parent.mkdir()
    path.write_bytes(make_image(9))
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "link.png").symlink_to(path)
    (tmp_path / "photos" / "own.png").write_bytes(make_image(8))
    return path


def test_a_list_or_a_link_leads_to_no_image_outside_unless_asked_for(
    secret: Path, tmp_path: Path
) -> None:
    photos = tmp_path / "photos"
    (photos / "inside.png").symlink_to("own.png")
    listed = photos / "list.txt"
    names = ["own.png", str(photos / "own.png"), "../private/secret.png", str(secret), "link.png"]
    listed.write_text("\n".join([*names, "../none.png"]))
    folder = ["inside.png", "link.png", "own.png"]
    refused = [f"{name}: {OUTSIDE}" for name in [*names[2:], "../none.png"]]
    assert read_inputs(build_source(), listed) == (names[:2], refused)
    assert read_inputs(build_source(), photos) == (folder[::2], [f"link.png: {OUTSIDE}"])
    asked_for = build_source(outside_images=True)
    assert read_inputs(asked_for, listed) == (names, ["../none.png: there is no such file"])
    assert read_inputs(asked_for, photos) == (folder, [])


def test_a_list_may_name_images_in_the_working_directory(
    secret: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = tmp_path / "lists" / "list.txt"
    listed.parent.mkdir()
    listed.write_text("own.png\nlink.png\n")
    monkeypatch.chdir(tmp_path / "photos")
    assert read_inputs(build_source(), listed) == (["own.png"], [f"link.png: {OUTSIDE}"])


def test_who_asks_may_name_any_image(secret: Path, tmp_path: Path) -> None:
    assert read_inputs(build_source(), secret) == (["secret.png"], [])
    assert build_source().parse_input(str(secret), IMAGE) == {"image": make_image(9)}


def test_json_with_base64_can_be_given() -> None:
    line = json.dumps({"image": {"b64": base64.b64encode(make_image()).decode()}})
    assert build_source().parse_input(line, IMAGE) == {"image": make_image()}


@pytest.mark.parametrize(
    "text",
    ["none.png", '{"image": {"b64": "???"}}', '{"picture": "a"}', '{"image": {"b64": "aGFsbG8="}}'],
)
def test_what_is_no_image_cannot_be_given(text: str) -> None:
    with pytest.raises(UserError) as error:
        build_source().parse_input(text, IMAGE)
    assert "\n" not in str(error.value)


class Named:
    """What predicting needs of a task."""

    name = "named"
    input_columns = ("image",)

    def codec(self) -> dict:
        return {}

    def to_json(self, answer: dict) -> dict:
        return answer


def test_predict_shows_the_names_of_images_and_never_their_bytes(tmp_path: Path) -> None:
    source = build_source(**write_folder(tmp_path, CSV))
    run = Run(tmp_path / "run")
    module = tf.Module()

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "image")])
    def answer(image: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"bytes": tf.strings.length(image)}

    module.answer = answer
    tf.saved_model.save(module, str(run.saved_model), answer)
    write_imports(run.saved_model, Codec({}))
    output = tmp_path / "answers.jsonl"
    settings = PredictSettings(formulas="keep")
    predict(run, Named(), source, str(tmp_path / "photos"), str(output), settings)
    lines = [json.loads(line) for line in output.read_text().splitlines()]
    assert lines == [
        {"image": f"{number}.png", "bytes": len(make_image(number))} for number in range(4)
    ]
    # As another program asks it.
    assert _ask(run.saved_model, [{"image": make_image(1)}]) == [{"bytes": len(make_image(1))}]
