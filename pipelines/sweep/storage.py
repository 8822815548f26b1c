"""Where a study lies: a file beside its runs, or a database that several machines reach."""

from __future__ import annotations

import fcntl
import importlib
import os
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.core.errors import UserError

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

JOURNAL = "study.journal"

SECONDS_TO_MAKE_TABLES = 3.0


class FileLock:
    """Optuna's lock of a journal, which ends with its process, so that a killed one blocks nobody.

    What a killed process, or a full disk, left of a line is removed: Optuna can't read past it.
    """

    def __init__(self, journal: Path):
        self.journal = journal
        self._file: Any = None

    def acquire(self) -> bool:
        self._file = open(f"{self.journal}.lock", "w")  # noqa: SIM115 - closed by release
        fcntl.flock(self._file, fcntl.LOCK_EX)
        self._mend()
        return True

    def release(self) -> None:
        self._file.close()

    def _mend(self) -> None:
        with self.journal.open("r+b") as file:
            end = file.seek(0, os.SEEK_END)
            if not end:
                return
            file.seek(end - 1)
            if file.read(1) == b"\n":
                return
            file.seek(0)
            file.truncate(file.read().rfind(b"\n") + 1)


def open_storage(url: str | None, directory: Path) -> BaseStorage:
    """The database at `url` or, where that is None, the journal in the directory.

    UserError where it can't be reached or its driver isn't installed.
    """
    if url is None:
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        directory.mkdir(parents=True, exist_ok=True)
        journal = directory / JOURNAL
        journal.touch()
        lock = FileLock(journal)
        lock.acquire()  # mends the file before it is read
        lock.release()
        try:
            return JournalStorage(JournalFileBackend(str(journal), lock_obj=lock))  # type: ignore[arg-type]
        except (ValueError, KeyError) as error:
            raise UserError(
                f"{journal} is damaged ({error}): choose another sweep.name, or delete it"
            ) from None
    from optuna.storages import RDBStorage

    sqlalchemy = importlib.import_module("sqlalchemy.exc")

    def opened() -> BaseStorage:
        return RDBStorage(url, engine_kwargs={"pool_pre_ping": True})

    try:
        try:
            return opened()
        except (sqlalchemy.IntegrityError, sqlalchemy.OperationalError):
            # Of two that make the tables at the same moment, the second finds them later on.
            time.sleep(SECONDS_TO_MAKE_TABLES)
            return opened()
    except (sqlalchemy.SQLAlchemyError, ImportError, ValueError) as error:
        # The driver's own words, or which module isn't there, are in the cause.
        reason = (str(error.__cause__ or "") or str(error)).splitlines()[0].removesuffix(".")
        told = re.sub(r"(://[^:@/]*):[^@/]*@", r"\1:***@", f"sweep.storage={url}")
        raise UserError(f"{told} can't be used: {reason}") from None
