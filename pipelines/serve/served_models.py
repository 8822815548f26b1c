"""Models by name: each serves its latest version, and changes to a new one between requests."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from pipelines.core.errors import UserError, shown
from pipelines.core.settings import ServeSettings
from pipelines.serve.batching import Batcher
from pipelines.serve.errors import RequestError
from pipelines.serve.metrics import Metrics
from pipelines.serve.predict_request import Columns, PredictRequest
from pipelines.serve.signatures import Signature, read_signatures
from pipelines.serve.versions import ModelVersion, latest_version
from pipelines.serve.worker_process import LoadError, WorkerProcess

log = logging.getLogger(__name__)

MAX_RELOAD_DELAY = 60.0
"""Most seconds between two attempts to load a version that fails to load."""


class ServedVersion:
    """One version of a model: a worker process and the queue before it.

    number  as in URLs; source: the SavedModel on the disk.
    """

    def __init__(
        self,
        name: str,
        number: int,
        source: ModelVersion,
        settings: ServeSettings,
        metrics: Metrics,
    ):
        self.number = number
        self.source = source
        self.state = "LOADING"
        self.open_requests = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self.worker = WorkerProcess(
            f"{name} version {number}",
            source.directory,
            timeout=settings.timeout,
            on_restart=metrics.restarts.labels(name).inc,
        )
        self._batcher = Batcher(
            self.worker.predict,
            batch_rows=settings.batch_rows,
            batch_timeout=settings.batch_timeout,
            observe=metrics.batch_rows.labels(name).observe,
        )

    async def load(self) -> None:
        """Starts the worker process. Raises LoadError."""
        await self.worker.start()
        self.state = "AVAILABLE"

    @functools.cached_property
    def signatures(self) -> Mapping[str, Signature]:
        return read_signatures(self.worker.signatures)

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Keeps the version from being unloaded inside the `with` block."""
        self.open_requests += 1
        self._idle.clear()
        try:
            yield
        finally:
            self.open_requests -= 1
            if not self.open_requests:
                self._idle.set()

    async def predict(self, request: PredictRequest) -> Columns:
        """The outputs by name. Raises RequestError."""
        return await self._batcher.predict(request)

    async def unload(self) -> None:
        """Ends the worker process once no request uses the version."""
        self.state = "UNLOADING"
        await self._idle.wait()
        await self.close()

    async def close(self) -> None:
        self.state = "END"
        await self._batcher.close()
        await self.worker.stop()


class ServedModel:
    """A model served under one name, from one path on the disk."""

    def __init__(self, name: str, path: Path, settings: ServeSettings, metrics: Metrics):
        self.name = name
        self.path = path
        self.current: ServedVersion | None = None
        self.versions: list[ServedVersion] = []
        self._settings = settings
        self._metrics = metrics
        self._unloading: set[asyncio.Task[None]] = set()

    @property
    def ready(self) -> bool:
        return self.current is not None and self.current.worker.alive

    def version(self, number: str | None) -> ServedVersion:
        """The version that a URL names; None for the current one. RequestError (404, 503)."""
        if self.current is None:
            raise RequestError(503, f"{self.name} is being loaded")
        if number not in (None, str(self.current.number)):
            raise RequestError(404, f"{self.name} has version {self.current.number}, not {number}")
        return self.current

    async def refresh(self) -> None:
        """Loads the latest version on the disk and serves it, if it isn't the current one.

        The current one serves until then, and goes on if the new one fails: LoadError.
        """
        source = latest_version(self.path)
        old = self.current
        if source is None or (old and source == old.source):
            return
        number = source.number or (old.number + 1 if old else 1)
        new = ServedVersion(self.name, number, source, self._settings, self._metrics)
        self.versions.append(new)
        try:
            await new.load()
        except BaseException:
            self.versions.remove(new)
            await new.close()
            raise
        self.current = new
        self._metrics.version.labels(self.name).set(number)
        log.info("%s: version %d is served from %s", self.name, number, source.directory)
        if old:
            task = asyncio.create_task(self._unload(old))
            self._unloading.add(task)
            task.add_done_callback(self._unloading.discard)

    async def _unload(self, version: ServedVersion) -> None:
        await version.unload()
        self.versions.remove(version)
        log.info("%s: version %d is unloaded", self.name, version.number)

    async def reload_forever(self) -> None:
        """Checks for new versions again and again; less often after one that can't be loaded."""
        delay = self._settings.reload_interval
        while True:
            await asyncio.sleep(delay)
            try:
                await self.refresh()
                delay = self._settings.reload_interval
            except LoadError as error:
                delay = min(2 * delay, MAX_RELOAD_DELAY)
                log.error("%s: the new version can't be loaded: %s", self.name, error)

    async def close(self) -> None:
        for task in self._unloading:
            task.cancel()
        for version in list(self.versions):
            await version.close()


class ServedModels:
    """All models of a server, by name."""

    def __init__(self, paths: Mapping[str, Path], settings: ServeSettings):
        self.metrics = Metrics()
        self.settings = settings
        self.draining = False
        self._models = {
            name: ServedModel(name, path, settings, self.metrics) for name, path in paths.items()
        }
        self._reloading: list[asyncio.Task[None]] = []

    def __getitem__(self, name: str) -> ServedModel:
        """Raises RequestError (404)."""
        if name not in self._models:
            raise RequestError(
                404, f"there is no model {shown(name)}; choices: {', '.join(self._models)}"
            )
        return self._models[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._models)

    @property
    def ready(self) -> bool:
        return not self.draining and all(model.ready for model in self._models.values())

    async def load(self) -> None:
        """Loads all models, and reloads each when it has a new version. Raises UserError."""
        for model in self._models.values():
            try:
                await model.refresh()
            except LoadError as error:
                raise UserError(
                    f"{model.path}: its SavedModel can't be loaded ({error}): make it again with "
                    f"mode=export run={model.path}"
                ) from None
            self._reloading.append(asyncio.create_task(model.reload_forever()))

    async def close(self) -> None:
        for task in self._reloading:
            task.cancel()
        await asyncio.gather(*self._reloading, return_exceptions=True)
        for model in self._models.values():
            await model.close()
