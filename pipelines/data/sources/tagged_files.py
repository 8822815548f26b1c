"""Users' own files of words with tags: columns as in CoNLL, CoNLL-U, JSON Lines, Parquet."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from collections.abc import Iterator
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Literal

from models.settings import Whole, settings
from pipelines.core.contracts import FieldSpec, Provenance, RowIssues
from pipelines.core.errors import UserError
from pipelines.core.types import Example
from pipelines.data.codecs.tag_schemes import Scheme, detect_scheme, to_bio
from pipelines.data.sources import _tagged_lines
from pipelines.data.sources._named import check_files_differ, digest, expand_home, find_parts
from pipelines.data.sources._tagged_inputs import WITH_NAMES, TaggedInputs
from pipelines.data.sources.rows import (
    Columns,
    check_exists,
    extension,
    read_rows,
    unreadable_error,
)

Column = str | Whole | None

log = logging.getLogger(__name__)

PARTS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev", "devel", "testa"),
    "test": ("test", "testb"),
}
"""Words in a file's name that say its part: train.conll, en_ewt-ud-dev.conllu, eng.testb."""

LIST = FieldSpec((None,), "string")


@settings
class TaggedFiles(TaggedInputs):
    """A sentence is a list of words with as many tags.

    name             shown in the report; null for the path's last part.
    path             a file, which we divide; or a folder with files whose names say train, test and
                     any of dev, valid, val, testa; or the training file, where validation_path or
                     test_path is given.
    token_column     of files with a word a line a number from 0, or a name of CoNLL-U's; null for
                     the first, or "form". Of JSON Lines and Parquet a name; null for "tokens".
    tag_column       likewise; null for the last column, or "upos"; or "tags".
    scheme           auto, or how tags mark entities: iob1, bio, bioes, bilou; none for labels.
    """

    format: Literal["tagged_files"]
    name: str | None
    path: str | None
    validation_path: str | None
    test_path: str | None
    token_column: Column
    tag_column: Column
    scheme: Literal["auto", "none", "iob1", "bio", "bioes", "bilou"]
    licence: str | None
    citation: str | None

    columns = ("tokens", "tags")

    def check(self) -> None:
        files = self._files()
        check_files_differ(files.values(), "data.path, data.validation_path and data.test_path")
        for path in files.values():
            if not any(islice(self._read(path, RowIssues()), 1)):
                raise UserError(
                    f"{path} must hold sentences of words with tags; it has none that can be read"
                )

    def parts(self) -> tuple[str, ...]:
        return tuple(self._files())

    def read(self, part: str, issues: RowIssues) -> Iterator[Example]:
        scheme, path = self.found_scheme, self._files()[part]
        for place, words, tags in self._read(path, issues):
            try:
                yield {"tokens": words, "tags": to_bio(tags, scheme)}
            except ValueError as error:
                issues.add(place, str(error))

    @cached_property
    def found_scheme(self) -> Scheme:
        """How tags mark entities, as told or as the training tags are, which is told then."""
        if self.scheme != "auto":
            return self.scheme
        files = self._files()
        path = files.get("train") or files["all"]
        found = detect_scheme(tags for _, _, tags in self._read(path, RowIssues()))
        if found != "none":
            read_as = "" if found == "bio" else ", which are read as BIO"
            log.info("%s: tags mark entities in %s%s", path.name, found.upper(), read_as)
        return found

    def fingerprint(self) -> str:
        files = {part: (extension(path), digest(path)) for part, path in self._files().items()}
        how = [self.token_column, self.tag_column, self.scheme]
        return hashlib.sha256(json.dumps([files, how]).encode()).hexdigest()

    def provenance(self) -> Provenance:
        return Provenance(
            name=self.name or Path(self.path or "").name,
            origin=", ".join(str(path) for path in self._files().values()),
            licence=self.licence or "not stated",
            citation=self.citation or "not stated",
        )

    @property
    def named_tokens(self) -> str:
        return self._name(self.token_column, "tokens")

    def token_number(self, form: _tagged_lines.LineFormat, path: Path) -> int:
        first = super().token_number(form, path)
        return _tagged_lines.resolve_column(
            "data.token_column", self.token_column, first, form, path
        )

    def _read(self, path: Path, issues: RowIssues) -> Iterator[tuple[str, list[str], list[str]]]:
        """Where each sentence is, its words and its tags as they are written."""
        if extension(path) in WITH_NAMES:
            yield from self._read_rows(path, issues)
            return
        form = _tagged_lines.find_format(path)
        last = _tagged_lines.CONLLU.index("upos") if form.conllu else form.columns - 1
        setting = "data.tag_column"
        tag = _tagged_lines.resolve_column(setting, self.tag_column, last, form, path)
        columns = [self.token_number(form, path), tag]
        for line, sentence in _tagged_lines.read_sentences(path, form, columns, issues):
            words, tags = zip(*sentence, strict=True)
            yield f"{path.name}:{line}", list(words), list(tags)

    def _read_rows(
        self, path: Path, issues: RowIssues
    ) -> Iterator[tuple[str, list[str], list[str]]]:
        names = {
            "tokens": self.named_tokens,
            "tags": self._name(self.tag_column, "tags"),
        }
        fields = {"tokens": LIST, "tags": LIST}
        for row, example in enumerate(read_rows(path, Columns(names, fields=fields), issues), 1):
            words, tags = example["tokens"], example["tags"]
            if len(words) != len(tags):
                reason = "there must be a tag for each word; their numbers differ"
                issues.add(f"{path.name}, sentence {row}", reason)
            else:
                yield f"{path.name}, sentence {row}", words, tags

    def _name(self, column: Column, default: str) -> str:
        return default if column is None else str(column)

    def _files(self) -> dict[str, Path]:
        """The file of each part; only {"all": …} if there is a single file, which we divide."""
        if self.path is None:
            raise UserError("data.path must be given: data.path=FILE, or a folder with train.conll")
        path = expand_home(self.path)
        files = _in_folder(path) if os.path.isdir(path) else {"train": path}
        for part, name in (("validation", self.validation_path), ("test", self.test_path)):
            if name is not None:
                files[part] = expand_home(name)
                check_exists(files[part], f"data.{part}_path")
        check_exists(files["train"], "data.path")
        return files if len(files) > 1 else {"all": files["train"]}


def _in_folder(folder: Path) -> dict[str, Path]:
    try:
        names = sorted(file for file in folder.iterdir() if file.is_file())
    except OSError as error:
        raise unreadable_error(folder, error) from None
    files = find_parts(
        names, lambda file: re.split(r"[^a-z0-9]+", file.name.lower()), PARTS, folder
    )
    if "train" not in files:
        holds = ", ".join(file.name for file in names[:5]) or "no file"
        raise UserError(
            f"data.path: a folder must hold a file whose name says train, such as train.conll; "
            f"{folder} holds {holds}: rename the training file, or give its own path"
        )
    return files
