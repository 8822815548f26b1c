"""Authentication: with a token, each request and each WebSocket must carry it."""

from __future__ import annotations

import base64
import binascii
import hmac

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

PUBLIC_PATHS = ("/healthz", "/readyz")
"""Paths for probes, which have no token."""


class TokenAuthentication:
    """Middleware that accepts requests with the header `Authorization: Bearer TOKEN`.

    HTTP Basic authentication with the token as password is accepted too: a browser can send it.
    """

    def __init__(self, app: ASGIApp, token: str):
        self.app = app
        self.token = token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        protected = scope["type"] in ("http", "websocket") and scope["path"] not in PUBLIC_PATHS
        header = dict(scope.get("headers", ())).get(b"authorization", b"")
        # compare_digest takes the same time for all wrong tokens, so none can be guessed by time.
        if protected and not hmac.compare_digest(_read_token(header), self.token):
            await _reject(scope, receive, send)
        else:
            await self.app(scope, receive, send)


def _read_token(header: bytes) -> bytes:
    """The token in an Authorization header; empty if there is none."""
    scheme, _, value = header.partition(b" ")
    if scheme.lower() == b"bearer":
        return value
    if scheme.lower() != b"basic":
        return b""
    try:
        _, _, password = base64.b64decode(value, validate=True).partition(b":")
    except (binascii.Error, ValueError):
        return b""
    return password


async def _reject(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await receive()
        # Closing before accepting makes the server respond with HTTP's 403.
        await send({"type": "websocket.close", "code": 1008})
        return
    reason = "the header must be Authorization: Bearer TOKEN"
    # Only a request for the page comes from a person, whom the browser can ask for the token.
    challenge = 'Basic realm="any name, and the token as password"'
    headers = {"WWW-Authenticate": challenge if scope["path"] == "/" else "Bearer"}
    await JSONResponse({"error": reason}, 401, headers)(scope, receive, send)
