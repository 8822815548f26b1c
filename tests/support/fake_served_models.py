"""Fake models: the outputs of each kind, without a network."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
from PIL import Image

from pipelines.serve.errors import RequestError
from pipelines.serve.predict_request import PredictRequest
from pipelines.serve.signatures import Signature, TensorInfo

TEXT = TensorInfo("DT_STRING", (None,))


def strings(*rows: Any) -> np.ndarray:
    """Rows of text, as TensorFlow gives them."""

    def to_bytes(value: Any) -> Any:
        return [to_bytes(v) for v in value] if isinstance(value, list) else value.encode()

    return np.array([to_bytes(row) for row in rows], object)


def classify(text: bytes) -> dict[str, np.ndarray]:
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


def translate(source: bytes) -> dict[str, np.ndarray]:
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


def make_image(kind: str = "PNG", side: int = 24) -> bytes:
    file = io.BytesIO()
    Image.linear_gradient("L").resize((side, side)).convert("RGB").save(file, kind)
    return file.getvalue()


def caption(image: bytes) -> dict[str, np.ndarray]:
    attention = np.full((1, 2, 9), 0.02)
    attention[0, 0, 0] = attention[0, 1, 8] = 0.84
    return {
        "caption": strings("red heart"),
        "score": np.array([-0.25]),
        "tokens": strings(["red", "heart"]),
        "attention": attention,
        "grid": np.array([[3, 3]]),
        "seen_bytes": np.array([make_image()], object),
    }


def add(x: np.ndarray) -> dict[str, np.ndarray]:
    return {"sum": x.sum()[np.newaxis]}


class FakeVersion:
    """Stands in for a ServedVersion, with a function of one row instead of a worker process."""

    def __init__(self, signature: str, inputs: Mapping[str, TensorInfo], predict_one: Any):
        self.signatures = {signature: Signature(signature, inputs, {})}
        self.predict_one = predict_one
        self.open_requests, self.number = 0, 1
        self.worker = SimpleNamespace(alive=True)

    @contextmanager
    def in_use(self) -> Iterator[None]:
        yield

    async def predict(self, request: PredictRequest) -> Mapping[str, np.ndarray]:
        return self.predict_one(**{name: values[0] for name, values in request.columns.items()})


def translate_in_capitals(source: bytes) -> dict[str, np.ndarray]:
    """Without explain, beam and attention."""
    return {"translation": strings(source.decode().upper()), "score": np.array([-2.0])}


def describe(
    tokens: np.ndarray, tokens_length: int, series: np.ndarray, series_length: int, age: float
) -> dict[str, np.ndarray]:
    """Tags for the tokens, a forecast for the series."""
    assert (len(tokens), len(series)) == (tokens_length, series_length)
    return {
        "token": tokens[np.newaxis],
        "tag": strings([f"TAG{i}" for i in range(len(tokens))]),
        "forecast": series[np.newaxis],
        "age": np.array([age + 1]),
    }


def count_bytes(audio: bytes) -> dict[str, np.ndarray]:
    return {"length": np.array([len(audio)])}


LENGTH = TensorInfo("DT_INT32", (None,))
TYPES = {
    "tokens": TensorInfo("DT_STRING", (None, None)),
    "tokens_length": LENGTH,
    "series": TensorInfo("DT_FLOAT", (None, None, 2)),
    "series_length": LENGTH,
    "age": TensorInfo("DT_FLOAT", (None,)),
}

VERSIONS = {
    "reviews": FakeVersion("explain", {"text": TEXT}, classify),
    "new": FakeVersion("explain", {"source": TEXT}, translate),
    "old": FakeVersion("serving_default", {"source": TEXT}, translate_in_capitals),
    "images": FakeVersion("explain", {"image": TEXT}, caption),
    "numbers": FakeVersion("serving_default", {"x": TensorInfo("DT_FLOAT", (None, 2))}, add),
    "types": FakeVersion("serving_default", TYPES, describe),
    "sounds": FakeVersion("serving_default", {"audio": TEXT}, count_bytes),
}
