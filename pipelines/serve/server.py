"""The HTTP server from its first log line to its last."""

from __future__ import annotations

import asyncio
import logging
import math
import socket
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import FrameType
from typing import cast

import uvicorn
import uvloop

from pipelines.core.errors import UserError
from pipelines.core.settings import ServeSettings
from pipelines.runs.logs import log_only_to_stderr
from pipelines.serve.application import create_app
from pipelines.serve.checks import model_paths, read_token
from pipelines.serve.connections import Connection, Connections
from pipelines.serve.page import create_page
from pipelines.serve.served_models import ServedModels

log = logging.getLogger(__name__)

BACKLOG = 2048
"""Connections that the operating system holds while the server starts."""


def serve(run: str, settings: ServeSettings) -> None:
    """Serves until SIGTERM or Ctrl-C, then responds to the requests it has. Raises UserError."""
    log_only_to_stderr()
    paths, token = model_paths(run, settings.name), read_token(settings)
    with (
        _listen(settings) as listener,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        runner.run(_serve(paths, token, settings, listener))
    log.info("The server has ended.")


async def _serve(
    paths: Mapping[str, Path], token: str | None, settings: ServeSettings, listener: socket.socket
) -> None:
    models = ServedModels(paths, settings)
    server = Server(models, token)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    loading = asyncio.create_task(_load_models(models, listener))
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


async def _load_models(models: ServedModels, listener: socket.socket) -> None:
    host, port = listener.getsockname()[:2]
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    log.info("Loading %s; %s/readyz says when it is done.", ", ".join(models), url)
    await models.load()
    for name in models:
        log.info("Serving %s at %s/v1/models/%s:predict", name, url, name)


class Server(uvicorn.Server):
    """Drains: /readyz says 503 for a while before the server accepts no more requests."""

    def __init__(self, models: ServedModels, token: str | None):
        self.models = models
        settings = models.settings
        self.waiting = Connections(settings)
        page = create_page(models) if settings.web else None
        super().__init__(
            uvicorn.Config(
                create_app(models, token, page),
                lifespan="on" if page else "off",  # the API has nothing to start or to stop
                log_config=None,
                log_level="error",  # warnings are of clients' mistakes, which could fill the disk
                http=cast(type[asyncio.Protocol], partial(Connection, self.waiting)),
                access_log=False,
                server_header=False,
                timeout_keep_alive=math.ceil(settings.idle_timeout),
                timeout_graceful_shutdown=math.ceil(settings.timeout),
            )
        )

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._closing = asyncio.create_task(self.waiting.close_late_ones())
        await super().startup(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal drains the server, the second ends it at once."""
        if self.models.draining:
            self.should_exit = self.force_exit = True
            return
        self.models.draining = True
        log.info("Shutting down once the requests in flight have their responses.")
        loop = asyncio.get_running_loop()
        # A signal handler may interrupt the loop anywhere, so it only asks the loop for a timer.
        loop.call_soon_threadsafe(loop.call_later, self.models.settings.drain_seconds, self._exit)

    def _exit(self) -> None:
        self.should_exit = True


def _listen(settings: ServeSettings) -> socket.socket:
    """The socket to listen on. Raises UserError."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((settings.host, settings.port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise UserError(
            f"serve: {settings.host}:{settings.port} must be free to listen on ({error.strerror}): "
            "choose another serve.port or serve.host"
        ) from None
    return listener
