"""Where SavedModels lie, and what of them is new."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

GRAPH = "saved_model.pb"


@dataclass(frozen=True)
class Found:
    """A SavedModel on the disk.

    number  the version that its directory's name says, or None where a run has one only.
    stamp   differs when another one lies at the same place.
    """

    directory: Path
    number: int | None
    stamp: tuple[int, int]


def newest(place: Path) -> Found | None:
    """The SavedModel to serve from a run, a SavedModel, or a directory of versions 1/, 2/ ...

    Of versions it is the highest, as with TensorFlow Serving. None while there is none, as between
    the two renames that put a new one in an old one's place.
    """
    numbered: list[tuple[int | None, Path]] = [(None, place / "saved_model"), (None, place)]
    try:
        children = [path for path in place.iterdir() if path.name.isascii()]
        numbers = [int(path.name) for path in children if path.name.isdigit()]
        numbered += [(number, place / str(number)) for number in sorted(numbers, reverse=True)]
    except OSError:
        return None
    for number, directory in numbered:
        try:
            status = (directory / GRAPH).stat()
        except OSError:
            continue
        return Found(directory, number, (status.st_ino, status.st_mtime_ns))
    return None
