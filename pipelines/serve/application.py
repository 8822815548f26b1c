"""The HTTP interface: TensorFlow Serving's REST API, health, readiness and metrics.

Error responses are JSON too: {"error": reason}.
"""

from __future__ import annotations

import json
from typing import cast

from starlette.applications import Starlette
from starlette.convertors import StringConvertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from pipelines.serve.access import TokenAuthentication
from pipelines.serve.description import MODEL_PATHS, describe_api
from pipelines.serve.errors import InternalError, RequestError
from pipelines.serve.origins import OriginCheck
from pipelines.serve.page import is_page_path
from pipelines.serve.predict_request import Columns, PredictRequest
from pipelines.serve.predict_response import response_body
from pipelines.serve.request_handling import handle_predict, too_large
from pipelines.serve.served_models import ServedModels


class NameConvertor(StringConvertor):
    """A part of a path that ends before a colon, so that x:predict is no model."""

    regex = "[^/:]+"


NAME = "name"
register_url_convertor(NAME, NameConvertor())


def create_app(models: ServedModels, token: str | None, page: ASGIApp | None = None) -> Starlette:
    """The server's application. With a token, each request must carry it."""
    description = describe_api(models, with_token=token is not None)

    async def openapi(_: Request) -> Response:
        return _json_response(description)

    routes = [
        Route("/healthz", healthz),
        Route("/readyz", readyz),
        Route("/metrics", metrics),
        Route("/openapi.json", openapi),
    ]
    for described in MODEL_PATHS:
        path = described.replace("}", f":{NAME}}}")
        routes += [
            Route(path, status),
            Route(f"{path}/metadata", metadata),
            Route(f"{path}:predict", predict, methods=["POST"]),
        ]
    middleware = [Middleware(OriginCheck, settings=models.settings)]
    if token is not None:
        middleware.append(Middleware(TokenAuthentication, token=token))
    middleware.append(Middleware(HeadAsGet))
    if page is not None:
        middleware.append(Middleware(PageRouter, page=page))
    app = Starlette(
        routes=routes,
        middleware=middleware,
        exception_handlers={
            RequestError: _handle_request_error,
            HTTPException: _handle_http_exception,
            ClientDisconnect: _handle_disconnect,
            Exception: _handle_defect,
        },
    )
    app.router.redirect_slashes = False  # it would redirect to what Host says
    app.state.models = models
    return app


class HeadAsGet:
    """Middleware that handles HEAD like GET; uvicorn sends no body for it."""

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "HEAD":
            scope = {**scope, "method": "GET"}
        await self.app(scope, receive, send)


class PageRouter:
    """Middleware that sends requests for the page to the page, and all others to the API."""

    def __init__(self, app: ASGIApp, page: ASGIApp):
        self.app = app
        self.page = page

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        for_page = scope["type"] == "lifespan" or is_page_path(scope["path"])
        await (self.page if for_page else self.app)(scope, receive, send)


async def healthz(_: Request) -> Response:
    """Whether the server runs."""
    return _json_response({"status": "alive"})


async def readyz(request: Request) -> Response:
    """Whether the server accepts requests: 503 while a model is loaded, and before the end."""
    models: ServedModels = request.app.state.models
    if models.ready:
        return _json_response({"status": "ready"})
    reason = "the server is shutting down" if models.draining else "a model is being loaded"
    return _error_response(503, reason)


async def metrics(request: Request) -> Response:
    """Metrics for Prometheus."""
    text = request.app.state.models.metrics.exposition()
    return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")


async def status(request: Request) -> Response:
    """The loaded versions and their states."""
    name, version = _model_and_version(request)
    model = request.app.state.models[name]
    versions = [v for v in model.versions if version in (None, str(v.number))]
    if not versions:
        raise RequestError(404, f"{name} has no version {version or 'yet'}")
    no_error = {"error_code": "OK", "error_message": ""}
    states = [{"version": str(v.number), "state": v.state, "status": no_error} for v in versions]
    return _json_response({"model_version_status": states})


async def metadata(request: Request) -> Response:
    """The signatures: inputs and outputs by name, with types and shapes."""
    name, version = _model_and_version(request)
    served = request.app.state.models[name].version(version)
    spec = {"name": name, "signature_name": "", "version": str(served.number)}
    signatures = {"signature_def": {"signature_def": served.worker.signatures}}
    return _json_response({"model_spec": spec, "metadata": signatures})


async def predict(request: Request) -> Response:
    """The predictions for {"instances": [row, ...]} or for {"inputs": columns}."""
    name, version = _model_and_version(request)
    models: ServedModels = request.app.state.models

    def render(predict_request: PredictRequest, outputs: Columns) -> bytes:
        return response_body(outputs, by_row=predict_request.by_row)

    async def read_body() -> bytes:
        return await _read_body(request, models.settings.max_body)

    content = await handle_predict(models, name, version, read_body=read_body, render=render)
    return Response(content, media_type="application/json")


def _model_and_version(request: Request) -> tuple[str, str | None]:
    """As in the URL; no version for the current one."""
    return request.path_params["name"], request.path_params.get("version")


async def _read_body(request: Request, limit: int) -> bytes:
    """The request's body. Raises RequestError (413) as soon as it is known to be too large."""
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > limit:
        raise too_large(limit)
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > limit:
            raise too_large(limit)
    return bytes(content)


def _json_response(content: object, status: int = 200) -> Response:
    return Response(json.dumps(content, allow_nan=False), status, media_type="application/json")


def _error_response(status: int, reason: str) -> Response:
    return _json_response({"error": reason}, status)


async def _handle_request_error(_: Request, error: Exception) -> Response:
    failure = cast(RequestError, error)
    response = _error_response(failure.status, failure.reason)
    if failure.status == 503:
        response.headers["Retry-After"] = "1"
    return response


async def _handle_http_exception(request: Request, error: Exception) -> Response:
    failure = cast(HTTPException, error)
    reason = f"{request.method} {request.url.path}: {failure.detail}"
    response = _error_response(failure.status_code, reason)
    response.headers.update(failure.headers or {})  # such as Allow
    return response


async def _handle_disconnect(_: Request, error: Exception) -> Response:
    return _error_response(400, "the client has closed the connection")


async def _handle_defect(_: Request, error: Exception) -> Response:
    defect = InternalError()
    return _error_response(defect.status, defect.reason)
