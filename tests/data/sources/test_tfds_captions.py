"""Captions of TensorFlow Datasets."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from caption_files import make_image, read_settings
from source_errors import error_of

from pipelines.config.schema import _build
from pipelines.core.contracts import RowIssues
from pipelines.data.sources.tfds_captions import TfdsCaptions


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
                            "image": BytesIO(make_image(number, "JPEG")),
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
    return _build(TfdsCaptions, {**read_settings("coco_captions"), **tiny, **changes}, "data")


@pytest.mark.parametrize("column", ["captions/text", "texts"])
def test_captions_of_tfds_are_lines_and_images_their_files(tfds_folder: Path, column: str) -> None:
    made = tfds_source(tfds_folder, captions_column=column)
    made.check()
    assert made.parts() == ("train", "validation", "test")
    issues = RowIssues()
    rows = {row["image"].name: row for row in made.read("validation", issues)}
    assert not issues.count
    assert len(rows) == 5
    assert rows["0.jpg"]["captions"] == "val 0"
    assert rows["3.jpg"] == {"image": make_image(3, "JPEG"), "captions": "val 3\na line"}


def test_one_caption_of_tfds_will_do_and_a_name_is_not_needed(tfds_folder: Path) -> None:
    made = tfds_source(tfds_folder, captions_column="one", name_column=None)
    made.check()
    names = {row["image"].name for row in made.read("test", RowIssues())}
    assert names == {f"test:{number}" for number in range(1, 6)}


def test_what_tfds_has_not_is_reported(tfds_folder: Path) -> None:
    assert "data.image_column" in error_of(tfds_source(tfds_folder, image_column="one"))
    assert "data.captions_column" in error_of(tfds_source(tfds_folder, captions_column="none"))
    assert "captions (sequence)" in error_of(tfds_source(tfds_folder, image_column="pixels"))
