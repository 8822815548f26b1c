"""Connections with limits that hold before any request is complete, and so before any token.

uvicorn has none: whoever connects and sends nothing, or headers without end, would hold a
connection, memory and time for ever.
"""

from __future__ import annotations

import asyncio
import json
import resource
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from pipelines.core.settings import ServeSettings

MAX_HEADER_COUNT = 100
MAX_URL = 8192
"""Most headers of a request, and most bytes of its URL: as in nginx and Apache."""

MAX_PIPELINED = 32
"""Most requests that a client may send on a connection before it has their responses."""

SPARE_FILES = 128
"""File descriptors kept for what is no connection: workers' pipes, SavedModels, libraries."""

SWEEP_SECONDS = 0.5
"""Seconds between two looks for connections that have waited too long."""


class Connections:
    """The connections that wait for their client, and until when.

    A connection waits while its client has to send a request's headers or body, or to read a
    response. When there are too many connections, the one that has waited longest is closed: so
    clients that send nothing, or slowly, shut nobody out.
    """

    def __init__(self, settings: ServeSettings):
        self.settings = settings
        self.limit = min(settings.max_connections, _most_files())
        self._deadlines: dict[Connection, float] = {}  # in the order in which waiting began

    def wait(self, connection: Connection, seconds: float) -> None:
        """Notes that from now on the connection waits for its client, so long at the most."""
        self.stop_waiting(connection)
        self._deadlines[connection] = asyncio.get_running_loop().time() + seconds

    def stop_waiting(self, connection: Connection) -> None:
        self._deadlines.pop(connection, None)

    def evict(self) -> bool:
        """Closes the connection that has waited longest; false if none waits."""
        if not self._deadlines:
            return False
        oldest = next(iter(self._deadlines))
        self.stop_waiting(oldest)
        oldest.transport.abort()
        return True

    async def close_late_ones(self) -> None:
        """Closes connections that wait too long, until it is cancelled."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            now = asyncio.get_running_loop().time()
            for connection in [c for c, deadline in self._deadlines.items() if deadline < now]:
                self.stop_waiting(connection)
                connection.close_late()


def _most_files() -> int:
    """Connections that the limit of open files (ulimit -n) leaves room for."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1 << 20 if limit == resource.RLIM_INFINITY else max(limit - SPARE_FILES, limit // 2)


class RefusedError(Exception):
    """A request that is refused while it is parsed."""


class Connection(HttpToolsProtocol):
    """uvicorn's connection with limits of headers, of time, and of the number of connections."""

    def __init__(self, waiting: Connections, **options: Any):
        super().__init__(**options)
        self.waiting = waiting
        self.settings = waiting.settings
        self._reads_head = True
        self._unparsed = 0
        self._unsent = 0
        self._refusal = HTTPStatus.BAD_REQUEST, "this is no valid HTTP/1.1 request"

    @property
    def _responds(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _wait(self, seconds: float) -> None:
        self._unsent = self.transport.get_write_buffer_size()
        self.waiting.wait(self, seconds)

    # Events of the transport

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.waiting.limit and not self.waiting.evict():
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, "too many connections: try again later")
            return
        self._wait(self.settings.header_timeout)

    def connection_lost(self, exc: Exception | None) -> None:
        self.waiting.stop_waiting(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parses the data in parts, each no longer than what headers may still have."""
        limit, start = self.settings.max_headers, 0
        while start < len(data) and not self.transport.is_closing():
            part = data[start : start + limit - self._unparsed]
            start += len(part)
            self._unparsed += len(part)
            super().data_received(part)
            if self.transport.get_protocol() is not self:  # a WebSocket's from here on
                return
            # Neither a body nor the end of headers. It may be headers, the trailers of a chunked
            # body, or empty lines: the parser would collect or skip them without end.
            if self._unparsed >= limit:
                reason = f"the URL and headers must have no more than {limit:,} bytes"
                self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, reason)

    def pause_writing(self) -> None:
        """A client that doesn't read its responses is waited for, too."""
        super().pause_writing()
        self._wait(self.settings.idle_timeout)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._responds and not self.cycle.more_body:
            self.waiting.stop_waiting(self)

    def close_late(self) -> None:
        """Closes the connection, whose client has taken too long."""
        unsent = self.transport.get_write_buffer_size()
        if 0 < unsent < self._unsent:  # a large response, of which it has read a part
            self._wait(self.settings.idle_timeout)
        elif self._reads_head and self._unparsed and not unsent:
            seconds = self.settings.header_timeout
            self._refuse(
                HTTPStatus.REQUEST_TIMEOUT, f"the request's headers took longer than {seconds:g} s"
            )
        else:
            self.transport.abort()  # close() would wait until the client has read everything

    # Events of the parser

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._reads_head = True
        if len(self.pipeline) >= MAX_PIPELINED:
            raise RefusedError
        if not self._responds:
            self._wait(self.settings.header_timeout)

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        if len(self.url) > MAX_URL:
            reason = f"the URL must have no more than {MAX_URL:,} bytes"
            self._refusal = HTTPStatus.REQUEST_URI_TOO_LONG, reason
            raise RefusedError

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        if len(self.headers) > MAX_HEADER_COUNT:
            reason = f"a request must have no more than {MAX_HEADER_COUNT} headers"
            self._refusal = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, reason
            raise RefusedError

    def on_headers_complete(self) -> None:
        self._reads_head, self._unparsed = False, 0
        super().on_headers_complete()
        # The API responds to a late body itself, with 408; the page's libraries have no limit.
        self._wait(self.settings.timeout + 2 * SWEEP_SECONDS)

    def on_body(self, body: bytes) -> None:
        self._unparsed = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._unparsed = 0
        super().on_message_complete()
        if self._responds:
            self.waiting.stop_waiting(self)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self._responds:
            self._wait(self.settings.idle_timeout)

    def handle_websocket_upgrade(self) -> None:
        self.waiting.stop_waiting(self)
        super().handle_websocket_upgrade()

    # Responses without a request

    def send_400_response(self, msg: str) -> None:
        """Uvicorn calls it for what the parser can't read, or we have refused."""
        self._refuse(*self._refusal)

    def _refuse(self, status: HTTPStatus, reason: str) -> None:
        """Closes the connection, with a response if none is due to an earlier request."""
        if not self._responds and not self.transport.is_closing():
            body = json.dumps({"error": reason})
            self.transport.write(
                f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: application/json\r\n"
                f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}".encode()
            )
        self.transport.close()
