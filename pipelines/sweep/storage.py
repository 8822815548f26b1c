"""The storage of a study: a journal file next to its runs, or a database for several machines."""

from __future__ import annotations

import fcntl
import importlib
import json
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from pydantic import FiniteFloat, NonNegativeInt

from pipelines.core.errors import UserError
from pipelines.core.saved_files import typed
from pipelines.core.secrets import check_no_password, hide_secret, read_secret

if TYPE_CHECKING:
    import optuna
    from optuna.storages import BaseStorage

JOURNAL = "study.journal"

TABLE_CREATION_SECONDS = 3.0
"""Seconds that another process may take to create the database's tables."""


class JournalLock:
    """A lock of Optuna's journal that the kernel releases when its process ends or is killed.

    Taking it also repairs the journal: a killed process or a full disk may leave half a line at the
    end, which Optuna can't read past.
    """

    def __init__(self, journal: Path):
        self.journal = journal
        self._file: IO[str] | None = None

    def acquire(self) -> bool:
        self._file = open(f"{self.journal}.lock", "w")  # noqa: SIM115 - closed by release
        fcntl.flock(self._file, fcntl.LOCK_EX)
        self._remove_half_line()
        return True

    def release(self) -> None:
        if self._file is not None:
            self._file.close()

    def _remove_half_line(self) -> None:
        with self.journal.open("r+b") as file:
            end = file.seek(0, os.SEEK_END)
            if not end:
                return
            file.seek(end - 1)
            if file.read(1) == b"\n":
                return
            file.seek(0)
            file.truncate(file.read().rfind(b"\n") + 1)


REMEDY = "choose another sweep.name, or delete it"


@dataclass(frozen=True)
class _TrialAttributes:
    """What the program stores of a trial; see trials.py and study.py."""

    overrides: list[str] | None = None
    directory: str | None = None
    host: str | None = None
    job: str | None = None
    left: str | None = None
    reason: str | None = None
    surplus: str | None = None
    jobs: NonNegativeInt = 0
    beat: FiniteFloat = 0.0
    seconds: FiniteFloat = 0.0
    point: dict[str, str | int | float] | None = None
    enqueued: dict[str, str | int | float] | None = None


@dataclass(frozen=True)
class _StudyAttributes:
    question: dict[str, Any] = field(default_factory=dict)
    replaced: list[NonNegativeInt] = field(default_factory=list)


def check_attributes(study: optuna.Study) -> None:
    """Raises ValueError for a stored value that this program can't have stored."""
    trials = study.get_trials(deepcopy=False)
    typed(_StudyAttributes, study.user_attrs)
    for trial in trials:
        typed(_TrialAttributes, trial.user_attrs)
    stored = [study.user_attrs, *({**trial.user_attrs, **trial.params} for trial in trials)]
    json.dumps(stored, ensure_ascii=False, default=str).encode()  # no half characters


def read_url(setting: str) -> str:
    """The database's URL: the setting itself, or what the variable or file that it names holds.

    Only such a name may lead to a password. UserError if there is neither.
    """
    remedy = "give the name of an environment variable or of a file that holds the URL"
    check_no_password("sweep.storage", setting, remedy)
    url = setting if "://" in setting else read_secret(setting)
    if url is None:
        raise UserError(
            "sweep.storage must be a URL such as postgresql://USER@HOST/DB, or name an environment "
            f"variable or a readable file that holds one; received {setting}"
        )
    return url


def open_storage(setting: str | None, directory: Path) -> BaseStorage:
    """The database of sweep.storage or, without it, the journal in the directory.

    Raises UserError if it can't be reached or its driver isn't installed, and for a damaged journal
    what `reading` takes for damage.
    """
    if setting is None:
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        directory.mkdir(parents=True, exist_ok=True)
        journal = directory / JOURNAL
        journal.touch()
        lock = JournalLock(journal)
        lock.acquire()  # repairs the file before it is read
        lock.release()
        return JournalStorage(JournalFileBackend(str(journal), lock_obj=lock))  # type: ignore[arg-type]
    from optuna.storages import RDBStorage

    url = read_url(setting)

    sqlalchemy = importlib.import_module("sqlalchemy.exc")

    def open_database() -> BaseStorage:
        return RDBStorage(url, engine_kwargs={"pool_pre_ping": True})

    try:
        try:
            return open_database()
        except (sqlalchemy.IntegrityError, sqlalchemy.OperationalError):
            # Another process creates the tables right now; the second attempt finds them.
            time.sleep(TABLE_CREATION_SECONDS)
            return open_database()
    except (sqlalchemy.SQLAlchemyError, ImportError, ValueError) as error:
        # The driver's message, or the missing module's name, is in the cause.
        reason = (str(error.__cause__ or "") or str(error)).splitlines()[0].removesuffix(".")
        shown = hide_secret(reason, url)
        raise UserError(f"sweep.storage={setting} can't be used: {shown}") from None
