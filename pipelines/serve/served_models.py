"""Models by name: each serves its newest version, and goes over to a newer one between requests."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipelines.core.errors import UserError
from pipelines.core.settings import ServeSettings
from pipelines.serve.batching import Batcher, Columns
from pipelines.serve.errors import RequestError
from pipelines.serve.metrics import Metrics
from pipelines.serve.signatures import Question, Signature, read_signatures
from pipelines.serve.versions import Found, newest
from pipelines.serve.worker_process import LoadError, Worker

log = logging.getLogger(__name__)


class Version:
    """One version of a model: a worker process and the queue before it."""

    def __init__(
        self, name: str, number: int, found: Found, settings: ServeSettings, metrics: Metrics
    ):
        self.number = number
        self.found = found
        self.state = "LOADING"
        self.open_requests = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self.worker = Worker(
            f"{name} version {number}",
            found.directory,
            timeout=settings.timeout,
            restarted=metrics.restarts.labels(name).inc,
        )
        self._batcher = Batcher(
            self.worker.ask,
            batch_rows=settings.batch_rows,
            batch_timeout=settings.batch_timeout,
            observe=metrics.batch_rows.labels(name).observe,
        )

    async def load(self) -> None:
        """Raises LoadError."""
        await self.worker.start()
        self.state = "AVAILABLE"

    @functools.cached_property
    def signatures(self) -> Mapping[str, Signature]:
        return read_signatures(self.worker.signatures)

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """The version isn't unloaded while it is entered."""
        self.open_requests += 1
        self._idle.clear()
        try:
            yield
        finally:
            self.open_requests -= 1
            if not self.open_requests:
                self._idle.set()

    async def answer(self, question: Question) -> Columns:
        """The outputs by name. Raises RequestError."""
        return await self._batcher.answer(
            question.signature.name,
            question.columns,
            rows=question.rows,
            together=question.signature.together,
        )

    async def unload(self) -> None:
        """Once nothing is in use any more."""
        self.state = "UNLOADING"
        await self._idle.wait()
        await self.close()

    async def close(self) -> None:
        self.state = "END"
        await self._batcher.close()
        await self.worker.stop()


class Model:
    """What is served under one name, from one place on the disk."""

    def __init__(self, name: str, place: Path, settings: ServeSettings, metrics: Metrics):
        self.name = name
        self.place = place
        self.current: Version | None = None
        self.versions: list[Version] = []
        self._settings = settings
        self._metrics = metrics
        self._unloading: set[asyncio.Task[None]] = set()

    @property
    def ready(self) -> bool:
        return self.current is not None and self.current.worker.alive

    def version(self, number: str | None) -> Version:
        """The one to answer with; `number` as the URL has it. Raises RequestError (404, 503)."""
        if self.current is None:
            raise RequestError(503, f"{self.name} is being loaded")
        if number not in (None, str(self.current.number)):
            raise RequestError(404, f"{self.name} has version {self.current.number}, not {number}")
        return self.current

    async def refresh(self) -> None:
        """Goes over to what is newest on the disk, if that isn't what is served.

        Raises LoadError; then all stays as it is.
        """
        found = newest(self.place)
        old = self.current
        if found is None or (old and found == old.found):
            return
        number = found.number or (old.number + 1 if old else 1)
        new = Version(self.name, number, found, self._settings, self._metrics)
        self.versions.append(new)
        try:
            await new.load()
        except BaseException:
            self.versions.remove(new)
            await new.close()
            raise
        self.current = new
        self._metrics.version.labels(self.name).set(number)
        log.info("%s: version %d is served from %s", self.name, number, found.directory)
        if old:
            task = asyncio.create_task(self._unload(old))
            self._unloading.add(task)
            task.add_done_callback(self._unloading.discard)

    async def _unload(self, version: Version) -> None:
        await version.unload()
        self.versions.remove(version)
        log.info("%s: version %d is unloaded", self.name, version.number)

    async def watch(self) -> None:
        """Looks for a newer version again and again; later after one that can't be loaded."""
        pause = self._settings.reload_interval
        while True:
            await asyncio.sleep(pause)
            try:
                await self.refresh()
                pause = self._settings.reload_interval
            except LoadError as error:
                pause = min(2 * pause, 60.0)
                log.error("%s: the new version can't be loaded: %s", self.name, error)

    async def close(self) -> None:
        for task in self._unloading:
            task.cancel()
        for version in list(self.versions):
            await version.close()


class Models:
    """All that a server serves."""

    def __init__(self, places: Mapping[str, Path], settings: ServeSettings):
        self.metrics = Metrics()
        self.settings = settings
        self.draining = False
        self._models = {
            name: Model(name, place, settings, self.metrics) for name, place in places.items()
        }
        self._watching: list[asyncio.Task[Any]] = []

    def __getitem__(self, name: str) -> Model:
        """Raises RequestError (404)."""
        if name not in self._models:
            raise RequestError(
                404, f"there is no model {name!r}; there is {', '.join(self._models)}"
            )
        return self._models[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._models)

    @property
    def ready(self) -> bool:
        return not self.draining and all(model.ready for model in self._models.values())

    async def load(self) -> None:
        """Loads all, and watches from then on for newer ones. Raises UserError."""
        for model in self._models.values():
            try:
                await model.refresh()
            except LoadError as error:
                raise UserError(
                    f"{model.place}: its SavedModel can't be loaded ({error}): make it again with "
                    f"mode=export run={model.place}"
                ) from None
            self._watching.append(asyncio.create_task(model.watch()))

    async def close(self) -> None:
        for task in self._watching:
            task.cancel()
        await asyncio.gather(*self._watching, return_exceptions=True)
        for model in self._models.values():
            await model.close()
