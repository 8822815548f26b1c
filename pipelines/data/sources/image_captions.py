"""A folder of images and a file with their captions: users' own, Flickr8k or COCO."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from models.settings import Count, settings
from pipelines.core.contracts import Provenance, RowIssues
from pipelines.core.errors import UserError
from pipelines.core.files import is_file
from pipelines.core.types import Example
from pipelines.data.sources._caption_files import KEYS, read_captions
from pipelines.data.sources._column_files import Column
from pipelines.data.sources._image_files import (
    IMAGE_EXTENSIONS,
    CaptionedImages,
    bytes_reader,
    check_images,
)
from pipelines.data.sources._named import check_columns_differ, expand_home
from pipelines.data.sources.rows import Dialect, check_exists, read_lines, resolve_delimiter

HeldOut = Count | str | None

_CHECKED_IMAGES = 100
"""Most images that `check` looks for before a run starts."""


class _CaptionedImage(NamedTuple):
    name: str
    folder: Path
    captions: list[str]

    @property
    def path(self) -> Path:
        return self.folder / self.name


@settings
class ImageCaptions(CaptionedImages):
    """Images in the order of their names, each with all of its captions.

    name       shown in the report; null for the folder's name.
    images     the folder. captions: rows with an image's name and a caption (CSV, TSV, JSON Lines,
               Parquet; a .txt file is CSV; also photo.jpg#0, a tab, the caption), or COCO's JSON.
    validation, test  what is held out: so many of the images, the last ones by name (test after
               validation), or a text file with a name a line; null where we divide.
    validation_captions, test_captions  files of their own instead, with images in
               validation_images and test_images; null for `images`.
    """

    format: Literal["image_captions"]
    name: str | None
    images: str | None
    captions: str | None
    validation: HeldOut
    test: HeldOut
    validation_images: str | None
    validation_captions: str | None
    test_images: str | None
    test_captions: str | None
    image_column: Column
    caption_column: Column
    delimiter: str | None
    quoting: bool
    licence: str | None
    citation: str | None

    def check(self) -> None:
        check_columns_differ(self._columns())
        self._check_held_out()
        for images in self._split(RowIssues()).values():
            some = images[:_CHECKED_IMAGES]
            if some and not any(is_file(image.path) for image in some):
                raise UserError(
                    f"data.images: {some[0].folder} must hold the images that the captions "
                    f"name; {some[0].name} is not there, nor are {len(some) - 1} more: give "
                    "their folder"
                )

    def parts(self) -> tuple[str, ...]:
        held_out = [part for part in ("validation", "test") if self._has_part(part)]
        return ("train", *held_out) if held_out else ("all",)

    def read(self, part: str, issues: RowIssues) -> Iterator[Example]:
        images = self._split(issues if part in ("all", "train") else RowIssues())
        if part in ("all", "train"):
            self._add_uncaptioned(images.values(), issues)
        root = self.files_in()
        files = (
            (os.path.relpath(it.path, root), self._reader(it), it.captions)
            for it in images[part]
            if it.captions
        )
        for (name, _, captions), result in check_images(files):
            if isinstance(result, str):
                issues.add(name, result)
            else:
                yield {"image": result, "captions": "\n".join(captions)}

    def fingerprint(self) -> str:
        """Covers name, size and time of the last change of each image, and where it may be."""
        sha256 = hashlib.sha256(json.dumps(self.outside_images).encode())
        for part, images in self._split(RowIssues()).items():
            for image in images:
                state = image.path.stat() if is_file(image.path) else None
                facts = state and [state.st_size, state.st_mtime_ns]
                sha256.update(json.dumps([part, image.name, image.captions, facts]).encode())
        return sha256.hexdigest()

    def files_in(self) -> Path:
        return Path(os.path.commonpath([self._folder(part).absolute() for part in self.parts()]))

    def provenance(self) -> Provenance:
        folder = self._folder("train")
        return Provenance(
            name=self.name or folder.resolve().name,
            origin=f"{folder}, {self.captions}",
            licence=self.licence or "not stated",
            citation=self.citation or "not stated",
        )

    # Files and folders

    def _columns(self) -> dict[str, str | int]:
        return {key: getattr(self, f"{key}_column") for key in KEYS}

    def _has_part(self, part: str) -> bool:
        return getattr(self, part) is not None or getattr(self, f"{part}_captions") is not None

    def _check_held_out(self) -> None:
        for part in ("validation", "test"):
            one, other = getattr(self, part), getattr(self, f"{part}_captions")
            if one is not None and other is not None:
                raise UserError(
                    f"data.{part} and data.{part}_captions both say what is held out: give one"
                )
            if getattr(self, f"{part}_images") is not None and other is None:
                raise UserError(f"data.{part}_images goes with data.{part}_captions: give both")

    def _folder(self, part: str) -> Path:
        own = None if part in ("all", "train") else getattr(self, f"{part}_images")
        given, setting = (self.images, "images") if own is None else (own, f"{part}_images")
        if given is None:
            raise UserError(
                "data.images and data.captions must be given: data.images=photos/ "
                "data.captions=captions.txt"
            )
        folder = expand_home(given)
        if not folder.is_dir():
            state = "is a file" if folder.exists() else "does not exist"
            raise UserError(f"data.{setting} must be a folder of images; {folder} {state}")
        return folder

    def _read_part(
        self, part: str, captions: str | None, issues: RowIssues
    ) -> list[_CaptionedImage]:
        """All images that a captions file names, in the order of their names."""
        folder = self._folder(part)
        if captions is None:
            raise UserError("data.captions must be given: data.captions=captions.txt")
        by_name = read_captions(
            expand_home(captions),
            self._columns(),
            issues,
            Dialect(resolve_delimiter(self.delimiter), self.quoting),
        )
        return [_CaptionedImage(name, folder, by_name[name]) for name in sorted(by_name)]

    def _reader(self, image: _CaptionedImage) -> Callable[[], bytes]:
        return bytes_reader(image.path, self._allowed(image.folder))

    def _split(self, issues: RowIssues) -> dict[str, list[_CaptionedImage]]:
        """Images of each of `parts`."""
        rest = self._read_part("train", self.captions, issues)
        known = {image.name for image in rest}
        parts: dict[str, list[_CaptionedImage]] = {}
        for part in ("test", "validation"):
            held_out = getattr(self, part)
            if isinstance(held_out, int):
                rest, parts[part] = rest[:-held_out], rest[-held_out:]
            elif isinstance(held_out, str):
                names = _read_names(held_out, f"data.{part}")
                for name in sorted(names - known):
                    # Lists of well-known data sets name images that a user may not have.
                    issues.add(name, f"named in data.{part}, not in the captions", tolerated=True)
                parts[part] = [image for image in rest if image.name in names]
                rest = [image for image in rest if image.name not in names]
            elif (own := getattr(self, f"{part}_captions")) is not None:
                parts[part] = self._read_part(part, own, issues)
        if not rest or not all(parts.values()):
            sizes = {"train": len(rest)} | {part: len(parts[part]) for part in parts}
            received = ", ".join(f"{count} to {part}" for part, count in sizes.items())
            raise UserError(
                f"data.captions, data.validation and data.test must leave images in each split; "
                f"received {received}: hold out fewer, or give other names"
            )
        return {"train" if parts else "all": rest, **parts}

    def _add_uncaptioned(self, parts: Iterable[list[_CaptionedImage]], issues: RowIssues) -> None:
        images = [image for part in parts for image in part]
        for image in images:
            if not image.captions:
                issues.add(image.name, "image without a caption")
        captioned = {image.path for image in images}
        for path in sorted(self._folder("train").iterdir()):
            if path.suffix.lower() in IMAGE_EXTENSIONS and path not in captioned:
                # A folder may hold more images than the captions are about.
                issues.add(path.name, "image without a caption", tolerated=True)


def _read_names(name: str, setting: str) -> set[str]:
    path = expand_home(name)
    check_exists(path, setting)
    return {line.strip() for line in read_lines(path) if line.strip()}
