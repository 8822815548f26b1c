"""A worker process kept alive: asked with messages, started again when it dies."""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
import signal
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np

from pipelines.core.paths import ROOT
from pipelines.serve.errors import RequestError
from pipelines.serve.worker import LENGTH, packed

log = logging.getLogger(__name__)

LONGEST_PAUSE = 60.0
"""Seconds between two attempts to start a worker that never answers."""


class LoadError(RuntimeError):
    """A worker can't load its SavedModel; the reason is one line."""


class Worker:
    """One SavedModel in one process. One question at a time."""

    def __init__(
        self, title: str, directory: Path, *, timeout: float, restarted: Callable[[], None]
    ):
        self.title = title
        self.directory = directory
        self.timeout = timeout
        self.signatures: dict[str, Any] = {}
        self._restarted = restarted
        self._alive = asyncio.Event()
        self._answered = False
        self._keeper: asyncio.Task[None] | None = None

    @property
    def alive(self) -> bool:
        """Whether the process can be asked."""
        return self._alive.is_set()

    async def start(self) -> None:
        """Starts the process and loads the SavedModel. Raises LoadError."""
        await self._spawn()
        self._keeper = asyncio.create_task(self._keep_alive())

    async def stop(self) -> None:
        if self._keeper:
            self._keeper.cancel()
            await asyncio.wait([self._keeper])
            await _end(self._process)

    async def ask(self, signature: str, columns: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The outputs by name. Raises RequestError: 400 for the values, 5xx for the process.

        A question whose process dies is asked once more: it may have been an accident. It isn't
        asked a third time, for it may be the question that kills.
        """
        for _ in range(2):
            await self._alive.wait()
            process = self._process
            try:
                async with asyncio.timeout(self.timeout):
                    kind, said = await _exchange(process, (signature, dict(columns)))
            except TimeoutError:
                log.error("%s: no answer in %g s: process %d is killed", *self._who(self.timeout))
                self._alive.clear()
                process.kill()
                raise RequestError(504, f"no answer within {self.timeout:g} s") from None
            except (asyncio.IncompleteReadError, ConnectionError):
                if process is self._process:
                    self._alive.clear()
                continue
            self._answered = True
            if kind == "answer":
                return said
            raise RequestError(400 if kind == "refused" else 500, said)
        raise RequestError(503, "the model's process died twice over this request")

    def _who(self, *between: Any) -> tuple[Any, ...]:
        return (self.title, *between, self._process.pid)

    async def _spawn(self) -> None:
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        command = [sys.executable, "-m", "pipelines.serve.worker"]
        try:
            self._process = await asyncio.create_subprocess_exec(
                *(*command, str(self.directory.absolute())),
                stdin=PIPE,
                stdout=PIPE,
                env={"TF_CPP_MIN_LOG_LEVEL": "3", **os.environ, "PYTHONPATH": path},
            )
        except OSError as error:  # such as too many processes
            raise LoadError(f"no process for it: {error.strerror}") from None
        try:
            kind, said = await _received(self._process)
        except asyncio.IncompleteReadError:
            raise LoadError(f"its process {_fate(await self._process.wait())}") from None
        except asyncio.CancelledError:
            await _end(self._process)
            raise
        if kind != "ready":
            raise LoadError(said)
        self.signatures = said
        self._answered = False
        self._alive.set()

    async def _keep_alive(self) -> None:
        pause = 0.0
        while True:
            fate = _fate(await self._process.wait())
            self._alive.clear()
            self._restarted()
            log.error("%s: worker process %d %s; starting another", *self._who(), fate)
            # One that answered had an accident; one that never did would do the same again.
            pause = 0.0 if self._answered else min(max(1.0, 2 * pause), LONGEST_PAUSE)
            start = time.monotonic()
            while not self._alive.is_set():
                await asyncio.sleep(pause)
                try:
                    await self._spawn()
                except LoadError as error:
                    pause = min(max(1.0, 2 * pause), LONGEST_PAUSE)
                    log.error("%s: %s; trying again in %g s", self.title, error, pause)
            seconds = time.monotonic() - start
            log.warning("%s: recovered after %.1f s: worker process %d", *self._who(seconds))


async def _exchange(process: Process, message: Any) -> tuple[str, Any]:
    stdin = cast(asyncio.StreamWriter, process.stdin)
    if stdin.is_closing():  # writing would be a defect, not a process that has died
        raise ConnectionError
    stdin.write(packed(message))
    await stdin.drain()
    return await _received(process)


async def _received(process: Process) -> tuple[str, Any]:
    """The next message. Raises asyncio.IncompleteReadError if the process ends before."""
    stdout = cast(asyncio.StreamReader, process.stdout)
    (length,) = LENGTH.unpack(await stdout.readexactly(LENGTH.size))
    return pickle.loads(await stdout.readexactly(length))


async def _end(process: Process) -> None:
    """Ends a process that has nothing to do; it holds nothing that must be written."""
    if process.returncode is None:
        process.kill()
    await process.wait()


def _fate(code: int) -> str:
    if code >= 0:
        return f"ended with code {code}"
    return f"was killed by {signal.Signals(-code).name}"
