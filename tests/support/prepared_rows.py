"""Rows in memory that are prepared as texts with labels, and what is left in the cache."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from only_data import OnlyData

from pipelines.core.contracts import Provenance, RowIssues, Source
from pipelines.core.settings import PrepareSettings
from pipelines.core.types import Example
from pipelines.data.codecs.labels import LabelCodec
from pipelines.data.codecs.text import TextCodec, TextSettings
from pipelines.data.prepare import Prepared, prepare


class Memory(Source):
    """Rows by part; None is a bad row."""

    columns = ("text", "label")

    def __init__(self, parts: Mapping[str, Sequence[Example | None]]):
        self.by_part = parts
        self.reads = 0

    def check(self) -> None: ...

    def parts(self) -> tuple[str, ...]:
        return tuple(self.by_part)

    def read(self, part: str, issues: RowIssues) -> Iterator[Example]:
        self.reads += 1
        for number, row in enumerate(self.by_part[part], start=2):
            if row is None:
                issues.add(f"x.csv:{number}", "empty text")
            else:
                yield row

    def fingerprint(self) -> str:
        return repr(self.by_part)

    def provenance(self) -> Provenance:
        return Provenance("x.csv", "a file", "none", "")


def rows(count: int, offset: int = 0) -> list[Example]:
    return [
        {
            "text": f"word{i % 7} and {'good' if i % 2 else 'bad'} no{i} " * (1 + i % 5),
            "label": "np"[i % 2],
        }
        for i in range(offset, offset + count)
    ]


TEXT: dict[str, Any] = {
    "tokens": "word",
    "vocabulary_size": 100,
    "minimum_count": 1,
    "lowercase": True,
    "strip_markup": True,
    "punctuation": "keep",
    "max_tokens": 12,
    "truncate": "both",
    "model_type": "unigram",
}


def prepare_options(cache: Path) -> dict[str, Any]:
    return {
        "validation": 0.1,
        "test": 0.2,
        "bad_rows": 0.1,
        "limit": None,
        "division": "hash",
        "group_by": None,
        "block_rows": 10,
        "time_column": None,
        "split_seed": 0,
        "cache_dir": str(cache),
    }


def run(source: Source, options: dict[str, Any], *, text: dict[str, Any] | None = None) -> Prepared:
    settings = TextSettings(**{**TEXT, **(text or {})})
    codec = {"tokens": TextCodec("text", settings), "label": LabelCodec("label")}
    task = OnlyData(codec, dedupe_by=("text",), stratify_by="label")
    return prepare(source, task, PrepareSettings(**options))


def left(options: dict[str, Any]) -> list[str]:
    return sorted(p.name for p in Path(options["cache_dir"]).iterdir() if p.suffix != ".lock")
