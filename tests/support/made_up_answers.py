"""Models that are made up: what each kind answers, without a network."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
from PIL import Image

from pipelines.serve.errors import RequestError
from pipelines.serve.signatures import Question, Signature, Tensor

TEXT = Tensor("DT_STRING", (None,))


def strings(*rows: Any) -> np.ndarray:
    """Rows of text, as TensorFlow gives them."""

    def as_bytes(value: Any) -> Any:
        return [as_bytes(v) for v in value] if isinstance(value, list) else value.encode()

    return np.array([as_bytes(row) for row in rows], object)


def classified(text: bytes) -> dict[str, np.ndarray]:
    if b"boom" in text:
        raise RequestError(400, "text: the model can't read this")
    tokens = text.decode().split()
    weights = np.linspace(1, -0.5, len(tokens))
    return {
        "label": strings("positive"),
        "labels": strings(["negative", "positive", "neither"]),
        "probabilities": np.array([[0.2, 0.7, 0.1]]),
        "tokens": strings(tokens),
        "weights": weights[np.newaxis],
    }


def translated(source: bytes) -> dict[str, np.ndarray]:
    read = source.decode().split()
    written = ["ein", "<Hund>", "läuft"]
    attention = np.full((1, 3, len(read)), 0.1 / max(1, len(read) - 1))
    attention[0, range(3), [min(i, len(read) - 1) for i in range(3)]] = 0.9
    return {
        "translation": strings("ein <Hund> läuft"),
        "score": np.array([-0.5]),
        "translations": strings(["ein <Hund> läuft", "der Hund rennt"]),
        "scores": np.array([[-0.5, -1.25]]),
        "tokens": strings([*written, ""]),
        "source_tokens": strings(read),
        "attention": np.concatenate([attention, np.zeros((1, 1, len(read)))], 1),
    }


def picture(kind: str = "PNG", side: int = 24) -> bytes:
    file = io.BytesIO()
    Image.linear_gradient("L").resize((side, side)).convert("RGB").save(file, kind)
    return file.getvalue()


def captioned(image: bytes) -> dict[str, np.ndarray]:
    attention = np.full((1, 2, 9), 0.02)
    attention[0, 0, 0] = attention[0, 1, 8] = 0.84
    return {
        "caption": strings("red heart"),
        "score": np.array([-0.25]),
        "tokens": strings(["red", "heart"]),
        "attention": attention,
        "grid": np.array([[3, 3]]),
        "seen_bytes": np.array([picture()], object),
    }


def added(x: np.ndarray) -> dict[str, np.ndarray]:
    return {"sum": x.sum()[np.newaxis]}


class Answers:
    """Stands for a version whose process answers what a function gives."""

    def __init__(self, name: str, given: str, tensor: Tensor, answer: Any):
        self.signatures = {name: Signature(name, {given: tensor}, {})}
        self.answer_one = answer
        self.open_requests, self.number = 0, 1
        self.worker = SimpleNamespace(alive=True)

    @contextmanager
    def in_use(self) -> Iterator[None]:
        yield

    async def answer(self, question: Question) -> Mapping[str, np.ndarray]:
        (values,) = question.columns.values()
        return self.answer_one(values[0])


def old(source: bytes) -> dict[str, np.ndarray]:
    """Without explain, beam and attention."""
    return {"translation": strings(source.decode().upper()), "score": np.array([-2.0])}


VERSIONS = {
    "reviews": Answers("explain", "text", TEXT, classified),
    "new": Answers("explain", "source", TEXT, translated),
    "old": Answers("serving_default", "source", TEXT, old),
    "pictures": Answers("explain", "image", TEXT, captioned),
    "numbers": Answers("serving_default", "x", Tensor("DT_FLOAT", (None, 2)), added),
}
