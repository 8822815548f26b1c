"""Serve: the HTTP server from its first log line to its last."""

from __future__ import annotations

import asyncio
import logging
import math
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from types import FrameType

import uvicorn
import uvloop

from pipelines.core.errors import UserError
from pipelines.core.settings import ServeSettings
from pipelines.serve.application import application
from pipelines.serve.checks import served_places, token_of
from pipelines.serve.page import page
from pipelines.serve.served_models import Models

log = logging.getLogger(__name__)


def serve(run: str, settings: ServeSettings) -> None:
    """Serves until SIGTERM or Ctrl-C, then answers what was asked before. Raises UserError."""
    _log_to_standard_error()
    places, token = served_places(run, settings.name), token_of(settings)
    with _bound(settings) as listener, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(places, token, settings, listener))
    log.info("The server has ended.")


async def _serve(
    places: Mapping[str, Path], token: str | None, settings: ServeSettings, listener: socket.socket
) -> None:
    models = Models(places, settings)
    server = Server(models, token)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    loading = asyncio.create_task(_loaded(models, listener))
    try:
        await asyncio.wait({serving, loading}, return_when=asyncio.FIRST_COMPLETED)
        if loading.done():
            loading.result()
        await serving
    finally:
        server.should_exit = True
        loading.cancel()
        await asyncio.wait({serving, loading})
        await models.close()


async def _loaded(models: Models, listener: socket.socket) -> None:
    host, port = listener.getsockname()[:2]
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    log.info("Loading %s; %s/readyz says when it is done.", ", ".join(models), url)
    await models.load()
    for name in models:
        log.info("Serving %s at %s/v1/models/%s:predict", name, url, name)


class Server(uvicorn.Server):
    """Tells that the end is near before it takes no more requests."""

    def __init__(self, models: Models, token: str | None):
        self.models = models
        settings = models.settings
        shown = page(models) if settings.web else None
        super().__init__(
            uvicorn.Config(
                application(models, token, shown),
                lifespan="on" if shown else "off",  # the API has nothing to begin or to end
                log_config=None,
                log_level="warning",
                access_log=False,
                server_header=False,
                timeout_keep_alive=75,  # longer than a client's pool keeps a connection
                timeout_graceful_shutdown=math.ceil(settings.timeout),
            )
        )

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal drains, the second ends at once."""
        if self.models.draining:
            self.should_exit = self.force_exit = True
            return
        self.models.draining = True
        log.info("Shutting down once the requests in flight are answered.")
        loop = asyncio.get_running_loop()
        loop.call_soon_threadsafe(loop.call_later, self.models.settings.drain_seconds, self._exit)

    def _exit(self) -> None:
        self.should_exit = True


def _bound(settings: ServeSettings) -> socket.socket:
    """The socket to listen on. Raises UserError."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((settings.host, settings.port))
        listener.listen(2048)  # who comes before the server has started waits for it
    except OSError as error:
        listener.close()
        raise UserError(
            f"serve: {settings.host}:{settings.port} must be free to listen on ({error.strerror}): "
            "choose another serve.port or serve.host"
        ) from None
    return listener


def _log_to_standard_error() -> None:
    """With the time of each line; a run's directory may not be ours to write to."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logging.getLogger().handlers[:] = [handler]
