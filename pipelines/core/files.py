"""Files and directories that are written whole or not at all, also through a power loss."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

KINDS = {
    stat.S_ISFIFO: "a pipe",
    stat.S_ISCHR: "a device",
    stat.S_ISBLK: "a device",
    stat.S_ISSOCK: "a socket",
    stat.S_ISDIR: "a folder",
}


def is_file(path: Path) -> bool:
    """Whether there is such a file; also of names that none can have, such as one with a NUL."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def is_within(path: Path, folder: Path) -> bool:
    """Whether the path, all links followed, is in the folder or below it.

    OSError or ValueError for a name that no file can have.
    """
    try:
        return path.resolve().is_relative_to(folder.resolve())
    except RuntimeError:  # a link to itself, before Python 3.13
        return False


def special_kind(path: Path) -> str | None:
    """What a path is that is no regular file: reading it could wait for ever, or never end.

    None for a regular file, and for what isn't there or can't be looked at.
    """
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return None
    return next((kind for test, kind in KINDS.items() if test(mode)), None)


@contextmanager
def naming(name: str | Path, *others: Path) -> Iterator[None]:
    """Errors of the system in the block name the file, which those of a full disk don't.

    others  paths by which an error may name it, such as that of a temporary file.
    """
    try:
        yield
    except OSError as error:
        if error.filename is None or error.filename in map(str, others):
            error.filename = str(name)
        raise


def sync(path: Path) -> None:
    """Makes changes of the file or directory survive a power loss."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # a file system that can't
            raise
    finally:
        os.close(descriptor)


ASIDE = ".old."
"""Prefix of a directory that another one is about to replace."""


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """A temporary path next to `path` that takes its place when the block ends well.

    It is on the disk by then, so that a power loss leaves the old file or the new one, not an empty
    one. An existing path that is no file, such as a pipe, is yielded itself.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if path.exists() and not path.is_file():
        with naming(path):
            yield path
        return
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        with naming(path, temporary):
            yield temporary
            sync(temporary)
            os.replace(temporary, path)
            sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def atomic_replace(new: Path, place: Path) -> None:
    """Moves the directory `new` to a place where an older one may be.

    The older one is set aside until then: whoever is killed in between leaves it to `Run.lock`,
    which puts it back.
    """
    for path in (*new.rglob("*"), new):
        sync(path)
    aside = place.with_name(f"{ASIDE}{place.name}")
    if place.exists():
        os.replace(place, aside)
    os.replace(new, place)
    sync(place.parent)
    shutil.rmtree(aside, ignore_errors=True)
