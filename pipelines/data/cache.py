"""Directories that appear whole or not at all, made once by whichever process comes first."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipelines.core.errors import UserError
from pipelines.core.files import sync
from pipelines.core.types import JsonObject

log = logging.getLogger(__name__)

META = "meta.json"
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)


@contextmanager
def lock_directory(directory: Path) -> Iterator[None]:
    """Only one process at a time holds the directory's lock; others wait.

    The lock ends with the process.
    """
    with _writable(directory.parent):
        directory.parent.mkdir(parents=True, exist_ok=True)
        lock = open(f"{directory}.lock", "w")  # noqa: SIM115 - closed below, which unlocks
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.info("waiting for another process that prepares the same data")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def atomic_directory(directory: Path) -> Iterator[Path]:
    """Gives an empty directory to fill, which becomes `directory` when all went well.

    The caller holds the lock and has written META. UserError if there is no room or no permission;
    whatever goes wrong, nothing is left behind.
    """
    with _writable(directory.parent):
        _sweep(directory)
        temporary = directory.with_name(f"{directory.name}.tmp-{os.getpid()}")
        temporary.mkdir()
    try:
        with _writable(directory.parent, only=FULL):
            yield temporary
            for path in (*temporary.rglob("*"), temporary):
                sync(path)
            if directory.exists():
                shutil.rmtree(directory)
            os.rename(temporary, directory)
            sync(directory.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_meta(directory: Path, meta: JsonObject) -> None:
    """Writes META last: with the sizes of all other files, so that `read_meta` can check them.

    "content" is a digest of all that they hold: the same for the same data, whatever code made it.
    """
    paths = [path for path in sorted(directory.rglob("*")) if path.is_file()]
    files = {str(path.relative_to(directory)): path.stat().st_size for path in paths}
    content = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            content.update(hashlib.file_digest(file, "sha256").digest())
    meta = {**meta, "files": files, "content": content.hexdigest()[:20]}
    text = json.dumps(meta, ensure_ascii=False, indent=1)
    (directory / META).write_text(text, encoding="utf-8")


def read_meta(directory: Path) -> JsonObject | None:
    """The JSON that `write_meta` wrote; None if a file is missing or cut off."""
    if not directory.exists():
        return None
    try:
        meta = json.loads((directory / META).read_text(encoding="utf-8"))
        wrong = [f for f, size in meta["files"].items() if (directory / f).stat().st_size != size]
    except (OSError, ValueError, KeyError) as error:
        log.warning("the cache %s is damaged (%s); making it again", directory, error)
        return None
    if wrong:
        log.warning("the cache %s is damaged (%s); making it again", directory, ", ".join(wrong))
        return None
    return meta


@contextmanager
def _writable(directory: Path, only: tuple[int, ...] | None = None) -> Iterator[None]:
    """Turns an OSError (with a number among `only`) into a UserError about the directory."""
    try:
        yield
    except OSError as error:
        if only is not None and error.errno not in only:
            raise
        reason = error.strerror or str(error)
        raise UserError(
            f"can't write the cache {directory}: {reason}; free some space or choose another "
            "place with prepare.cache_dir"
        ) from error


def _sweep(directory: Path) -> None:
    """Removes what dead processes left: their locks are free, and `directory`'s is ours."""
    for path in directory.parent.glob("*.tmp-*"):
        owner = path.name.split(".tmp-")[0]
        if owner == directory.name or _is_free(path.with_name(f"{owner}.lock")):
            shutil.rmtree(path, ignore_errors=True)


def _is_free(lock: Path) -> bool:
    try:
        with open(lock, "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
