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
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import cast

from pipelines.core.errors import UserError
from pipelines.core.files import sync
from pipelines.core.saved_files import DamagedError, check_regular, read_json, reading
from pipelines.core.types import JsonObject

log = logging.getLogger(__name__)

META = "meta.json"
AGAIN = "making it again"
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
    """Writes META last: with sizes and digests of all other files, which `read_meta` checks.

    "content" is a digest of all that they hold: the same for the same data, whatever code made it.
    """
    paths = [path for path in sorted(directory.rglob("*")) if path.is_file()]
    digests = _digests(paths)
    files = {
        str(path.relative_to(directory)): {"size": path.stat().st_size, "sha256": digest}
        for path, digest in zip(paths, digests, strict=True)
    }
    content = hashlib.sha256(b"".join(map(bytes.fromhex, digests))).hexdigest()[:20]
    meta = {**meta, "files": files, "content": content}
    text = json.dumps({**meta, "sha256": _digest_of(meta)}, ensure_ascii=False, indent=1)
    (directory / META).write_text(text, encoding="utf-8")


def read_meta(directory: Path) -> JsonObject | None:
    """The JSON that `write_meta` wrote; None if a file is missing, cut off or changed.

    All files are read, about a gigabyte a second on each core: what is learnt from or measured is
    what was prepared.
    """
    if not directory.exists():
        return None
    try:
        with reading(directory, AGAIN):
            meta = read_json(directory / META, AGAIN)
            if meta.pop("sha256") != _digest_of(meta):
                raise ValueError(f"{META} has changed")
            files = {directory / name: facts for name, facts in meta["files"].items()}
            for path in files:
                check_regular(path)
            wrong = [path for path, facts in files.items() if path.stat().st_size != facts["size"]]
            if not wrong:
                pairs = zip(files, _digests(list(files)), strict=True)
                wrong = [path for path, digest in pairs if digest != files[path]["sha256"]]
            if wrong:
                raise ValueError(", ".join(str(path.relative_to(directory)) for path in wrong))
    except OSError as error:
        log.warning("the cache %s is damaged (%s): %s", directory, error, AGAIN)
        return None
    except DamagedError as error:
        log.warning("the cache %s", error)
        return None
    return cast(JsonObject, meta)


def _digest_of(meta: JsonObject) -> str:
    return hashlib.sha256(json.dumps(meta, sort_keys=True).encode()).hexdigest()


def _digests(paths: list[Path]) -> list[str]:
    """SHA-256 of each file. hashlib lets go of Python's lock, so that files share the cores."""

    def digest(path: Path) -> str:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(digest, paths))


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
