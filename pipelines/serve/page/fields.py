"""The form's fields, by a signature's inputs; and from what was entered to a request's body.

A field's kind follows from the input's type and axes (after the rows):

    text       string                        a text area
    file       string, named as file bytes   an upload
    number     a number                      a number field
    words      strings (T)                   words between spaces, or JSON
    numbers    numbers (T)                   numbers between commas or spaces, or JSON
    series     numbers (T, D)                CSV, a line for each step, or JSON
    json       anything else                 JSON
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pipelines.serve.errors import RequestError
from pipelines.serve.image_limits import IMAGE_FORMATS, count_pixels
from pipelines.serve.signatures import Signature, TensorInfo

EXPLAIN = "explain"
"""The signature with all that a person wants to see; not each SavedModel has it."""

IMAGE_NAME = re.compile(r"(.*_)?image(_bytes)?")
FILE_NAME = re.compile(r"(.*_)?(image|audio|video)|.*_bytes")
"""Names of inputs that are a file's bytes: to a signature these are strings like any text. The
ending _bytes is TensorFlow Serving's convention."""

SEPARATOR = re.compile(r"\s*[,;\t]\s*|\s+")

Kind = Literal["text", "file", "number", "words", "numbers", "series", "json"]
Entry = str | bytes | None
"""The value that a person entered into a field: text, a file's bytes, or nothing yet."""


@dataclass(frozen=True)
class InputField:
    """The field of one input.

    has_batch_axis  whether the input has rows, of which the form gives one.
    width           numbers in a step of a series; None for any.
    is_image        whether a file must be an image.
    """

    name: str
    kind: Kind
    has_batch_axis: bool = True
    width: int | None = None
    is_image: bool = False

    @property
    def label(self) -> str:
        step = "" if self.width is None else f" of {self.width} numbers"
        how = {
            "words": ": words between spaces, or a JSON list",
            "numbers": ": numbers between commas or spaces, or a JSON list",
            "series": f": CSV, a line{step} for each step, or JSON",
            "json": ", as JSON",
        }
        return self.name + how.get(self.kind, "")


def page_signature(signatures: Mapping[str, Signature]) -> Signature:
    """The signature that the page uses. Raises RequestError."""
    for name in (EXPLAIN, "serving_default"):
        if name in signatures:
            return signatures[name]
    raise RequestError(404, f"the model has no signature {EXPLAIN} or serving_default")


def input_fields(signature: Signature) -> list[InputField]:
    return [
        InputField(
            name,
            _kind(name, tensor),
            tensor.has_batch_axis,
            (tensor.shape or (None,))[-1],
            bool(IMAGE_NAME.fullmatch(name)),
        )
        for name, tensor in signature.required.items()
    ]


def field_kinds(signature: Signature) -> list[str]:
    """The kinds of all fields. Two models with equal kinds can be compared on the same entries."""
    return [field.kind for field in input_fields(signature)]


def _kind(name: str, tensor: TensorInfo) -> Kind:
    if tensor.shape is None or not tensor.has_batch_axis or tensor.dtype == "DT_BOOL":
        return "json"
    axes = len(tensor.shape) - 1
    if tensor.dtype == "DT_STRING":
        if axes == 0:
            return "file" if FILE_NAME.fullmatch(name) else "text"
        return "words" if axes == 1 else "json"
    return {0: "number", 1: "numbers", 2: "series"}.get(axes, "json")  # type: ignore[return-value]


def request_body(signature: Signature, entries: Sequence[Entry]) -> bytes:
    """The body of the API's request for one row. Raises RequestError (400).

    entries  in the order of `input_fields`.
    """
    inputs = {}
    for field, entry in zip(input_fields(signature), entries, strict=True):
        value = _read_file(field, entry) if field.kind == "file" else _read_text(field, entry)
        inputs[field.name] = [value] if field.has_batch_axis else value
    return json.dumps({"signature_name": signature.name, "inputs": inputs}).encode()


def _read_file(field: InputField, entry: Entry) -> dict[str, str]:
    kind = "an image" if field.is_image else "a file"
    if not isinstance(entry, bytes):
        raise RequestError(400, f"There is no input yet: choose {kind} first.")
    if field.is_image and not count_pixels(entry):
        formats = ", ".join(IMAGE_FORMATS[:-1])
        raise RequestError(
            400, f"This file is no image that can be read: it must be {formats} or "
            f"{IMAGE_FORMATS[-1]}, whatever its name is.",
        )  # fmt: skip
    return {"b64": base64.b64encode(entry).decode()}


def _read_text(field: InputField, entry: Entry) -> object:
    text = entry if isinstance(entry, str) else ""
    if not text.strip():
        raise RequestError(400, "There is no input yet: type something first.")
    if field.kind == "text":
        return text
    if field.kind == "number":
        return _read_number(field.name, text.strip())
    if field.kind == "json" or text.lstrip().startswith("["):
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as error:
            if field.kind != "words":  # a word may well begin with a bracket
                raise RequestError(
                    400, f"{field.name} must be JSON, such as [1, 2]: {error}"
                ) from None
    if field.kind == "words":
        return text.split()
    if field.kind == "numbers":
        return _read_numbers(field.name, text)
    return [
        _read_numbers(f"{field.name}, line {number}", line)
        for number, line in enumerate(text.splitlines(), 1)
        if line.strip()
    ]


def _read_numbers(where: str, text: str) -> list[int | float]:
    cells = SEPARATOR.split(text.strip().strip(",;").strip())
    return [_read_number(where, cell) for cell in cells]


def _read_number(where: str, text: str) -> int | float:
    for convert in (int, float):
        try:
            return convert(text)
        except ValueError:
            continue
    raise RequestError(400, f"{where} must be numbers; received {text[:40]!r}")
