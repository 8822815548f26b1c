"""People's own files become parts; what is wrong with them is told in one line."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError
from source_errors import error_of

from pipelines.core.contracts import RowIssues
from pipelines.core.paths import ROOT
from pipelines.data.sources.rows import lines
from pipelines.data.sources.text_files import TextFiles

SETTINGS = yaml.safe_load((ROOT / "conf/data/text_files.yaml").read_text())
ROWS = "text,label\nfine film,good\ndull film,bad\n"


def source(path: Path | None, **changes) -> TextFiles:
    return TextFiles(**{**SETTINGS, "path": None if path is None else str(path), **changes})


@pytest.fixture
def reviews(tmp_path: Path) -> Path:
    path = tmp_path / "reviews.csv"
    path.write_text(ROWS)
    return path


def folder_of(tmp_path: Path, *names: str) -> Path:
    for name in names:
        (tmp_path / name).write_text(ROWS.replace("film", name))
    return tmp_path


def test_one_file_is_all_the_data(reviews: Path) -> None:
    made = source(reviews)
    made.check()
    assert made.parts() == ("all",)
    assert list(made.read("all", RowIssues())) == [
        {"text": "fine film", "label": "good"},
        {"text": "dull film", "label": "bad"},
    ]
    assert made.provenance().name == "reviews.csv"
    assert made.provenance().licence == "not stated"
    assert source(reviews, name="mine", licence="CC0").provenance().name == "mine"


@pytest.mark.parametrize("stem", ["validation", "valid", "val", "dev"])
def test_a_folders_files_are_parts_by_their_names(stem: str, tmp_path: Path) -> None:
    made = source(folder_of(tmp_path, "Train.csv", f"{stem}.csv", "test.csv", "train.md", "x.csv"))
    made.check()
    assert made.parts() == ("train", "validation", "test")
    assert next(made.read("validation", RowIssues()))["text"] == f"fine {stem}.csv"


def test_given_paths_are_parts(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "a.csv", "b.csv", "c.csv")
    made = source(folder / "a.csv", test_path=str(folder / "b.csv"))
    made.check()
    assert made.parts() == ("train", "test")
    both = source(
        folder / "a.csv", validation_path=str(folder / "c.csv"), test_path=str(folder / "b.csv")
    )
    assert both.parts() == ("train", "validation", "test")
    assert next(both.read("test", RowIssues()))["text"] == "fine b.csv"


def test_a_folder_with_a_train_file_alone_is_all_the_data(tmp_path: Path) -> None:
    assert source(folder_of(tmp_path, "train.csv")).parts() == ("all",)


def test_a_path_that_is_not_given_is_reported() -> None:
    assert error_of(source(None)).startswith("data.path must be given")


def test_a_missing_file_is_reported_with_the_nearest_names(reviews: Path) -> None:
    assert "did you mean 'reviews.csv'?" in error_of(source(reviews.with_name("review.csv")))
    assert "data.path: there is no file" in error_of(source(reviews.with_name("review.csv")))
    assert "nearest folder that exists" in error_of(source(reviews.parent / "no/such/file.csv"))
    missing = source(reviews, test_path=str(reviews.with_name("tset.csv")))
    assert error_of(missing).startswith("data.test_path: there is no file")
    for odd in ("~nobody-here/x.csv", "x" * 5000, "a\0b.csv", f"{reviews}/x.csv", ""):
        error_of(source(reviews, test_path=odd))
        error_of(TextFiles(**{**SETTINGS, "path": odd}))


def test_a_folder_without_a_train_file_is_reported(tmp_path: Path) -> None:
    assert "holds no file of a known format" in error_of(source(tmp_path))
    assert "holds test.csv" in error_of(source(folder_of(tmp_path, "test.csv")))


def test_two_files_for_one_part_are_reported(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "train.csv", "dev.csv", "val.csv")
    assert "one validation file; it holds dev.csv and val.csv" in error_of(source(folder))


def test_the_same_file_twice_is_reported(reviews: Path) -> None:
    assert "different files" in error_of(source(reviews, test_path=str(reviews)))


def test_the_same_column_twice_is_reported(reviews: Path) -> None:
    assert "must differ" in error_of(source(reviews, text_column="text", label_column="text"))


@pytest.mark.parametrize("delimiter", ["", ",,", '"', "\n"])
def test_an_impossible_delimiter_is_reported(delimiter: str, reviews: Path) -> None:
    assert "data.delimiter must be one character" in error_of(source(reviews, delimiter=delimiter))


def test_a_tab_may_be_written_as_in_python(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(ROWS.replace(",", "\t"))
    made = source(tmp_path / "a.txt", delimiter="\\t")
    made.check()
    assert len(list(made.read("all", RowIssues()))) == 2


def test_a_missing_column_is_reported_by_its_setting(reviews: Path) -> None:
    assert (
        "data.label_column: reviews.csv has no column 'labels'; did you mean 'label'?"
        in error_of(source(reviews, label_column="labels"))
    )


def test_a_missing_column_of_any_part_is_reported(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "train.csv", "test.csv")
    (folder / "test.csv").write_text("text\nx\n")
    assert "data.label_column: test.csv has no column 'label'" in error_of(source(folder))


def test_an_unreadable_file_is_reported(reviews: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail_to_open(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(lines, "open", fail_to_open, raising=False)
    assert "can't be read (Permission denied)" in error_of(source(reviews))


def test_columns_are_names_or_positions_and_nothing_else(reviews: Path) -> None:
    for wrong in (-1, 1.0, True, None):
        with pytest.raises(ValidationError):
            source(reviews, text_column=wrong)
    reviews.write_text("good,fine\nbad,dull\n")
    made = source(reviews, text_column=1, label_column=0)
    made.check()
    assert next(made.read("all", RowIssues())) == {"text": "fine", "label": "good"}


def test_the_fingerprint_changes_with_content_and_reading_only(
    reviews: Path, tmp_path: Path
) -> None:
    first = source(reviews).fingerprint()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    copy = Path(shutil.copy(reviews, elsewhere / "copy.csv"))
    assert source(copy, name="other", licence="CC0").fingerprint() == first
    assert source(reviews, test_path=str(copy)).fingerprint() != first
    assert source(reviews, text_column="label", label_column="text").fingerprint() != first
    assert source(reviews, quoting=False).fingerprint() != first
    reviews.write_text(ROWS.replace("dull", "dumb"))
    assert source(reviews).fingerprint() != first


def test_importing_the_sources_imports_nothing_slow() -> None:
    code = (
        "import sys\n"
        "from pipelines.data.sources import packaged_csv, packaged_pairs, text_files, pair_files\n"
        "from pipelines.data.sources import parallel_text, tfds, tfds_translation\n"
        "import pipelines.data.pair_filter\n"
        "slow = {'tensorflow', 'pyarrow', 'pandas', 'tensorflow_datasets', 'keras'}\n"
        "assert not slow & set(sys.modules), slow & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
