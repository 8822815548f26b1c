"""Emoji: images and their official names, from two ordinary Python packages."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Literal

from models.settings import settings
from pipelines.core.contracts import FileBytes, Provenance, RowIssues
from pipelines.core.errors import UserError, shown, suggest
from pipelines.core.types import Example, JsonObject
from pipelines.data.sources._image_files import CaptionedImages
from pipelines.data.sources._packaged import Sha256, find_packaged_file, find_packaged_folder

HELD_OUT_SHARES = {"test": 0.12, "validation": 0.08}
"""Shares of the images that `split=composition` holds out."""

_TONE = "[\U0001f3fb-\U0001f3ff]"
_HAIR = "\u200d[\U0001f9b0-\U0001f9b3]"
_SIGN = "\u200d[\u2640\u2642\u27a1]"
_VARIATION = re.compile(f"{_TONE}|{_HAIR}|{_SIGN}|\ufe0f")
_NEUTRAL = {
    "\U0001f468": "\U0001f9d1",  # man: person
    "\U0001f469": "\U0001f9d1",  # woman
    "\U0001f466": "\U0001f9d2",  # boy: child
    "\U0001f467": "\U0001f9d2",  # girl
}

_WORDS = re.compile("[\u3040-\u30ff\u3400-\u9fff]|[^\\W\u3040-\u30ff\u3400-\u9fff]+")
"""Words; in Chinese and Japanese, which have no spaces, single characters."""


@settings
class ImagePackage:
    """A folder of images in a package; see `find_packaged_folder`."""

    package: str
    version: str
    folder: str
    sha256: Sha256


@settings
class NamePackage:
    """A folder with a JSON file of names for each language, and their SHA-256 by language."""

    package: str
    version: str
    folder: str
    sha256: dict[str, Sha256]


@settings
class Emoji(CaptionedImages):
    """Images with one caption: the name that Unicode gave the emoji, in one of 14 languages.

    split  composition: training shows each held-out emoji in other variations (of skin tone,
           gender, hair, direction), and each word of its caption, but never the whole caption.
           image: any image may be held out; we divide.
    """

    format: Literal["emoji"]
    name: str
    language: str
    split: Literal["composition", "image"]
    images: ImagePackage
    names: NamePackage
    licence: str
    citation: str

    def check(self) -> None:
        self._folder()
        self._names_file()

    def parts(self) -> tuple[str, ...]:
        return ("train", "validation", "test") if self.split == "composition" else ("all",)

    def read(self, part: str, issues: RowIssues) -> Iterator[Example]:
        folder = self._folder()
        sequences, captions = _read_names(self._names_file(), folder)
        division = split_by_composition(sequences, captions) if self.split == "composition" else {}
        for file, caption in captions.items():
            if part in ("all", division.get(file)):
                content = FileBytes((folder / file).read_bytes(), file)
                yield {"image": content, "captions": caption}

    def fingerprint(self) -> str:
        names = self._names_sha256()
        how = [self.images.sha256, names, self.language, self.split]
        return hashlib.sha256(json.dumps(how).encode()).hexdigest()

    def provenance(self) -> Provenance:
        origin = (
            f"images of the package {self.images.package} {self.images.version}, names "
            f"({self.language}) of the package {self.names.package} {self.names.version}, from the "
            f"Python index; held out by {self.split}"
        )
        return Provenance(self.name, origin, self.licence, self.citation)

    def _names_sha256(self) -> str:
        """The SHA-256 of its names."""
        known = self.names.sha256
        if self.language not in known:
            hint = suggest(self.language, known)
            raise UserError(f"data.language: there are no names in {shown(self.language)}; {hint}")
        return known[self.language]

    def _names_file(self) -> Path:
        sha256, names = self._names_sha256(), self.names
        stem = "emoji" if self.language == "en" else f"emoji_{self.language}"
        path = f"{names.folder}/{stem}.json"
        return find_packaged_file(self.name, names.package, names.version, path, sha256)

    def _folder(self) -> Path:
        it = self.images
        return find_packaged_folder(self.name, it.package, it.version, it.folder, it.sha256)


@cache
def _read_names(names: Path, folder: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Emoji (as characters) and captions of the images that have a name, by sorted file name."""
    entries: JsonObject = json.loads(names.read_bytes())
    there = {path.name for path in folder.iterdir()}
    sequences, captions = {}, {}
    for emoji, entry in entries.items():
        name = entry["en"] if isinstance(entry, dict) else entry
        file = file_name(emoji)
        if file in there and file not in captions:
            sequences[file], captions[file] = emoji, name.strip(":").replace("_", " ")
    order = sorted(captions)
    return {file: sequences[file] for file in order}, {file: captions[file] for file in order}


def file_name(emoji: str) -> str:
    """The name of Twemoji's image: without U+FE0F, but in sequences joined by U+200D."""
    sequence = emoji if "\u200d" in emoji else emoji.replace("\ufe0f", "")
    return "-".join(f"{ord(character):x}" for character in sequence) + ".png"


def base_emoji(emoji: str) -> str:
    """The emoji without its variation of skin tone, gender, hair and direction."""
    return "".join(_NEUTRAL.get(character, character) for character in _VARIATION.sub("", emoji))


def split_words(caption: str) -> set[str]:
    return set(_WORDS.findall(caption.casefold()))


def split_by_composition(sequences: dict[str, str], captions: dict[str, str]) -> dict[str, str]:
    """The part of each file. A hash of its name decides which is held out, as if at random.

    Of each held-out emoji the training part keeps another image of the same base, and each word.
    """
    bases = {file: base_emoji(emoji) for file, emoji in sequences.items()}
    elements = {file: {bases[file], *split_words(captions[file])} for file in captions}
    remaining = Counter(element for group in elements.values() for element in group)
    family = Counter(bases.values())
    candidates = iter(_shuffle(file for file in captions if family[bases[file]] > 1))
    parts = dict.fromkeys(captions, "train")
    for part, share in HELD_OUT_SHARES.items():
        count = round(share * len(captions))
        while count and (file := next(candidates, None)):
            if all(remaining[element] > 1 for element in elements[file]):
                remaining.subtract(elements[file])
                parts[file] = part
                count -= 1
    return parts


def _shuffle(files: Iterable[str]) -> list[str]:
    return sorted(files, key=lambda file: hashlib.blake2b(file.encode()).digest())
