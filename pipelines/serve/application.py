"""The HTTP interface: TensorFlow Serving's REST API, health, readiness and metrics.

Error responses are JSON too: {"error": reason}.
"""

from __future__ import annotations

import json
from typing import cast

from fastapi import APIRouter, FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from pipelines.serve.access import TokenAuthentication
from pipelines.serve.errors import InternalError, RequestError
from pipelines.serve.page import is_page_path
from pipelines.serve.predict_request import Columns, PredictRequest
from pipelines.serve.predict_response import response_body
from pipelines.serve.request_handling import handle_predict, too_large
from pipelines.serve.served_models import ServedModels

ERROR_SCHEMA = {
    "type": "object",
    "properties": {"error": {"type": "string"}},
    "required": ["error"],
}
ERROR_RESPONSES: dict[int | str, dict[str, object]] = {
    status: {"description": reason, "content": {"application/json": {"schema": ERROR_SCHEMA}}}
    for status, reason in {
        400: "The body is invalid: no JSON, no such signature, inputs of another type or shape",
        404: "There is no such model, or not in this version",
        408: "The body took too long to arrive",
        413: "The body is too large",
        503: "The model is being loaded, or the queue is full: try again later",
        504: "The prediction took too long",
    }.items()
}

UNKNOWN_MODEL: dict[int | str, dict[str, object]] = {
    status: ERROR_RESPONSES[status] for status in (404, 503)
}

router = APIRouter()


def create_app(models: ServedModels, token: str | None, page: ASGIApp | None = None) -> FastAPI:
    """The server's application. With a token, each request must carry it."""
    # FastAPI's documentation pages load scripts from other hosts; /openapi.json has all they show.
    app = FastAPI(title="recurrent models", docs_url=None, redoc_url=None)
    app.state.models = models
    app.include_router(router)
    app.add_exception_handler(RequestError, _handle_request_error)
    app.add_exception_handler(HTTPException, _handle_http_exception)
    app.add_exception_handler(ClientDisconnect, _handle_disconnect)
    app.add_exception_handler(Exception, _handle_defect)
    if page is not None:
        app.add_middleware(PageRouter, page=page)
    if token is not None:
        app.add_middleware(TokenAuthentication, token=token)
    return app


class PageRouter:
    """Middleware that sends requests for the page to the page, and all others to the API."""

    def __init__(self, app: ASGIApp, page: ASGIApp):
        self.app = app
        self.page = page

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        for_page = scope["type"] == "lifespan" or is_page_path(scope["path"])
        await (self.page if for_page else self.app)(scope, receive, send)


@router.get("/healthz")
async def healthz() -> Response:
    """Whether the server runs."""
    return _json_response({"status": "alive"})


@router.get("/readyz")
async def readyz(request: Request) -> Response:
    """Whether the server accepts requests: 503 while a model is loaded, and before the end."""
    models: ServedModels = request.app.state.models
    if models.ready:
        return _json_response({"status": "ready"})
    reason = "the server is shutting down" if models.draining else "a model is being loaded"
    return _error_response(503, reason)


@router.get("/metrics")
async def metrics(request: Request) -> Response:
    """Metrics for Prometheus."""
    text = request.app.state.models.metrics.exposition()
    return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")


@router.get("/v1/models/{name}", responses=UNKNOWN_MODEL)
@router.get("/v1/models/{name}/versions/{version}", responses=UNKNOWN_MODEL)
async def status(request: Request, name: str, version: str | None = None) -> Response:
    """The loaded versions and their states."""
    model = request.app.state.models[name]
    versions = [v for v in model.versions if version in (None, str(v.number))]
    if not versions:
        raise RequestError(404, f"{name} has no version {version or 'yet'}")
    no_error = {"error_code": "OK", "error_message": ""}
    states = [{"version": str(v.number), "state": v.state, "status": no_error} for v in versions]
    return _json_response({"model_version_status": states})


@router.get("/v1/models/{name}/metadata", responses=UNKNOWN_MODEL)
@router.get("/v1/models/{name}/versions/{version}/metadata", responses=UNKNOWN_MODEL)
async def metadata(request: Request, name: str, version: str | None = None) -> Response:
    """The signatures: inputs and outputs by name, with types and shapes."""
    served = request.app.state.models[name].version(version)
    spec = {"name": name, "signature_name": "", "version": str(served.number)}
    signatures = {"signature_def": {"signature_def": served.worker.signatures}}
    return _json_response({"model_spec": spec, "metadata": signatures})


PREDICT_BODY = {
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


@router.post("/v1/models/{name}:predict", openapi_extra=PREDICT_BODY, responses=ERROR_RESPONSES)
@router.post(
    "/v1/models/{name}/versions/{version}:predict",
    openapi_extra=PREDICT_BODY,
    responses=ERROR_RESPONSES,
)
async def predict(request: Request, name: str, version: str | None = None) -> Response:
    """The predictions for {"instances": [row, ...]} or for {"inputs": columns}."""
    models: ServedModels = request.app.state.models

    def render(predict_request: PredictRequest, outputs: Columns) -> bytes:
        return response_body(outputs, by_row=predict_request.by_row)

    async def read_body() -> bytes:
        return await _read_body(request, models.settings.max_body)

    content = await handle_predict(models, name, version, read_body=read_body, render=render)
    return Response(content, media_type="application/json")


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
    return Response(json.dumps(content), status, media_type="application/json")


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
    return _error_response(failure.status_code, reason)


async def _handle_disconnect(_: Request, error: Exception) -> Response:
    return _error_response(400, "the client has closed the connection")


async def _handle_defect(_: Request, error: Exception) -> Response:
    defect = InternalError()
    return _error_response(defect.status, defect.reason)
