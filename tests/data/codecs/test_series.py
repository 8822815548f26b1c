"""Numbers and series: standardised by hand-computed moments, and back."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pipelines.core.contracts import FieldSpec
from pipelines.core.errors import UserError
from pipelines.data.codecs.series import NumberCodec, SeriesCodec

FINITE = st.floats(-1e6, 1e6).map(lambda value: round(value, 3))


def make_ragged(series: list[Any]) -> tf.RaggedTensor:
    flat = np.concatenate([np.asarray(one, np.float64) for one in series])
    return tf.RaggedTensor.from_row_lengths(flat, [len(one) for one in series])


def test_a_number_becomes_deviations_from_the_training_mean() -> None:
    """2, 4, 4, 6: mean 4, variance (4 + 0 + 0 + 4) / 4 = 2."""
    codec = NumberCodec("price")
    codec.fit([[2, 4.0], [4, 6]])
    assert codec.summary() == {"mean": 4.0, "deviation": pytest.approx(np.sqrt(2))}
    encoded = codec.encode(tf.constant([6, 4, 2, 4 + 2 * np.sqrt(2)], tf.float64))
    assert encoded.dtype == tf.float32
    np.testing.assert_allclose(encoded, [np.sqrt(2), 0, -np.sqrt(2), 2], rtol=1e-6)
    assert codec.encode(tf.constant([4], tf.int64)).numpy().tolist() == [0]
    assert codec.decode(np.float32(2)) == pytest.approx(4 + 2 * np.sqrt(2))
    assert (codec.field, codec.size) == (FieldSpec((), "float32"), None)


def test_each_channel_of_a_series_has_its_own_moments() -> None:
    """Channels 1, 2, 3 (variance 2/3) and 10, 10, 40 (mean 20, variance 200)."""
    codec = SeriesCodec("load")
    assert codec.raw == FieldSpec((None, None), "float64")
    codec.fit([[[[1, 10], [2, 10]]], [[[3, 40]]]])
    assert codec.raw == FieldSpec((None, 2), "float64")
    assert codec.field == FieldSpec((None, 2), "float32")
    assert codec.summary() == {"channels": 2}
    encoded = codec.encode(make_ragged([[[3, 40]], [[2, 20], [1, 0]]]))
    assert encoded.row_lengths().numpy().tolist() == [1, 2]
    unit, wide = 1 / np.sqrt(2 / 3), 20 / np.sqrt(200)
    np.testing.assert_allclose(
        encoded.flat_values, [[unit, wide], [0, 0], [-unit, -wide]], rtol=1e-6
    )
    np.testing.assert_allclose(
        codec.decode(encoded[1].numpy()), [[2, 20], [1, 0]], rtol=1e-6, atol=1e-5
    )


def test_a_univariate_series_has_no_axis_of_channels() -> None:
    """2, 4, 4, 6: mean 4, variance 2."""
    codec = SeriesCodec("load", univariate=True)
    assert codec.raw == FieldSpec((None,), "float64")
    codec.fit([[[2, 4]], [[4, 6]]])
    again = SeriesCodec("load", univariate=True)
    again.restore(json.loads(json.dumps(codec.state())))
    assert again.field == FieldSpec((None,), "float32")
    encoded = again.encode(make_ragged([[6.0], [2.0, 4.0]]))
    assert encoded.shape.as_list() == [2, None]
    np.testing.assert_allclose(encoded.flat_values, [np.sqrt(2), -np.sqrt(2), 0], rtol=1e-6)
    np.testing.assert_allclose(again.decode(encoded[1].numpy()), [2, 4], rtol=1e-6)
    with pytest.raises(UserError, match=r"of the shape \(steps,\); received .* \(1, 2\)"):
        SeriesCodec("load", univariate=True).fit([[[[1, 2]]]])


@settings(deadline=None)
@given(hnp.arrays(np.float64, st.tuples(st.integers(1, 30), st.integers(1, 3)), elements=FINITE))
def test_decoding_gives_the_series_back(series: np.ndarray) -> None:
    codec = SeriesCodec("x")
    codec.fit([[steps.tolist()] for steps in np.array_split(series, 3) if len(steps)])
    again = SeriesCodec("x")
    again.restore(json.loads(json.dumps(codec.state())))
    encoded = again.encode(make_ragged([series]))
    assert np.abs(encoded.flat_values.numpy().mean(0)).max() < 1e-3
    spread = np.ptp(series, axis=0)
    gap = np.abs(np.asarray(again.decode(encoded[0].numpy())) - series)
    assert (gap <= 1e-6 * spread + 1e-12 * np.abs(series)).all()


@settings(deadline=None)
@given(st.lists(FINITE, min_size=1, max_size=40), st.integers(1, 5))
def test_moments_do_not_depend_on_the_batches(values: list[float], batches: int) -> None:
    codec = NumberCodec("x")
    codec.fit([part.tolist() for part in np.array_split(values, batches)])
    scale = max(1.0, float(np.ptp(values)))
    assert codec.mean[0] == pytest.approx(np.mean(values), abs=1e-9 * scale)
    if len(set(values)) > 1:
        assert codec.deviation[0] == pytest.approx(np.std(values), abs=1e-9 * scale, rel=1e-6)


def test_a_constant_channel_is_zero_and_comes_back() -> None:
    codec = NumberCodec("x")
    codec.fit([[0.1] * 7])
    assert codec.encode(tf.constant([0.1, 1.1], tf.float64)).numpy().tolist() == [0, 1]
    assert codec.decode(np.float32(0)) == 0.1


def test_large_numbers_close_to_each_other_stay_apart() -> None:
    """Seconds since 1970: float32 would not tell them from each other."""
    codec = NumberCodec("time")
    codec.fit([[1.7e9, 1.7e9 + 1, 1.7e9 + 2]])
    encoded = codec.encode(tf.constant([1.7e9, 1.7e9 + 1, 1.7e9 + 2], tf.float64))
    np.testing.assert_allclose(np.diff(encoded), np.full(2, np.sqrt(1.5)), rtol=1e-6)


def test_unscaling_is_the_same_in_graph_code() -> None:
    codec = SeriesCodec("x")
    codec.fit([[[[1, 10], [2, 30]]]])
    numbers = np.array([[[1, -1], [0.5, 2]]], np.float32)
    graph = tf.function(codec.unscale)(tf.constant(numbers))
    np.testing.assert_allclose(graph, codec.unscale(numbers), rtol=1e-6)


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_refused(wrong: float) -> None:
    with pytest.raises(UserError, match="'x' must hold finite numbers"):
        NumberCodec("x").fit([[1.0, wrong]])
    with pytest.raises(UserError, match="'x' must hold finite numbers"):
        SeriesCodec("x").fit([[[[1.0], [wrong]]]])
    codec = NumberCodec("x")
    codec.fit([[1.0, 2.0]])
    with pytest.raises(tf.errors.InvalidArgumentError, match="'x' must hold finite numbers"):
        codec.encode(tf.constant([wrong]))


def test_series_of_another_shape_are_refused() -> None:
    with pytest.raises(UserError, match=r"shape \(steps, 2\); received one of the shape \(1, 3\)"):
        SeriesCodec("x").fit([[[[1, 2]], [[1, 2, 3]]]])
    with pytest.raises(UserError, match=r"shape \(steps, channels\); .* shape \(3,\)"):
        SeriesCodec("x").fit([[[1, 2, 3]]])


@pytest.mark.parametrize("codec", [NumberCodec("x"), SeriesCodec("x")])
def test_no_values_are_an_error(codec: NumberCodec | SeriesCodec) -> None:
    with pytest.raises(UserError, match="no values to learn from"):
        codec.fit([])
