"""Files with captions of images: one caption a row, or COCO's JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path

from pipelines.core.contracts import RowIssues
from pipelines.core.errors import UserError
from pipelines.core.types import Json
from pipelines.data.sources.rows import (
    Columns,
    Dialect,
    FaultError,
    check_exists,
    extension,
    read_bytes,
    read_lines,
    read_rows,
    usable_rows,
    usable_text,
)

_TOKEN = re.compile(r"(.*\S)\s*#\d+\t(.*)")
"""Flickr8k's other form: photo.jpg#0, a tab, and the caption."""

KEYS = ("image", "caption")


def read_captions(
    path: Path,
    columns: Mapping[str, str | int],
    issues: RowIssues,
    dialect: Dialect,
) -> dict[str, list[str]]:
    """The captions of each image, by its file's name; both in the order of the file.

    columns  names or positions of the columns for KEYS, in files that have columns.
    dialect  in .txt files the delimiter is a comma by default.

    Raises UserError if the file isn't of a known form.
    """
    check_exists(path, "data.captions")
    if extension(path) == ".json":
        return _group_by_image(_coco(path, issues))
    first = next((line for line in islice(read_lines(path), 100) if line.strip()), "")
    if _TOKEN.fullmatch(first):
        return _group_by_image(_tokens(path, issues))
    if extension(path) == ".txt" and dialect.delimiter is None:
        dialect = Dialect(",", dialect.quoting)
    rows = read_rows(path, Columns(columns), issues, dialect)
    return _group_by_image((row["image"], row["caption"]) for row in rows)


def _group_by_image(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Captions by name, each made one line. An empty caption adds only the name."""
    captions: dict[str, list[str]] = {}
    for name, caption in pairs:
        line = " ".join(caption.split())
        captions.setdefault(name.strip(), []).extend([line] if line else [])
    return captions


def _tokens(path: Path, issues: RowIssues) -> Iterator[tuple[str, str]]:
    def records() -> Iterator[tuple[int, tuple[str, str] | tuple[None, None]]]:
        for number, line in enumerate(read_lines(path), 1):
            if line.strip():
                match = _TOKEN.fullmatch(line)
                yield number, (match[1], match[2]) if match else (None, None)

    columns = Columns(dict(zip(KEYS, KEYS, strict=True)))
    for row in usable_rows(records(), columns, issues, path.name):
        yield row["image"], row["caption"]


def _coco(path: Path, issues: RowIssues) -> Iterator[tuple[str, str]]:
    content = _json(path)
    try:
        names = {image["id"]: image["file_name"] for image in content["images"]}
        notes = [(note["image_id"], note["caption"]) for note in content["annotations"]]
        usable = all(isinstance(name, str) for name in names.values())
    except (KeyError, TypeError):
        usable = False
    if not usable:
        raise UserError(
            f"{path} must be as COCO's: images with id and file_name, annotations with image_id "
            "and caption; it holds something else: convert it, or give a CSV"
        )
    yield from ((name, "") for name in names.values())
    for number, (image, caption) in enumerate(notes, 1):
        if not isinstance(image, int | str) or image not in names:
            issues.add(f"{path.name}, annotation {number}", "caption of an unknown image_id")
            continue
        try:
            yield names[image], usable_text(caption)
        except FaultError as error:
            issues.add(f"{path.name}, annotation {number}", f"caption {error}")


def _json(path: Path) -> Json:
    try:
        return json.loads(read_bytes(path))
    except UserError:
        raise
    except json.JSONDecodeError as error:
        raise UserError(
            f"{path} must be whole JSON; it is wrong or breaks off at character {error.pos:,} of "
            f"{len(error.doc):,} ({error.msg}): get the file again"
        ) from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} can't be read as JSON: {' '.join(str(error).split())}") from None
