"""Readers of what codecs learnt, one for each kind of codec."""

from __future__ import annotations

import base64
import functools
import io
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import caption_files
import numpy as np
from formats import JSON
from reader import Reader

from models.settings import NgramSettings, VisionSettings
from pipelines.core.contracts import Codec, FieldCodec
from pipelines.data.codecs.captions import CaptionsCodec
from pipelines.data.codecs.features import FeatureCodec
from pipelines.data.codecs.images import ImageCodec, ImageSettings
from pipelines.data.codecs.labels import LabelCodec
from pipelines.data.codecs.ngrams import NgramCodec
from pipelines.data.codecs.numbers import AnswerCodec, SequenceCodec
from pipelines.data.codecs.series import NumberCodec, SeriesCodec
from pipelines.data.codecs.spelling import SpellingCodec
from pipelines.data.codecs.tags import TagCodec
from pipelines.data.codecs.text import TextCodec, TextSettings

TEXTS = ["a fine film", "dull, dull film", "fine", "a"]
TEXT_SETTINGS: dict[str, Any] = {
    "tokens": "word", "vocabulary_size": 40, "minimum_count": 1, "lowercase": True,
    "strip_markup": True, "punctuation": "keep", "max_tokens": 9, "truncate": "head",
    "model_type": "unigram",
}  # fmt: skip
IMAGE = ImageSettings(size=32, fit="pad")
VISION = VisionSettings(
    network="MobileNetV2", channels=[1], blocks=[0], weights=None, train_from=None, dropout=0.0
)


def _text(**changes: Any) -> TextCodec:
    return TextCodec("x", TextSettings(**{**TEXT_SETTINGS, **changes}), markers=True)


def _ngrams() -> NgramCodec:
    return NgramCodec("x", NgramSettings(order=2, minimum_count=1, limit=100), _words())


@functools.cache
def _words() -> TextCodec:
    words = _text()
    words.fit([TEXTS])
    return words


class _SmallFeatures(FeatureCodec):
    """As if the network had few weights."""

    def fit(self, batches: Any) -> None:
        file = io.BytesIO()
        np.savez(file, np.ones((2, 3), np.float32), np.zeros(3, np.float32))
        weights = base64.b64encode(file.getvalue()).decode()
        self._state = {"weights": weights, "grid": [1, 1, 3]}


def _ragged(values: Sequence[Any]) -> Any:
    import tensorflow as tf

    if isinstance(values[0][0], str):
        return tf.ragged.constant(values, tf.string, ragged_rank=1)
    flat = np.concatenate([np.asarray(one, np.float64) for one in values])
    return tf.RaggedTensor.from_row_lengths(flat, [len(one) for one in values])


SERIES = [[[1.0, 2.0], [3.0, 5.0]], [[4.0, 4.0]]]

CODECS: dict[str, tuple[Callable[[], FieldCodec], Sequence[Any]]] = {
    "words": (_text, TEXTS),
    "characters": (lambda: _text(tokens="character"), TEXTS),
    "sentencepiece": (lambda: _text(tokens="sentencepiece"), TEXTS * 9),
    "captions": (lambda: CaptionsCodec("x", TextSettings(**TEXT_SETTINGS)), ["a dog\na cat", "a"]),
    "n-grams": (_ngrams, TEXTS),
    "labels": (lambda: LabelCodec("x"), ["good", "bad", "bad"]),
    "number": (lambda: NumberCodec("x"), [1.0, 2.0, 5.5]),
    "series": (lambda: SeriesCodec("x"), SERIES),
    "steps": (lambda: SequenceCodec("x"), ["0.5,1 0,2", "1,1"]),
    "answers": (lambda: AnswerCodec("x"), ["1 2", "0 3"]),
    "images": (lambda: ImageCodec("x", IMAGE), [caption_files.make_image()]),
    "tags": (lambda: TagCodec("x", "bioes"), [["B-A", "I-A", "O"], ["B-B"]]),
    "spelling": (lambda: SpellingCodec("x", most=4, minimum_count=1), [["Ada", "ran"], ["ö"]]),
    "features": (lambda: _SmallFeatures("x", IMAGE, VISION), [caption_files.make_image()]),
}
"""By kind: an unfitted codec, and values to learn from."""


def of_codecs(run: Path, folder: Path) -> Iterator[Reader]:
    import tensorflow as tf

    for name, (make, values) in CODECS.items():
        fitted = make()
        fitted.fit([values])
        place = folder / name
        Codec({"x": fitted}).save(place)

        def read(
            make: Any = make, values: Any = values, place: Path = place, field: Any = fitted.field
        ) -> object:
            codec = make()
            Codec({"x": codec}).load(place)
            # The network doesn't fit; and what was learnt of other data can't encode these.
            if isinstance(codec, FeatureCodec) or codec.field != field:
                return codec.summary(), codec.field
            if codec.raw.is_sequence:
                encoded = codec.encode(_ragged(values))
            else:
                encoded = codec.encode(tf.constant(values))
            numbers = encoded[0].numpy()
            return codec.decode(numbers), codec.summary(), codec.field, codec.size

        yield Reader(f"codec: {name}", place / "x.json", JSON, read, cost=4)
