"""A worker process that is kept alive: it is sent messages, and started again when it dies."""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
import signal
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from pipelines.core.paths import python_path
from pipelines.serve.errors import RequestError
from pipelines.serve.predict_request import Columns
from pipelines.serve.worker import MESSAGE_LENGTH, pack_message

log = logging.getLogger(__name__)

COMMAND = (sys.executable, "-P", "-m", "pipelines.serve.worker")
"""Before a SavedModel's directory. -P: no file of the working directory, where a stranger's model
may lie, is code."""

MAX_RESTART_DELAY = 60.0
"""Most seconds between two attempts to start a worker that never responds."""


class LoadError(RuntimeError):
    """A worker can't load its SavedModel; the reason is one line."""


class WorkerProcess:
    """One SavedModel in one process, which handles one request at a time.

    title       what the log calls it.
    timeout     seconds after which a prediction is aborted, by killing the process.
    on_restart  called each time the process has died.
    """

    def __init__(
        self, title: str, directory: Path, *, timeout: float, on_restart: Callable[[], None]
    ):
        self.title = title
        self.directory = directory
        self.timeout = timeout
        self.signatures: dict[str, Any] = {}
        self._on_restart = on_restart
        self._alive = asyncio.Event()
        self._has_responded = False
        self._supervisor: asyncio.Task[None] | None = None

    @property
    def alive(self) -> bool:
        """Whether the process accepts requests."""
        return self._alive.is_set()

    async def start(self) -> None:
        """Starts the process and loads the SavedModel. Raises LoadError."""
        await self._spawn()
        self._supervisor = asyncio.create_task(self._supervise())

    async def stop(self) -> None:
        if self._supervisor:
            self._supervisor.cancel()
            await asyncio.wait([self._supervisor])
            await _kill(self._process)

    async def predict(self, signature: str, columns: Columns) -> Columns:
        """The outputs by name. Raises RequestError: 400 for the values, 5xx for the process.

        A request whose process dies is sent once more, as its death may have been an accident. It
        isn't sent a third time, because the request itself may be what kills the process.
        """
        for _ in range(2):
            await self._alive.wait()
            process = self._process
            try:
                async with asyncio.timeout(self.timeout):
                    kind, content = await _exchange(process, (signature, dict(columns)))
            except TimeoutError:
                log.error("%s: no outputs in %g s: process %d is killed", *self._who(self.timeout))
                self._alive.clear()
                process.kill()
                raise RequestError(504, f"no prediction within {self.timeout:g} s") from None
            except (asyncio.IncompleteReadError, ConnectionError):
                if process is self._process:
                    self._alive.clear()
                continue
            self._has_responded = True
            if kind == "outputs":
                return content
            raise RequestError(400 if kind == "invalid" else 500, content)
        raise RequestError(503, "the model's process died twice over this request")

    def _who(self, *between: object) -> tuple[object, ...]:
        return (self.title, *between, self._process.pid)

    async def _spawn(self) -> None:
        try:
            self._process = await asyncio.create_subprocess_exec(
                *(*COMMAND, str(self.directory.absolute())),
                stdin=PIPE,
                stdout=PIPE,
                env={"TF_CPP_MIN_LOG_LEVEL": "3", **os.environ, "PYTHONPATH": python_path()},
            )
        except OSError as error:  # such as too many processes
            raise LoadError(f"no process can be started: {error.strerror}") from None
        try:
            kind, content = await _receive(self._process)
        except asyncio.IncompleteReadError:
            raise LoadError(f"its process {_describe(await self._process.wait())}") from None
        except asyncio.CancelledError:
            await _kill(self._process)
            raise
        if kind != "ready":
            raise LoadError(content)
        self.signatures = content
        self._has_responded = False
        self._alive.set()

    async def _supervise(self) -> None:
        """Starts another process each time the current one dies."""
        delay = 0.0
        while True:
            exit_status = _describe(await self._process.wait())
            self._alive.clear()
            self._on_restart()
            log.error("%s: worker process %d %s; starting another", *self._who(), exit_status)
            # One that has responded had an accident. One that never did would die again at once.
            delay = 0.0 if self._has_responded else min(max(1.0, 2 * delay), MAX_RESTART_DELAY)
            start = time.monotonic()
            while not self._alive.is_set():
                await asyncio.sleep(delay)
                try:
                    await self._spawn()
                except LoadError as error:
                    delay = min(max(1.0, 2 * delay), MAX_RESTART_DELAY)
                    log.error("%s: %s; trying again in %g s", self.title, error, delay)
            seconds = time.monotonic() - start
            log.warning("%s: recovered after %.1f s: worker process %d", *self._who(seconds))


async def _exchange(process: Process, message: object) -> tuple[str, Any]:
    stdin = cast(asyncio.StreamWriter, process.stdin)
    if stdin.is_closing():  # writing would raise an error that looks like a defect
        raise ConnectionError
    stdin.write(pack_message(message))
    await stdin.drain()
    return await _receive(process)


async def _receive(process: Process) -> tuple[str, Any]:
    """The next message. Raises asyncio.IncompleteReadError if the process ends before it."""
    stdout = cast(asyncio.StreamReader, process.stdout)
    (length,) = MESSAGE_LENGTH.unpack(await stdout.readexactly(MESSAGE_LENGTH.size))
    return pickle.loads(await stdout.readexactly(length))


async def _kill(process: Process) -> None:
    """Ends a process without a request; it holds nothing that must be written."""
    if process.returncode is None:
        process.kill()
    await process.wait()


def _describe(exit_code: int) -> str:
    if exit_code >= 0:
        return f"ended with code {exit_code}"
    return f"was killed by {signal.Signals(-exit_code).name}"
