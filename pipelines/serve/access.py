"""Who is let in: with a token, each request and each WebSocket must bring it."""

from __future__ import annotations

import base64
import binascii
import hmac

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

OPEN_TO_ALL = ("/healthz", "/readyz")
"""Paths for probes, which have no token."""


class TokenRequired:
    """Lets only those in who have the header `Authorization: Bearer TOKEN`, or the token as the
    password of HTTP Basic authentication, which is what a browser can send.
    """

    def __init__(self, app: ASGIApp, token: str):
        self.app = app
        self.token = token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        asked = scope["type"] in ("http", "websocket") and scope["path"] not in OPEN_TO_ALL
        given = dict(scope.get("headers", ())).get(b"authorization", b"")
        if asked and not hmac.compare_digest(_secret(given), self.token):
            await _refuse(scope, receive, send)
        else:
            await self.app(scope, receive, send)


def _secret(header: bytes) -> bytes:
    """The token, if it is one, that an Authorization header brings."""
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


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1008})  # before it is accepted: HTTP's 403
        return
    reason = "the header must be Authorization: Bearer TOKEN"
    # Only who opens the page is a person, whom a browser can ask.
    challenge = 'Basic realm="any name, and the token as password"'
    headers = {"WWW-Authenticate": challenge if scope["path"] == "/" else "Bearer"}
    await JSONResponse({"error": reason}, 401, headers)(scope, receive, send)
