"""Which names a request may know the server by, and which pages may send it one.

A browser sends requests for any page that a person has open, also to servers that only that
person's machine can reach. Such a page is told by the header Origin. By DNS rebinding, where the
page's own name comes to stand for the server's address, it is told by the header Host.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from pipelines.core.settings import ServeSettings
from pipelines.serve.errors import RequestError


def is_loopback(host: str) -> bool:
    """Whether only this machine can connect to the address, or has it by the name."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class OriginCheck:
    """Middleware that refuses requests and WebSockets of foreign pages, before any token.

    A name in the header Host is checked where it matters: on a loopback address, where there need
    be no token; elsewhere where serve.origins says which names there are.
    """

    def __init__(self, app: ASGIApp, settings: ServeSettings):
        self.app = app
        self.loopback = is_loopback(settings.host)
        self.origins = {origin.lower() for origin in settings.origins}
        self.names = {"localhost", settings.host.lower()} | set(map(_name, self.origins))
        self.checks_host = self.loopback or bool(self.origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            try:
                self._check(scope["headers"])
            except RequestError as error:
                await JSONResponse({"error": error.reason}, error.status)(scope, receive, send)
                return
        await self.app(scope, receive, send)

    def _check(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Raises RequestError: 400, 403 or 421."""
        hosts = [value.decode("latin-1").lower() for key, value in headers if key == b"host"]
        origins = [value.decode("latin-1").lower() for key, value in headers if key == b"origin"]
        if len(hosts) > 1 or len(origins) > 1:
            raise RequestError(400, "a request must have one Host, and no more than one Origin")
        host = hosts[0] if hosts else ""  # clients of HTTP/1.0, which no browser is, send none
        if host and self.checks_host and not self._is_own(_name(f"http://{host}")):
            raise RequestError(
                421,
                f"Host must be a name of this server; received {host[:100]!r}: serve.origins has "
                "the addresses that it is known by",
            )
        for origin in origins:
            # A proxy that adds TLS hands the name on, but not the scheme.
            if origin not in {*self.origins, f"http://{host}", f"https://{host}"}:
                raise RequestError(
                    403,
                    f"Origin must be this server; received {origin[:100]!r}: serve.origins has the "
                    "pages that may send requests",
                )

    def _is_own(self, name: str) -> bool:
        """Whether it is a name of the server. DNS rebinding needs a name, so an address is safe."""
        if name in self.names:
            return True
        try:
            address = ip_address(name)
        except ValueError:
            return False
        return address.is_loopback or not self.loopback


def _name(origin: str) -> str:
    """The host's name or address in an origin, without the port; empty if there is none."""
    try:
        return urlsplit(origin).hostname or ""
    except ValueError:
        return ""
