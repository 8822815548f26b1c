"""Locks of directories, which the kernel releases when their process ends."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path


def try_lock(directory: Path, *, timeout: float = 0.0) -> int | None:
    """Locks the directory; None if another process holds the lock for longer than `timeout`.

    Returns a file descriptor: closing it, or the end of the process, releases the lock.
    """
    directory.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(directory, os.O_RDONLY)
    deadline = time.monotonic() + timeout
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return descriptor
        except BlockingIOError:
            if time.monotonic() >= deadline:
                os.close(descriptor)
                return None
            time.sleep(0.05)


def is_locked(directory: Path) -> bool:
    """Whether a process of this machine holds the directory's lock."""
    lock = try_lock(directory)
    if lock is not None:
        os.close(lock)
    return lock is None
