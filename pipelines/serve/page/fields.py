"""What a person is asked for, by what a signature's inputs are called."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pipelines.serve.errors import RequestError
from pipelines.serve.image_size import FORMATS, pixels
from pipelines.serve.signatures import Signature, Tensor

EXPLAIN = "explain"
"""The signature that gives all that a person wants to see; not each SavedModel has it."""


@dataclass(frozen=True)
class Field:
    """One input. kind: text that is typed, a picture's file, or values that are typed as JSON."""

    name: str
    kind: Literal["text", "picture", "values"]
    rows: bool


def signature_for(signatures: Mapping[str, Signature]) -> Signature:
    """The one that the page asks. Raises RequestError."""
    for name in (EXPLAIN, "serving_default"):
        if name in signatures:
            return signatures[name]
    raise RequestError(404, f"there is no {EXPLAIN} nor serving_default to ask")


def fields_of(signature: Signature) -> list[Field]:
    return [Field(name, _kind(name, one), one.rows) for name, one in signature.inputs.items()]


def kinds(signature: Signature) -> list[str]:
    """Two models with the same can be asked the same."""
    return [field.kind for field in fields_of(signature)]


def _kind(name: str, tensor: Tensor) -> Literal["text", "picture", "values"]:
    if tensor.dtype != "DT_STRING" or tensor.shape != (None,):
        return "values"
    return "picture" if name.endswith(("image", "_bytes")) else "text"


def body(signature: Signature, values: Sequence[str | bytes | None]) -> bytes:
    """The request that asks for one row, as the API has it. Raises RequestError (400).

    values  in the order of `fields_of`.
    """
    inputs = {}
    for field, value in zip(fields_of(signature), values, strict=True):
        one = _given(field, value)
        inputs[field.name] = [one] if field.rows else one
    return json.dumps({"signature_name": signature.name, "inputs": inputs}).encode()


def _given(field: Field, value: str | bytes | None) -> Any:
    if field.kind == "picture":
        return _picture(value)
    text = value if isinstance(value, str) else ""
    if not text.strip():
        raise RequestError(400, "There is nothing to answer yet: type something first.")
    if field.kind == "text":
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RequestError(400, f"{field.name} must be JSON, such as [1, 2]: {error}") from None


def _picture(content: str | bytes | None) -> dict[str, str]:
    if not isinstance(content, bytes):
        raise RequestError(400, "There is nothing to answer yet: choose a picture first.")
    if not pixels(content):
        known = ", ".join(FORMATS[:-1])
        raise RequestError(
            400,
            f"This file is no picture that can be read, whatever it is called: {known} and "
            f"{FORMATS[-1]} can.",
        )
    return {"b64": base64.b64encode(content).decode()}
