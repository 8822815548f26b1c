"""Sets of TensorFlow Datasets are read by name, offline where they are prepared."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from source_errors import error_of

from pipelines.core.contracts import RowIssues
from pipelines.core.errors import UserError
from pipelines.core.paths import ROOT
from pipelines.data.sources import _tfds as module
from pipelines.data.sources._tfds_reading import parse_in_batches, parse_with_tfds
from pipelines.data.sources.tfds import Tfds

SETTINGS = yaml.safe_load((ROOT / "conf/data/tfds.yaml").read_text())
TRAIN = [(f"film {number}, très\nbon", number % 2) for number in range(30)]
TEST = [("good", 1), ("unlabelled", -1), ("", 0), ("bad", 0)]


@pytest.fixture(scope="module")
def tfds_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with the set tiny_reviews, whose code is known to nobody afterwards."""
    import tensorflow_datasets as tfds

    with tfds.core.registered.skip_registration():

        class TinyReviews(tfds.core.GeneratorBasedBuilder):
            VERSION = tfds.core.Version("1.0.0")

            def _info(self) -> tfds.core.DatasetInfo:
                features = {
                    "text": tfds.features.Text(),
                    "label": tfds.features.ClassLabel(names=["neg", "pos"]),
                    "stars": tfds.features.Scalar(np.int32),
                    "score": tfds.features.Scalar(np.float32),
                    "data": {"body": tfds.features.Text(), "fine": tfds.features.Scalar(np.bool_)},
                    "tokens": tfds.features.Sequence(tfds.features.Text()),
                }
                return tfds.core.DatasetInfo(
                    builder=self,
                    features=tfds.features.FeaturesDict(features),
                    citation="@misc{tiny,\n title={Tiny}}",
                    homepage="https://example.org",
                    license="CC0",
                )

            def _split_generators(self, dl_manager):
                return {
                    "train": self._generate_examples(TRAIN),
                    "test": self._generate_examples(TEST),
                }

            def _generate_examples(self, rows):
                for number, (text, label) in enumerate(rows):
                    yield (
                        number,
                        {
                            "text": text,
                            "label": label,
                            "stars": label + 3,
                            "score": 0.5,
                            "data": {"body": f"body of {text}", "fine": label == 1},
                            "tokens": [text],
                        },
                    )

    folder = tmp_path_factory.mktemp("tfds")
    TinyReviews(data_dir=str(folder)).download_and_prepare()
    return folder


def source(folder: Path, **changes) -> Tfds:
    return Tfds(**{**SETTINGS, "name": "tiny_reviews", "data_dir": str(folder), **changes})


def test_a_prepared_set_is_read_with_its_label_words(tfds_folder: Path) -> None:
    made = source(tfds_folder)
    made.check()
    assert made.parts() == ("train", "test")
    rows = list(made.read("train", RowIssues()))
    assert {(row["text"], row["label"]) for row in rows} == {
        (text, ["neg", "pos"][label]) for text, label in TRAIN
    }
    assert list(made.read("train", RowIssues())) == rows


def test_batches_are_what_tfds_reads_by_itself(tfds_folder: Path) -> None:
    builder = source(tfds_folder)._downloaded_builder()
    columns = ["data/body", "text", "label", "stars", "data/fine"]
    for split in ("train", "train[7:19]", "test"):
        ours, theirs = (
            list(read(builder, split, columns)) for read in (parse_in_batches, parse_with_tfds)
        )
        assert ours == theirs


def test_unlabelled_and_empty_examples_are_bad_rows(tfds_folder: Path) -> None:
    issues = RowIssues()
    rows = list(source(tfds_folder).read("test", issues))
    assert {(row["text"], row["label"]) for row in rows} == {("good", "pos"), ("bad", "neg")}
    assert issues.reasons == {"column 'label' has no value": 1, "column 'text' is empty": 1}
    assert all(line.startswith("tiny_reviews test:") for line in issues.first)


def test_numbers_truth_values_and_inner_features_may_be_labels(tfds_folder: Path) -> None:
    stars = source(tfds_folder, label_column="stars", text_column="data/body")
    stars.check()
    assert {row["label"] for row in stars.read("train", RowIssues())} == {"3", "4"}
    assert all(row["text"].startswith("body of film") for row in stars.read("train", RowIssues()))
    fine = source(tfds_folder, label_column="data/fine")
    fine.check()
    assert {row["label"] for row in fine.read("train", RowIssues())} == {"true", "false"}


def test_a_damaged_file_is_reported(tfds_folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tfds_folder, copy)
    (file,) = copy.glob("tiny_reviews/1.0.0/*train.tfrecord*")
    for content in (file.read_bytes()[:-3], b"x" * 500):
        file.write_bytes(content)
        with pytest.raises(UserError, match="damaged or missing"):
            list(source(copy).read("train", RowIssues()))


def test_splits_may_be_parts_of_tfds_splits(tfds_folder: Path) -> None:
    made = source(
        tfds_folder, train_split="train[:20]", validation_split="train[20:]", test_split=None
    )
    made.check()
    assert made.parts() == ("train", "validation")
    train, validation = (
        {row["text"] for row in made.read(part, RowIssues())} for part in made.parts()
    )
    assert (len(train), len(validation)) == (20, 10)
    assert not train & validation


def test_one_split_alone_is_all_the_data(tfds_folder: Path) -> None:
    made = source(tfds_folder, test_split=None)
    assert made.parts() == ("all",)
    assert len(list(made.read("all", RowIssues()))) == len(TRAIN)


def test_provenance_is_what_tfds_says(tfds_folder: Path) -> None:
    provenance = source(tfds_folder).provenance()
    assert provenance.name == "tiny_reviews"
    assert "tiny_reviews/1.0.0" in provenance.origin
    assert "https://example.org" in provenance.origin
    assert provenance.licence == "CC0"
    assert provenance.citation == "@misc{tiny, title={Tiny}}"


@pytest.mark.parametrize("wrong", ["validation", "train[:0]", "train[", "train[:200%]", ""])
def test_a_split_that_is_not_there_is_reported(wrong: str, tfds_folder: Path) -> None:
    message = error_of(source(tfds_folder, validation_split=wrong))
    assert message.startswith("data.validation_split: ")
    assert "it has test, train" in message or "it has train, test" in message


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"text_column": "txt"}, "data.text_column: tiny_reviews has no feature 'txt'; it has "),
        ({"text_column": "tokens"}, "data.text_column must be a feature that holds a text; "),
        ({"text_column": "stars"}, "data.text_column must be a feature that holds a text; "),
        ({"label_column": "score"}, "data.label_column must be a feature that holds a label or "),
        ({"label_column": "data"}, "data.label_column: tiny_reviews has no feature 'data'"),
    ],
)
def test_a_set_that_is_no_text_classification_is_reported(
    changes, message, tfds_folder: Path
) -> None:
    assert error_of(source(tfds_folder, **changes)).startswith(message)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("imdb_review", "TFDS has no set 'imdb_review'; did you mean 'imdb_reviews'?"),
        ("qqqqqqqq", "TFDS has no set 'qqqqqqqq'; see https://www.tensorflow.org/"),
        ("glue/sst9", "TFDS's glue has no configuration 'sst9'; did you mean 'sst2'?"),
        ("imdb_reviews:9.9.9", "can't load 'imdb_reviews:9.9.9' ("),
        ("two words", "can't load 'two words' ("),
        ("", "can't load '' ("),
        ("mnist", "mnist has no feature 'text'; it has image (image), label (label)"),
    ],
)
def test_an_unknown_name_is_reported_with_the_nearest(
    name: str, message: str, tmp_path: Path
) -> None:
    assert message in error_of(source(tmp_path, name=name))


def test_a_set_that_is_not_prepared_is_reported_if_it_must_not_be_downloaded(
    tmp_path: Path,
) -> None:
    assert "set data.download=true" in error_of(
        source(tmp_path, name="imdb_reviews", download=False)
    )


def test_without_a_network_a_download_is_refused_at_once(tmp_path, monkeypatch) -> None:
    def offline(*_):
        raise OSError("Name or service not known")

    monkeypatch.setattr(module, "getproxies", dict)
    monkeypatch.setattr(module.socket, "getaddrinfo", offline)
    made = source(tmp_path, name="imdb_reviews")
    assert "isn't in" in error_of(made)
    for use in (made.fingerprint, lambda: list(made.read("train", RowIssues()))):
        with pytest.raises(UserError, match="can't be downloaded"):
            use()


def test_the_fingerprint_changes_with_content_and_reading_only(
    tfds_folder: Path, tmp_path: Path
) -> None:
    first = source(tfds_folder).fingerprint()
    copy = tmp_path / "copy"
    shutil.copytree(tfds_folder, copy)
    assert source(copy).fingerprint() == first
    assert source(copy, label_column="stars").fingerprint() != first
    assert source(copy, train_split="train[:20]").fingerprint() != first
    (copy / "tiny_reviews/1.0.0/label.labels.txt").write_text("bad\ngood\n")
    assert source(copy).fingerprint() != first
