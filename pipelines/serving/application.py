"""The HTTP interface: TensorFlow Serving's REST API, health, readiness and metrics.

Every answer that isn't a prediction is JSON too: {"error": reason}.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import time
from collections.abc import Callable
from typing import Any, TypeVar

from fastapi import APIRouter, FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from pipelines.serving.errors import RequestError
from pipelines.serving.models import Models, Version
from pipelines.serving.signatures import answer_json, parse

T = TypeVar("T")

LARGE = 50_000
"""Bytes from which JSON is read and written beside the event loop, so that others can go on."""

OPEN_TO_ALL = ("/healthz", "/readyz")
"""Paths for probes, which have no token."""

router = APIRouter()


def application(models: Models, token: str | None) -> FastAPI:
    """The server's application. With a token, each request must bring it."""
    # Their pages load scripts from elsewhere; /openapi.json has all that they show.
    app = FastAPI(title="recurrent models", docs_url=None, redoc_url=None)
    app.state.models = models
    app.include_router(router)
    app.add_exception_handler(RequestError, _failed)
    app.add_exception_handler(HTTPException, _not_found)
    app.add_exception_handler(ClientDisconnect, _gone)
    app.add_exception_handler(Exception, _defect)
    if token is not None:
        app.add_middleware(TokenRequired, token=token)
    return app


class TokenRequired:
    """Lets only requests through that have the header `Authorization: Bearer TOKEN`."""

    def __init__(self, app: ASGIApp, token: str):
        self.app = app
        self.expected = f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in OPEN_TO_ALL:
            given = dict(scope["headers"]).get(b"authorization", b"")
            if not hmac.compare_digest(given, self.expected):
                response = _error(401, "the header must be Authorization: Bearer TOKEN")
                response.headers["WWW-Authenticate"] = "Bearer"
                await response(scope, receive, send)
                return
        await self.app(scope, receive, send)


@router.get("/healthz")
async def healthz() -> Response:
    """Whether the server runs."""
    return _json({"status": "alive"})


@router.get("/readyz")
async def readyz(request: Request) -> Response:
    """Whether requests are welcome: 503 while a model is being loaded, and before the end."""
    models: Models = request.app.state.models
    if models.ready:
        return _json({"status": "ready"})
    why = "the server is shutting down" if models.draining else "a model is being loaded"
    return _error(503, why)


@router.get("/metrics")
async def metrics(request: Request) -> Response:
    """Counts for Prometheus."""
    text = request.app.state.models.metrics.text()
    return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")


@router.get("/v1/models/{name}")
@router.get("/v1/models/{name}/versions/{version}")
async def status(request: Request, name: str, version: str | None = None) -> Response:
    """The versions that are there, and whether they answer."""
    model = request.app.state.models[name]
    known = [v for v in model.versions if version in (None, str(v.number))]
    if not known:
        raise RequestError(404, f"{name} has no version {version or 'yet'}")
    fine = {"error_code": "OK", "error_message": ""}
    listed = [{"version": str(v.number), "state": v.state, "status": fine} for v in known]
    return _json({"model_version_status": listed})


@router.get("/v1/models/{name}/metadata")
@router.get("/v1/models/{name}/versions/{version}/metadata")
async def metadata(request: Request, name: str, version: str | None = None) -> Response:
    """The signatures: inputs and outputs by name, with types and shapes."""
    chosen = request.app.state.models[name].version(version)
    spec = {"name": name, "signature_name": "", "version": str(chosen.number)}
    signatures = {"signature_def": {"signature_def": chosen.worker.signatures}}
    return _json({"model_spec": spec, "metadata": signatures})


BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "signature_name": {"type": "string"},
                        "instances": {"type": "array", "minItems": 1},
                        "inputs": {},
                    },
                }
            }
        },
    }
}


@router.post("/v1/models/{name}:predict", openapi_extra=BODY)
@router.post("/v1/models/{name}/versions/{version}:predict", openapi_extra=BODY)
async def predict(request: Request, name: str, version: str | None = None) -> Response:
    """The answers to {"instances": [row, ...]} or to {"inputs": columns}."""
    models: Models = request.app.state.models
    chosen = models[name].version(version)
    counts, start, code = models.metrics, time.perf_counter(), 500
    counts.open.labels(name).inc()
    try:
        with chosen.in_use():
            response = await _predicted(request, chosen, models)
            code = response.status_code
            return response
    except RequestError as failure:
        code = failure.status
        raise
    finally:
        counts.open.labels(name).dec()
        counts.requests.labels(name, code).inc()
        counts.seconds.labels(name).observe(time.perf_counter() - start)


async def _predicted(request: Request, version: Version, models: Models) -> Response:
    settings = models.settings
    if version.open_requests > settings.max_waiting:
        raise RequestError(503, f"{settings.max_waiting} requests are waiting already: come again")
    try:
        late = "the request's body"
        async with asyncio.timeout(settings.timeout):
            body = await _body(request, settings.max_body)
            late = "the answer"
            limits = {"max_rows": settings.max_rows, "max_pixels": settings.max_pixels}
            question = await _aside(len(body), lambda: parse(body, version.signatures, **limits))
            outputs = await version.answer(question)
        size = sum(values.nbytes for values in outputs.values())
        content = await _aside(size, lambda: answer_json(outputs, by_row=question.by_row))
        return Response(content, media_type="application/json")
    except TimeoutError:
        code = 408 if late == "the request's body" else 504
        raise RequestError(code, f"{late} took longer than {settings.timeout:g} s") from None


async def _body(request: Request, limit: int) -> bytes:
    """The request's body. Raises RequestError (413) as soon as it is known to be too large."""
    too_large = RequestError(413, f"the body must have no more than {limit:,} bytes")
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > limit:
        raise too_large
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > limit:
            raise too_large
    return bytes(content)


async def _aside(size: int, work: Callable[[], T]) -> T:
    """Done here, or in a thread if it is large."""
    return work() if size < LARGE else await asyncio.to_thread(work)


def _json(content: Any, status: int = 200) -> Response:
    return Response(json.dumps(content), status, media_type="application/json")


def _error(status: int, reason: str) -> Response:
    return _json({"error": reason}, status)


async def _failed(_: Request, failure: Any) -> Response:
    response = _error(failure.status, failure.reason)
    if failure.status == 503:
        response.headers["Retry-After"] = "1"
    return response


async def _not_found(request: Request, error: Any) -> Response:
    path = request.url.path
    return _error(error.status_code, f"{request.method} {path}: {error.detail}")


async def _gone(_: Request, error: Any) -> Response:
    return _error(400, "the client went away")


async def _defect(_: Request, error: Any) -> Response:
    return _error(500, "a defect of the server: its log has the details")
