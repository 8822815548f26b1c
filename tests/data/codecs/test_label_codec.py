"""Label codec: order of classes, and the mistakes it must catch."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from pipelines.core.errors import UserError
from pipelines.data.codecs.labels import LabelCodec


def fit_codec(*batches: list) -> LabelCodec:
    codec = LabelCodec("label")
    codec.fit(batches)
    return codec


def test_classes_are_sorted() -> None:
    assert fit_codec(["10", "9", "-1", "9"]).names == ("-1", "9", "10")
    assert fit_codec(["b", "10", "9", "b"]).names == ("10", "9", "b")
    assert fit_codec([2, 10, 2]).names == ("2", "10")


def test_encode_and_decode() -> None:
    codec = fit_codec(["pos", "neg"], ["neg"])
    encoded = codec.encode(tf.constant(["neg", "pos", "new"]))
    assert encoded.dtype == tf.int32
    assert encoded.numpy().tolist() == [0, 1, -1]
    assert codec.decode(np.int32(1)) == "pos"
    assert fit_codec([1, 2, 1]).encode(tf.constant([2, 1])).numpy().tolist() == [1, 0]
    assert codec.summary() == {"classes": {"neg": 2, "pos": 1}}
    assert (codec.size, codec.field.shape) == (2, ())


def test_state() -> None:
    codec = LabelCodec("label")
    codec.restore(fit_codec(["a", "b", "a"]).state())
    assert codec.names == ("a", "b")


def test_unknown_label() -> None:
    codec = fit_codec(["pos", "neg"])
    codec.check(["pos"], np.array([1]))
    with pytest.raises(UserError, match=r"'new' of column 'label'.*'neg', 'pos'"):
        codec.check(["pos", "new"], np.array([1, -1]))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["a", "a"], "at least two classes"),
        ([], "at least two classes"),
        ([str(i) for i in range(50)], "right label column"),
        ([str(i % 1500) for i in range(9000)], "right label column"),
    ],
)
def test_likely_mistakes(values: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        fit_codec(values)
