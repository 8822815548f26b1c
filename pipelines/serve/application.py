"""The HTTP interface: TensorFlow Serving's REST API, health, readiness and metrics.

Every answer that isn't a prediction is JSON too: {"error": reason}.
"""

from __future__ import annotations

import json
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from pipelines.serve.access import TokenRequired
from pipelines.serve.batching import Columns
from pipelines.serve.errors import RequestError
from pipelines.serve.page import is_of_page
from pipelines.serve.request_handling import answered, too_large
from pipelines.serve.served_models import Models
from pipelines.serve.signatures import Question, answer_json

REASON = {"type": "object", "properties": {"error": {"type": "string"}}, "required": ["error"]}
REFUSALS: dict[int | str, dict[str, Any]] = {
    code: {"description": why, "content": {"application/json": {"schema": REASON}}}
    for code, why in {
        400: "The body is at fault: no JSON, no such signature, inputs of another type or shape",
        404: "There is no such model, or not in this version",
        408: "The body took too long to come",
        413: "The body is too large",
        503: "The model is being loaded, or too many requests are waiting: come again",
        504: "The answer took too long",
    }.items()
}

UNKNOWN: dict[int | str, dict[str, Any]] = {404: REFUSALS[404], 503: REFUSALS[503]}

router = APIRouter()


def application(models: Models, token: str | None, page: ASGIApp | None = None) -> FastAPI:
    """The server's application. With a token, each request must bring it."""
    # Their pages load scripts from elsewhere; /openapi.json has all that they show.
    app = FastAPI(title="recurrent models", docs_url=None, redoc_url=None)
    app.state.models = models
    app.include_router(router)
    app.add_exception_handler(RequestError, _failed)
    app.add_exception_handler(HTTPException, _not_found)
    app.add_exception_handler(ClientDisconnect, _gone)
    app.add_exception_handler(Exception, _defect)
    if page is not None:
        app.add_middleware(WithPage, page=page)
    if token is not None:
        app.add_middleware(TokenRequired, token=token)
    return app


class WithPage:
    """What is asked of the page goes to the page, the rest to the API."""

    def __init__(self, app: ASGIApp, page: ASGIApp):
        self.app = app
        self.page = page

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        of_page = scope["type"] == "lifespan" or is_of_page(scope["path"])
        await (self.page if of_page else self.app)(scope, receive, send)


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


@router.get("/v1/models/{name}", responses=UNKNOWN)
@router.get("/v1/models/{name}/versions/{version}", responses=UNKNOWN)
async def status(request: Request, name: str, version: str | None = None) -> Response:
    """The versions that are there, and whether they answer."""
    model = request.app.state.models[name]
    known = [v for v in model.versions if version in (None, str(v.number))]
    if not known:
        raise RequestError(404, f"{name} has no version {version or 'yet'}")
    fine = {"error_code": "OK", "error_message": ""}
    listed = [{"version": str(v.number), "state": v.state, "status": fine} for v in known]
    return _json({"model_version_status": listed})


@router.get("/v1/models/{name}/metadata", responses=UNKNOWN)
@router.get("/v1/models/{name}/versions/{version}/metadata", responses=UNKNOWN)
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


@router.post("/v1/models/{name}:predict", openapi_extra=BODY, responses=REFUSALS)
@router.post("/v1/models/{name}/versions/{version}:predict", openapi_extra=BODY, responses=REFUSALS)
async def predict(request: Request, name: str, version: str | None = None) -> Response:
    """The answers to {"instances": [row, ...]} or to {"inputs": columns}."""
    models: Models = request.app.state.models

    def write(question: Question, outputs: Columns) -> bytes:
        return answer_json(outputs, by_row=question.by_row)

    async def body() -> bytes:
        return await _body(request, models.settings.max_body)

    content = await answered(models, name, version, body=body, write=write)
    return Response(content, media_type="application/json")


async def _body(request: Request, limit: int) -> bytes:
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
