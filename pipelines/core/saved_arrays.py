"""NumPy archives that were saved, read without unpacking more than can be meant."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

import numpy as np
from numpy.lib.npyio import NpzFile


class Arrays:
    """Arrays of a file by name; each is read, and its checksum verified, when it is asked for."""

    def __init__(self, file: NpzFile):
        self._file = file
        self.names = list(file.files)

    def __getitem__(self, name: str) -> np.ndarray:
        found: object = self._file[name]
        if not isinstance(found, np.ndarray):
            raise ValueError(f"{name} is no array")
        return found


@contextmanager
def open_arrays(file: IO[bytes], *, most: int) -> Iterator[Arrays]:
    """The arrays of an .npz file, which is open.

    most  bytes that all of them may have: some thousand may be packed to unpack to terabytes.

    Raises what `reading` takes for damage. Nothing that is pickled is read.
    """
    with zipfile.ZipFile(file) as archive:
        size = sum(member.file_size for member in archive.infolist())
    if size > most:
        raise ValueError(f"it would unpack to {size:,} bytes, more than {most:,}")
    file.seek(0)
    with np.load(file, allow_pickle=False) as arrays:
        yield Arrays(arrays)
