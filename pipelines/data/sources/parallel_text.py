"""Translations as two text files: line i of one is the translation of line i of the other."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from itertools import islice, zip_longest
from pathlib import Path
from typing import Literal

from models.settings import settings
from pipelines.core.contracts import Provenance, RowIssues
from pipelines.core.errors import UserError, shown
from pipelines.core.types import Example
from pipelines.data.sources._named import check_files_differ, digest, expand_home
from pipelines.data.sources._pairs import PAIR, SentencePairs
from pipelines.data.sources.rows import (
    COMPRESSIONS,
    EXTENSIONS,
    FaultError,
    check_exists,
    extension,
    read_lines,
    usable_text,
)

_CHECKED_LINES = 1000
"""Lines at the start of a file by which `check` sees that it is empty or not UTF-8."""

_QUICK_BYTES = 16 << 20
"""Files of up to this many bytes are read completely by `check`, in a fraction of a second."""

_SHOWN_CHARACTERS = 60
"""Characters of a line that a message shows."""


@settings
class ParallelText(SentencePairs):
    r"""Two files a part. A line ends with "\n" or "\r\n", and with nothing else.

    name            shown in the report; null for the names of the first two files.
    source, target  two files, which we divide; or the training files, where those of validation
                    or test are given.
    """

    format: Literal["parallel_text"]
    name: str | None
    source: str | None
    target: str | None
    validation_source: str | None
    validation_target: str | None
    test_source: str | None
    test_target: str | None
    licence: str | None
    citation: str | None

    def check(self) -> None:
        parts = self._files()
        paths = [path for files in parts.values() for path in files]
        check_files_differ(paths, "data.source, data.target and those of validation and test")
        if sum(path.stat().st_size for path in paths) <= _QUICK_BYTES:
            for source, target in parts.values():
                for _ in _read_pairs(source, target):
                    pass

    def parts(self) -> tuple[str, ...]:
        return tuple(self._files())

    def read(self, part: str, issues: RowIssues) -> Iterator[Example]:
        source, target = self._files()[part]
        for number, (source_text, target_text) in enumerate(_read_pairs(source, target), 1):
            try:
                row = {"source": usable_text(source_text), "target": usable_text(target_text)}
            except FaultError:
                side, reason = _find_fault(source_text, target_text)
                issues.add(f"{(source, target)[side].name}:{number}", reason)
            else:
                yield row

    def fingerprint(self) -> str:
        files = {
            part: [(path.suffix.lower() in COMPRESSIONS, digest(path)) for path in paths]
            for part, paths in self._files().items()
        }
        return hashlib.sha256(json.dumps(files).encode()).hexdigest()

    def provenance(self) -> Provenance:
        files = list(self._files().values())
        return Provenance(
            name=self.name or " and ".join(path.name for path in files[0]),
            origin=", ".join(str(path) for paths in files for path in paths),
            licence=self.licence or "not stated",
            citation=self.citation or "not stated",
        )

    def _files(self) -> dict[str, tuple[Path, Path]]:
        """Source and target of each part; just {"all": …} where there is one to be divided."""
        paths = {
            "train": (self.source, self.target),
            "validation": (self.validation_source, self.validation_target),
            "test": (self.test_source, self.test_target),
        }
        files = {}
        for part, (source, target) in paths.items():
            prefix = "" if part == "train" else f"{part}_"
            first, second = (f"data.{prefix}{side}" for side in PAIR)
            if source is not None and target is not None:
                files[part] = (_find_text_file(source, first), _find_text_file(target, second))
            elif source is not None or target is not None:
                lacking, there = (first, second) if source is None else (second, first)
                raise UserError(
                    f"{first} and {second} go together; {there} is {shown(source or target)} and "
                    f"{lacking} is null: give both"
                )
            elif part == "train":
                raise UserError(
                    "data.source and data.target must be given: "
                    "data.source=train.en data.target=train.de"
                )
        return files if len(files) > 1 else {"all": files["train"]}


def _find_text_file(name: str, setting: str) -> Path:
    """The file, if it is text with something in it; else UserError."""
    path = expand_home(name)
    check_exists(path, setting)
    if extension(path) in EXTENSIONS and extension(path) != ".txt":
        raise UserError(
            f"{setting} must be a text file with a sentence a line; {path.name} has columns: "
            "use data=pair_files, or rename it"
        )
    _check_start(path, setting)
    return path


def _check_start(path: Path, setting: str) -> None:
    """Raises UserError for a file that is empty, or mostly not UTF-8 where it isn't ASCII."""
    lines = blank = beyond_ascii = 0
    wrong: list[tuple[int, str]] = []
    for line in islice(read_lines(path), _CHECKED_LINES):
        lines += 1
        blank += _is_blank(line)
        if not line.isascii():
            beyond_ascii += 1
            if not _is_valid(line):
                wrong.append((lines, _shorten(line)))
    if blank == lines:
        raise UserError(f"{setting}: {path} must hold a sentence a line; it is empty")
    if len(wrong) > 1 and len(wrong) > beyond_ascii / 2:
        number, shown = wrong[0]
        raise UserError(
            f"{setting}: {path} must be UTF-8; line {number} isn't ({shown}), nor are "
            f"{len(wrong) - 1:,} more of the first {lines:,}: convert it from its encoding, such "
            f"as by iconv -f WINDOWS-1252 -t UTF-8 {path.name} > NEW"
        )


def _read_pairs(source: Path, target: Path) -> Iterator[tuple[str, str]]:
    """Lines that belong together. UserError, at the end, if one file has more."""
    both = zip_longest(read_lines(source), read_lines(target))
    for number, (one, other) in enumerate(both, 1):
        if one is not None and other is not None:
            yield one, other
        elif one is not None:
            raise _uneven_lines_error(source, target, number, one, (line for line, _ in both))
        else:
            raise _uneven_lines_error(target, source, number, other, (line for _, line in both))


def _uneven_lines_error(
    longer: Path, shorter: Path, number: int, first: str, rest: Iterator[str]
) -> UserError:
    """number: that of the first line without a partner, which is `first`."""
    lines, blank = number, _is_blank(first)
    for line in rest:
        lines += 1
        blank = blank and _is_blank(line)
    remedy = (
        f"the lines beyond {number - 1:,} are blank: remove them"
        if blank
        else f"{longer.name}:{number} is the first without a partner ({_shorten(first)}): up to "
        f"there, find the line that {longer.name} has too many or {shorter.name} lacks"
    )
    return UserError(
        f"line i of one file must belong to line i of the other; {longer} has {lines:,} lines and "
        f"{shorter} {number - 1:,}; {remedy}"
    )


def _find_fault(source: str, target: str) -> tuple[int, str]:
    """The side of a bad pair that is at fault (0 or 1), and the reason."""
    blank = [_is_blank(source), _is_blank(target)]
    if any(blank):
        side = blank.index(True)
        return side, "both empty" if all(blank) else f"empty {PAIR[side]}"
    for side, text in enumerate((source, target)):
        try:
            usable_text(text)
        except FaultError as error:
            return side, f"{PAIR[side]} {error}"
    raise ValueError("neither is at fault")


def _is_blank(line: str) -> bool:
    return not line or line.isspace()


def _is_valid(line: str) -> bool:
    try:
        line.encode()
    except UnicodeEncodeError:
        return False
    return True


def _shorten(line: str) -> str:
    """The line for a message, shortened, and with escapes in place of invalid bytes."""
    text = (
        line[:_SHOWN_CHARACTERS]
        .encode("utf-8", "surrogateescape")
        .decode("utf-8", "backslashreplace")
    )
    return repr(text + ("…" if len(line) > _SHOWN_CHARACTERS else "")).replace("\\\\x", "\\x")
