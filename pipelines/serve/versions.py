"""Versions of SavedModels on the disk, and the latest of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

GRAPH_FILE = "saved_model.pb"


@dataclass(frozen=True)
class ModelVersion:
    """A SavedModel on the disk.

    number       the version that the directory's name states; None for the only one of a run.
    fingerprint  differs once another SavedModel is at the same path.
    """

    directory: Path
    number: int | None
    fingerprint: tuple[int, int]


def latest_version(path: Path) -> ModelVersion | None:
    """The version to serve from a run, a SavedModel, or a directory of versions 1/, 2/ ...

    Of several versions it is the highest, as in TensorFlow Serving. None if there is none, as
    between the two renames that replace an old SavedModel by a new one.
    """
    candidates: list[tuple[int | None, Path]] = [(None, path / "saved_model"), (None, path)]
    try:
        names = [child.name for child in path.iterdir()]
    except OSError:
        return None
    numbers = {int(name) for name in names if name.isascii() and name.isdigit()}
    candidates += [(number, path / str(number)) for number in sorted(numbers, reverse=True)]
    for number, directory in candidates:
        try:
            status = (directory / GRAPH_FILE).stat()
        except OSError:
            continue
        return ModelVersion(directory, number, (status.st_ino, status.st_mtime_ns))
    return None
