"""Translation sets of TensorFlow Datasets are read by name, offline where they are prepared."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from source_errors import error_of

from pipelines.core.contracts import FieldSpec, RowIssues
from pipelines.core.paths import ROOT
from pipelines.data.sources.tfds_translation import TfdsTranslation

SOURCE = {"source": FieldSpec((), "string")}


SETTINGS = yaml.safe_load((ROOT / "conf/data/tfds_translation.yaml").read_text(encoding="utf-8"))
TRAIN = [(f"Satz {number}, schön", f"sentence {number}") for number in range(20)]


@pytest.fixture(scope="module")
def tfds_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with the set tiny_pairs, whose code is known to nobody afterwards."""
    import tensorflow_datasets as tfds

    with tfds.core.registered.skip_registration():

        class TinyPairs(tfds.core.GeneratorBasedBuilder):
            VERSION = tfds.core.Version("1.0.0")
            BUILDER_CONFIGS = [  # noqa: RUF012 - as TFDS reads it
                tfds.core.BuilderConfig(name="de_to_en"),
                tfds.core.BuilderConfig(name="inside"),
            ]

            def _info(self) -> tfds.core.DatasetInfo:
                features = tfds.features.Translation(languages=("de", "en"))
                if self.builder_config.name == "inside":
                    several = {"language": tfds.features.Text(), "text": tfds.features.Text()}
                    features = tfds.features.FeaturesDict(
                        {"pair": features, "several": tfds.features.Sequence(several)}
                    )
                return tfds.core.DatasetInfo(builder=self, features=features, citation="Tiny")

            def _split_generators(self, dl_manager):
                test = [("gut", "good"), ("", "nothing"), ("schlecht", "bad")]
                return {
                    "train": self._generate_examples(TRAIN),
                    "test": self._generate_examples(test),
                }

            def _generate_examples(self, pairs):
                for number, (de, en) in enumerate(pairs):
                    pair = {"de": de, "en": en}
                    if self.builder_config.name == "inside":
                        several = [{"language": "de", "text": de}] * (number % 3)
                        pair = {"pair": pair, "several": several}
                    yield number, pair

    folder = tmp_path_factory.mktemp("tfds")
    for config in ("de_to_en", "inside"):
        TinyPairs(data_dir=str(folder), config=config).download_and_prepare()
    return folder


def source(folder: Path, **changes) -> TfdsTranslation:
    tiny = {
        "name": "tiny_pairs/de_to_en",
        "source_column": "de",
        "target_column": "en",
        "validation_split": None,
        "data_dir": str(folder),
    }
    return TfdsTranslation(**{**SETTINGS, **tiny, **changes})


def pairs(made: TfdsTranslation, part: str, issues: RowIssues) -> set[tuple[str, str]]:
    return {(row["source"], row["target"]) for row in made.read(part, issues)}


def test_a_prepared_set_is_read_in_either_direction(tfds_folder: Path) -> None:
    made = source(tfds_folder)
    made.check()
    assert made.parts() == ("train", "test")
    assert pairs(made, "train", RowIssues()) == set(TRAIN)
    back = source(tfds_folder, source_column="en", target_column="de")
    assert pairs(back, "train", RowIssues()) == {(en, de) for de, en in TRAIN}
    assert back.fingerprint() != made.fingerprint()


def test_empty_sentences_are_bad_rows(tfds_folder: Path) -> None:
    issues = RowIssues()
    assert pairs(source(tfds_folder), "test", issues) == {("gut", "good"), ("schlecht", "bad")}
    assert issues.reasons == {"column 'de' is empty": 1}


def test_translations_may_be_inside_another_feature(tfds_folder: Path) -> None:
    made = source(
        tfds_folder, name="tiny_pairs/inside", source_column="pair/de", target_column="pair/en"
    )
    made.check()
    assert pairs(made, "train", RowIssues()) == set(TRAIN)


def test_provenance_is_what_tfds_says(tfds_folder: Path) -> None:
    provenance = source(tfds_folder).provenance()
    assert provenance.name == "tiny_pairs/de_to_en"
    assert "tiny_pairs/de_to_en/1.0.0" in provenance.origin
    assert provenance.citation == "Tiny"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"source_column": "fr"},
            "data.source_column: tiny_pairs/de_to_en has no feature 'fr'; it has ",
        ),
        ({"target_column": "de"}, "data.source_column and data.target_column must differ; "),
        (
            {
                "name": "tiny_pairs/inside",
                "source_column": "pair/de",
                "target_column": "several",
            },
            "data.target_column must be a feature that holds a text; tiny_pairs/inside has ",
        ),
        ({"validation_split": "dev"}, "data.validation_split: tiny_pairs/de_to_en has no examples"),
        (
            {"name": "ted_hrlr_translate/de_to_en"},
            "data.name: TFDS's ted_hrlr_translate has no configuration 'de_to_en'; did you mean ",
        ),
    ],
)
def test_mistakes_are_reported(changes: dict, message: str, tfds_folder: Path) -> None:
    assert error_of(source(tfds_folder, **changes)).startswith(message)


def test_the_default_set_is_one_that_tfds_knows(tmp_path: Path) -> None:
    message = error_of(
        TfdsTranslation(**{**SETTINGS, "data_dir": str(tmp_path), "download": False})
    )
    assert "ted_hrlr_translate/pt_to_en must be prepared" in message


def test_what_is_given_to_translate_is_lines_or_a_column(tfds_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "given.de").write_text("gut\n")
    rows = source(tfds_folder).read_inputs(tmp_path / "given.de", SOURCE, RowIssues())
    assert list(rows) == [{"source": "gut"}]
