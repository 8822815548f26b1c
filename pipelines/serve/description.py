"""The API in the form of OpenAPI 3.1: what /openapi.json says.

Written by hand, for the handlers read a request themselves: nothing could infer it from them. A
test asks a server for what it says, and compares.
"""

from __future__ import annotations

from collections.abc import Iterable

from pipelines.core.types import JsonObject
from pipelines.serve.access import PUBLIC_PATHS

REASONS = {
    400: "The request is invalid: no JSON, no such signature, inputs of another type or shape",
    401: "The token is missing or wrong",
    403: "The page that sends the request is not in serve.origins",
    404: "There is no such model, or not in this version",
    408: "The headers or the body took too long to arrive",
    413: "The body is too large",
    414: "The URL is too long",
    421: "Host is no name of this server",
    431: "There are too many headers, or they are too large",
    500: "A defect of the model or of the server, whose log has the details",
    503: "A model is being loaded, or the queue is full, or there are too many connections",
    504: "The prediction took too long",
}
"""Error responses by their status."""

OF_ALL = (400, 403, 408, 414, 421, 431, 503)
"""Errors that any request can end with, whatever it asks for."""

ERROR = {"type": "object", "properties": {"error": {"type": "string"}}, "required": ["error"]}
VERSION_STATUS = {
    "type": "object",
    "properties": {
        "version": {"type": "string"},
        "state": {"enum": ["LOADING", "AVAILABLE", "UNLOADING", "END"]},
        "status": {"type": "object"},
    },
    "required": ["version", "state", "status"],
}
STATUS = {
    "type": "object",
    "properties": {"model_version_status": {"type": "array", "items": VERSION_STATUS}},
    "required": ["model_version_status"],
}
METADATA = {
    "type": "object",
    "properties": {"model_spec": {"type": "object"}, "metadata": {"type": "object"}},
    "required": ["model_spec", "metadata"],
}
TEXT = {"text/plain": {"schema": {"type": "string"}}}
ROWS_OR_COLUMNS = [{"required": ["instances"]}, {"required": ["inputs"]}]
REQUEST = {
    "type": "object",
    "properties": {
        "signature_name": {"type": ["string", "null"]},
        "instances": {"type": "array", "minItems": 1, "description": "rows"},
        "inputs": {"description": "columns by name, or those of the only input"},
    },
    "oneOf": ROWS_OR_COLUMNS,
}
RESPONSE = {
    "type": "object",
    "properties": {"predictions": {}, "outputs": {}},
    "oneOf": [{"required": ["predictions"]}, {"required": ["outputs"]}],
    "description": "predictions for instances, outputs for inputs; null for no finite number",
}
MODEL_PATHS = ("/v1/models/{name}", "/v1/models/{name}/versions/{version}")


def describe_api(names: Iterable[str], *, with_token: bool) -> JsonObject:
    """The description of a server of these models."""
    parameters = {
        "name": _parameter("name", {"enum": list(names)}),
        "version": _parameter("version", {"type": "string", "pattern": "^[0-9]+$"}),
    }
    statuses = (*OF_ALL, 401) if with_token else OF_ALL

    def operation(title: str, content: JsonObject, *errors: int, **more: object) -> JsonObject:
        responses = {
            str(status): {"$ref": f"#/components/responses/{status}"}
            for status in sorted({*statuses, *errors})
        }
        return {
            "summary": title,
            "responses": {"200": {"description": title, "content": content}, **responses},
            **more,
        }

    paths: JsonObject = {
        "/healthz": {"get": operation("Whether the server runs", _json({"type": "object"}))},
        "/readyz": {"get": operation("Whether all models are loaded", _json({"type": "object"}))},
        "/metrics": {"get": operation("Metrics for Prometheus", TEXT)},
        "/openapi.json": {"get": operation("This description", _json({"type": "object"}))},
    }
    for path in MODEL_PATHS:
        which = {"parameters": [parameters[name] for name in parameters if f"{{{name}}}" in path]}
        status = operation("The loaded versions and their states", _json(STATUS), 404)
        metadata = operation("The signatures: inputs and outputs", _json(METADATA), 404)
        body = {"required": True, "content": _json(REQUEST)}
        errors = (404, 413, 500, 504)
        predict = operation("Predictions", _json(RESPONSE), *errors, requestBody=body)
        paths[path] = {**which, "get": status}
        paths[f"{path}/metadata"] = {**which, "get": metadata}
        paths[f"{path}:predict"] = {**which, "post": predict}
    components: JsonObject = {
        "responses": {
            str(status): {"description": reason, "content": _json(ERROR)}
            for status, reason in REASONS.items()
        }
    }
    description: JsonObject = {
        "openapi": "3.1.0",
        "info": {"title": "recurrent models", "version": "1"},
        "paths": paths,
        "components": components,
    }
    if with_token:
        components["securitySchemes"] = {
            "bearer": {"type": "http", "scheme": "bearer"},
            "basic": {"type": "http", "scheme": "basic", "description": "the token as password"},
        }
        description["security"] = [{"bearer": []}, {"basic": []}]
        for path in PUBLIC_PATHS:
            paths[path]["get"]["security"] = []
    return description


def _parameter(name: str, schema: JsonObject) -> JsonObject:
    return {"name": name, "in": "path", "required": True, "schema": schema}


def _json(schema: JsonObject) -> JsonObject:
    return {"application/json": {"schema": schema}}
