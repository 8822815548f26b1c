"""Sentence pairs in JSON files of an ordinary Python package, read without running its code."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from itertools import permutations
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from models.settings import settings
from pipelines.core.contracts import Provenance, RowIssues
from pipelines.core.errors import UserError, shown, suggest
from pipelines.core.types import Example, Value
from pipelines.data.sources._packaged import Sha256, find_packaged_file
from pipelines.data.sources._pairs import PAIR, SentencePairs
from pipelines.data.sources.rows import Columns, usable_rows


@settings
class PackagedPairs(SentencePairs):
    """Lists of entries with lists of pairs; the files must have these SHA-256.

    package, version  as pip knows them.
    files      paths of the JSON files inside the package's installation, and their SHA-256.
    pairs      an entry's key of its list of pairs, if it has any.
    languages  a pair's keys of its texts.
    direction  source and target language: ja_en for ja to en.
    """

    format: Literal["packaged_pairs"]
    name: str
    package: str
    version: str
    files: dict[str, Sha256]
    pairs: str
    languages: Annotated[list[str], Field(min_length=2)]
    direction: str
    licence: str
    citation: str

    def check(self) -> None:
        self._from_to()
        self._paths()

    def parts(self) -> tuple[str, ...]:
        return ("all",)

    def read(self, part: str, issues: RowIssues) -> Iterator[Example]:
        keys = self._from_to()
        columns = Columns(dict(zip(PAIR, keys, strict=True)))
        for path in self._paths():
            texts = enumerate(self._texts(path, list(keys)), 1)
            yield from usable_rows(texts, columns, issues, path.name)

    def fingerprint(self) -> str:
        how = [list(self.files.items()), self.pairs, self._from_to()]
        return hashlib.sha256(json.dumps(how).encode()).hexdigest()

    def provenance(self) -> Provenance:
        files = ", ".join(Path(file).name for file in self.files)
        origin = (
            f"{files} of the package {self.package} {self.version}, from the Python index; "
            f"{' to '.join(self._from_to())}"
        )
        return Provenance(self.name, origin, self.licence, self.citation)

    def _from_to(self) -> tuple[str, str]:
        """The keys of the source and of the target."""
        choices = {"_".join(pair): pair for pair in permutations(self.languages, 2)}
        if self.direction not in choices:
            hint = suggest(self.direction, choices)
            raise UserError(f"data.direction: there is no {shown(self.direction)} here; {hint}")
        return choices[self.direction]

    def _paths(self) -> list[Path]:
        return [
            find_packaged_file(self.name, self.package, self.version, file, sha256)
            for file, sha256 in self.files.items()
        ]

    def _texts(self, path: Path, keys: list[str]) -> list[list[Value]]:
        try:
            entries = json.loads(path.read_bytes())
            lists = (entry.get(self.pairs, []) for entry in entries)
            return [[pair[key] for key in keys] for pairs in lists for pair in pairs]
        except (ValueError, KeyError, TypeError, AttributeError):
            raise UserError(
                f"{path} must hold a JSON list of entries that may have a list {shown(self.pairs)} "
                f"of objects with {' and '.join(map(repr, keys))}; it holds something else: give "
                "data.files, data.pairs and data.languages as they are in the package"
            ) from None
