"""Sentence pairs in columns: what text classification's files can do, these can."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from source_errors import error_of

from pipelines.core.contracts import FieldSpec, RowIssues
from pipelines.core.paths import ROOT
from pipelines.data.sources.pair_files import PairFiles

SOURCE = {"source": FieldSpec((), "string")}


SETTINGS = yaml.safe_load((ROOT / "conf/data/pair_files.yaml").read_text(encoding="utf-8"))
PAIRS = [{"source": "one", "target": "eins"}, {"source": "two", "target": "zwei"}]


def source(path: Path, **changes) -> PairFiles:
    return PairFiles(**{**SETTINGS, "path": str(path), **changes})


def read(made: PairFiles, part: str = "all") -> list[dict[str, str]]:
    made.check()
    issues = RowIssues()
    rows = list(made.read(part, issues))
    assert issues.count == 0
    return rows


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "id,en,de\n1,one,eins\n2,two,zwei\n"),
        ("a.tsv", "de\ten\neins\tone\nzwei\ttwo\n"),
        ("a.jsonl", '{"en": "one", "de": "eins"}\n{"de": "zwei", "en": "two"}\n'),
    ],
)
def test_pairs_are_read_from_named_columns(name: str, content: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    made = source(tmp_path / name, source_column="en", target_column="de")
    assert read(made) == PAIRS
    back = source(tmp_path / name, source_column="de", target_column="en")
    assert read(back)[0] == {"source": "eins", "target": "one"}
    assert made.fingerprint() != back.fingerprint()
    assert made.provenance().name == name


def test_pairs_are_read_from_parquet_and_by_position(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(PAIRS), tmp_path / "a.parquet")
    assert read(source(tmp_path / "a.parquet")) == PAIRS
    (tmp_path / "a.tsv").write_text("one\teins\t(x)\ntwo\tzwei\t(y)\n")
    assert read(source(tmp_path / "a.tsv", source_column=0, target_column=1)) == PAIRS


def test_a_folders_files_are_parts_by_their_names(tmp_path: Path) -> None:
    for name in ("train", "dev", "test"):
        (tmp_path / f"{name}.csv").write_text(f"source,target\n{name},x\n")
    made = source(tmp_path)
    assert made.parts() == ("train", "validation", "test")
    assert read(made, "validation") == [{"source": "dev", "target": "x"}]


def test_numbers_are_no_sentences(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"source": "one", "target": 1}\n')
    issues = RowIssues()
    assert not list(source(tmp_path / "a.jsonl").read("all", issues))
    assert issues.first == ["a.jsonl:1: column 'target' is not text"]


def test_mistakes_are_reported_by_the_settings_there_are(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("source,targt\none,eins\n")
    assert "data.target_column: a.csv has no column 'target'; did you mean 'targt'?" in error_of(
        source(tmp_path / "a.csv")
    )
    assert error_of(source(tmp_path / "a.csv", target_column="source")) == (
        "data.source_column and data.target_column must differ; both are 'source': "
        "give the columns of the source and of the target"
    )
    (tmp_path / "a.txt").write_text("one\n")
    assert "must have the columns source, target" in error_of(source(tmp_path / "a.txt"))


@pytest.mark.parametrize(
    ("name", "content", "changes"),
    [
        ("b.en", "one\ntwo\n", {}),
        ("b.txt", "one\ntwo\n", {}),
        ("b.csv", "en\none\ntwo\n", {}),
        ("b.tsv", "en\tde\none\teins\ntwo\tzwei\n", {}),
        ("b.txt", "en;x\none;1\ntwo;2\n", {"delimiter": "semicolon"}),
    ],
)
def test_what_is_given_to_translate_is_lines_or_the_column(
    name: str, content: str, changes: dict, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(content)
    made = source(tmp_path / "a.csv", source_column="en", target_column="de", **changes)
    rows = list(made.read_inputs(tmp_path / name, SOURCE, RowIssues()))
    assert rows == [{"source": "one"}, {"source": "two"}]
