"""Treebanks in CoNLL-U in an ordinary Python package, read without running its code."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from models.settings import settings
from pipelines.core.contracts import Provenance, RowIssues
from pipelines.core.types import Example
from pipelines.data.sources import _tagged_lines
from pipelines.data.sources._packaged import Sha256, find_packaged_file
from pipelines.data.sources._tagged_inputs import TaggedInputs

FOLDS = 10
"""A file's sentences are dealt out to so many folds in turns; see `PARTS`."""

PARTS = {"train": range(8), "validation": (8,), "test": (9,)}
"""Folds of each part."""


@settings
class PackagedTreebank(TaggedInputs):
    """A sentence is a list of words with their parts of speech.

    The parts are the package's own: of ten sentences eight are for training, the next for
    validation and the last for the test.

    package, version  as pip knows them.
    files       paths of the files inside the package's installation, and their SHA-256.
    tag_column  upos, xpos or another name of CoNLL-U's columns.
    """

    format: Literal["packaged_treebank"]
    name: str
    package: str
    version: str
    files: dict[str, Sha256]
    tag_column: Literal["upos", "xpos"]
    licence: str
    citation: str

    columns = ("tokens", "tags")

    def check(self) -> None:
        self._paths()

    def parts(self) -> tuple[str, ...]:
        return tuple(PARTS)

    def read(self, part: str, issues: RowIssues) -> Iterator[Example]:
        columns = [_tagged_lines.CONLLU.index(name) for name in ("form", self.tag_column)]
        for path in self._paths():
            form = _tagged_lines.find_format(path)
            found = _tagged_lines.read_sentences(path, form, columns, issues)
            for number, (_, sentence) in enumerate(found):
                if number % FOLDS in PARTS[part]:
                    words, tags = zip(*sentence, strict=True)
                    yield {"tokens": list(words), "tags": list(tags)}

    def fingerprint(self) -> str:
        how = [list(self.files.items()), self.tag_column]
        return hashlib.sha256(json.dumps(how).encode()).hexdigest()

    def provenance(self) -> Provenance:
        names = ", ".join(Path(file).name for file in self.files)
        origin = f"{names} of the package {self.package} {self.version}, from the Python index"
        return Provenance(self.name, origin, self.licence, self.citation)

    def _paths(self) -> list[Path]:
        return [
            find_packaged_file(self.name, self.package, self.version, file, sha256)
            for file, sha256 in self.files.items()
        ]
