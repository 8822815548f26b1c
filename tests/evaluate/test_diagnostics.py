"""What is measured inside recurrent layers, on cells whose answers are known by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import QUICK
from tiny_runs import run_here

from models.inspection import (
    PowerIteration,
    backpropagate_through_time,
    gate_values,
    is_saturated,
    record_steps,
    state_gradients,
    step_gain,
)
from models.layers import GRU, LSTM, SimpleRNN, step_hooks
from models.recurrent import Encoder
from models.settings import RecurrentSettings
from pipelines.evaluate.diagnostics.advice import Moment, give_advice, steps_until
from pipelines.evaluate.diagnostics.horizon import horizon, steps_to_share
from pipelines.evaluate.diagnostics.sample import Inspection, Layer, reverse_in_time

keras.utils.set_random_seed(1)


def settings(**changes: Any) -> RecurrentSettings:
    values = {
        "cell": "simple_rnn", "bidirectional": False, "width": 5, "layers": 1, "residual": False,
        "activation": "tanh", "dropout": 0.0, "recurrent_dropout": 0.0,
    }  # fmt: skip
    return RecurrentSettings(**{**values, **changes})


class Alone:
    """A stack of one layer, without anything around it."""

    def __init__(self, layer: Any):
        self.layers = [[layer]]


def scalar_relu(recurrent: float) -> SimpleRNN:
    """H = relu(x + recurrent h): linear where it is positive."""
    layer = SimpleRNN(1, activation="relu", name="forward_0")
    layer.build((None, None, 1))
    layer.rnn.set_weights([np.ones((1, 1)), np.full((1, 1), recurrent), np.zeros(1)])
    return layer


def test_in_a_linear_rnn_with_weight_one_half_the_gradient_halves_each_step() -> None:
    layer = scalar_relu(0.5)
    x = tf.ones([2, 7, 1])
    with (
        tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape,
        record_steps({"a": Alone(layer)}, tape) as watches,
    ):
        y, _ = layer(x)
        loss = tf.reduce_sum(y[:, -1])
    watch = watches["a"][0][0]
    loss_gradient, (of_input,) = state_gradients(loss, watch, [watch.source])
    expected = 0.5 ** np.arange(7)[::-1]
    np.testing.assert_allclose(loss_gradient[:, 0, 0], expected, rtol=1e-6)
    np.testing.assert_allclose(of_input.numpy()[:, 1, 0], expected, rtol=1e-6)
    gradient_flow = backpropagate_through_time(watch, loss_gradient, np.array([6, 6]))
    np.testing.assert_allclose(
        reverse_in_time(gradient_flow[..., 0], np.array([6, 6]))[0], 0.5 ** np.arange(7)
    )


def test_through_time_leaves_out_what_the_loss_tells_earlier_states_directly() -> None:
    layer = scalar_relu(0.5)
    with (
        tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape,
        record_steps({"a": Alone(layer)}, tape) as watches,
    ):
        y, _ = layer(tf.ones([1, 4, 1]))
        loss = tf.reduce_sum(y)
    watch = watches["a"][0][0]
    loss_gradient, _ = state_gradients(loss, watch)
    np.testing.assert_allclose(loss_gradient[:, 0, 0], [1.875, 1.75, 1.5, 1.0])
    gradient_flow = backpropagate_through_time(watch, loss_gradient, np.array([3]))
    np.testing.assert_allclose(gradient_flow[:, 0, 0], [0.125, 0.25, 0.5, 1.0])


@pytest.mark.parametrize("cell", ["simple_rnn", "lstm", "gru"])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_watched_stack_computes_what_it_computes_unwatched(
    cell: str, bidirectional: bool
) -> None:
    encoder = Encoder(settings(cell=cell, bidirectional=bidirectional, layers=2), seed=3)
    encoder.build((None, None, 3))
    x = tf.random.stateless_normal((4, 6, 3), [1, 2])
    mask = tf.sequence_mask([6, 3, 1, 5], 6)
    plain, state = encoder(x, mask=mask)
    with tf.GradientTape() as tape, record_steps({"e": encoder}, tape) as watches:
        seen, seen_state = encoder(x, mask=mask)
    np.testing.assert_allclose(seen, plain, atol=1e-6)
    for one, other in zip(tf.nest.flatten(seen_state), tf.nest.flatten(state), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    assert watches["e"][1][0].lengths().tolist() == [6, 3, 1, 5]
    assert step_hooks.of(encoder.layers[0][0]) is None


def test_the_step_jacobian_of_a_linear_cell_stretches_as_its_matrix_does() -> None:
    layer = SimpleRNN(3, activation="relu")
    layer.build((None, None, 2))
    matrix = np.array([[2.0, 0, 0], [0, 0.5, 0], [0, 0, 0.1]], np.float32)
    layer.rnn.set_weights([np.ones((2, 3)), matrix, np.full(3, 9.0)])
    gain = step_gain(layer, tf.ones([4, 2]), (tf.ones([4, 3]),))
    np.testing.assert_allclose(gain.value, 2.0, rtol=1e-4)
    identity = SimpleRNN(3, activation="relu")
    identity.build((None, None, 2))
    gain = step_gain(identity, tf.ones([4, 2]), (9 * tf.ones([4, 3]),))
    np.testing.assert_allclose(gain.value, 1.0, rtol=1e-5)


@pytest.mark.parametrize("layer", [SimpleRNN, LSTM, GRU])
def test_power_iteration_agrees_with_a_full_decomposition(layer: Any) -> None:
    layer = layer(4)
    layer.build((None, None, 3))
    x = tf.random.stateless_normal((9, 3), [1, 2])
    parts = len(layer.initial_state(1))
    flat = tf.random.stateless_normal((9, 4 * parts), [3, 4])
    with tf.GradientTape() as tape:
        tape.watch(flat)
        _, new = layer.step(x, tuple(tf.split(flat, parts, -1)))
        joined = tf.concat(new, -1)
    exact = np.linalg.svd(tape.batch_jacobian(joined, flat), compute_uv=False)[:, 0]
    how = PowerIteration(iterations=300, tolerance=1e-6)
    found = step_gain(layer, x, tuple(tf.split(flat, parts, -1)), how)
    np.testing.assert_allclose(found.value, exact, rtol=1e-2)


def test_gates_are_those_that_a_step_uses() -> None:
    x, h = tf.random.stateless_normal((3, 2), [1, 2]), tf.random.stateless_normal((3, 4), [3, 4])
    gru = GRU(4)
    gru.build((None, None, 2))
    gru.rnn.cell.bias.assign(tf.random.stateless_normal((2, 12), [5, 6]))
    update = gate_values(gru, x, h)["update"]
    kernel, recurrent, bias = gru.rnn.get_weights()
    reset = gate_values(gru, x, h)["reset"]
    inner = h @ recurrent[:, 8:] + bias[1, 8:]
    candidate = tf.tanh(x @ kernel[:, 8:] + bias[0, 8:] + reset * inner)
    np.testing.assert_allclose(
        update * h + (1 - update) * candidate, gru.step(x, (h,))[0], atol=1e-6
    )
    lstm = LSTM(4)
    lstm.build((None, None, 2))
    gates, carry = gate_values(lstm, x, h), tf.ones([3, 4])
    _, (_, new) = lstm.step(x, (h, carry))
    kernel, recurrent, bias = lstm.rnn.get_weights()
    content = tf.tanh(x @ kernel[:, 8:12] + h @ recurrent[:, 8:12] + bias[8:12])
    np.testing.assert_allclose(gates["forget"] * carry + gates["input"] * content, new, atol=1e-6)


def test_saturation_is_a_slope_below_a_tenth_of_its_peak() -> None:
    y = np.array([0.0, 0.94, 0.96, -0.99])
    assert is_saturated(SimpleRNN(1), y).tolist() == [False, False, True, True]
    y = np.array([0.5, 0.03, 0.02])
    assert is_saturated(SimpleRNN(1, activation="sigmoid"), y).tolist() == [False, False, True]
    y = np.array([0.0, 2.0])
    assert is_saturated(SimpleRNN(1, activation="relu"), y).tolist() == [True, False]


def test_the_horizon_counts_the_last_steps_that_hold_nine_tenths() -> None:
    influence = np.array([[6.0, 3.0, 1.0], [3.0, 1.5, 0.5]])
    found = horizon(influence, examples=2, resamples=100, seed=1)
    assert found is not None
    assert found.value == pytest.approx(2.0)
    assert found.low == found.high == pytest.approx(2.0)
    assert found.even == pytest.approx(2.7)
    np.testing.assert_allclose(found.within, [0.6, 0.9, 1.0])
    last_alone = horizon(np.array([[9.5, 0.5]]), examples=1, resamples=100, seed=1)
    assert last_alone is not None
    assert last_alone.value == 1.0
    assert horizon(np.zeros((2, 3)), examples=2, resamples=100, seed=1) is None
    assert steps_to_share(np.array([0.2, 0.6, 1.0]), 0.5) == pytest.approx(1.75)


def test_examples_of_different_length_count_alike_in_the_horizon() -> None:
    influence = np.array([[1.0, np.nan, np.nan, np.nan], [1.0, 1.0, 1.0, 1.0]])
    found = horizon(influence, examples=2, resamples=100, seed=1)
    assert found is not None
    np.testing.assert_allclose(found.share, [0.625, 0.125, 0.125, 0.125])
    assert found.value == found.even


def layer_of(gradient_flow: np.ndarray, **changes: Any) -> Layer:
    values: dict[str, Any] = {
        "name": "forward_0", "reverse": False, "cell": "SimpleRNN", "loss_gradient": gradient_flow,
        "gradient_flow": gradient_flow, "gain": np.ones(3), "saturated": 0.0, "dead": 0.0,
        "gates": {},
    }  # fmt: skip
    return Layer(**{**values, **changes})


def test_a_vanishing_gradient_is_reported_with_the_step_and_the_remedy() -> None:
    gradient_flow = np.tile(0.5 ** np.arange(30), (8, 1))
    inspection = Inspection({"encoder": [layer_of(gradient_flow)]}, {})
    assert steps_until(gradient_flow) == (7, None)
    moments = [Moment("before training", 0, inspection), Moment("after training", 9, inspection)]
    (said,) = give_advice(moments, {}, [], settings(), 1.0)
    assert "vanish after about 7 steps" in said
    assert "model=gru, or model.activation=relu" in said
    calm = Inspection({"encoder": [layer_of(np.ones((8, 30)))]}, {})
    assert give_advice([Moment("a", 0, calm), Moment("b", 1, calm)], {}, [], settings(), 1.0) == []


def test_exploding_saturated_dead_and_clipped_are_reported() -> None:
    gradient_flow = np.tile(2.0 ** np.arange(30), (8, 1))
    flat = layer_of(gradient_flow, saturated=0.8, gates={"update": (0.99, 0.0)})
    inspection = Inspection({"encoder": [flat]}, {})
    history = [{"clipped": 0.9, "gradient_norm": 4.0}]
    said = " ".join(give_advice([Moment("a", 1, inspection)] * 2, {}, history, settings(), 1.0))
    for words in ("explode: they are 100 times as large 7 steps back", "80% of the activations",
                  "update gate is open 99%", "Clipping acts in 90%"):  # fmt: skip
        assert words in said
    dead = Inspection({"encoder": [layer_of(np.ones((8, 9)), dead=0.7)]}, {})
    relu = settings(activation="relu")
    assert (
        "70% of the units are 0" in give_advice([Moment("a", 1, dead)] * 2, {}, [], relu, None)[0]
    )


def test_diagnostics_change_neither_weights_nor_history(reviews: Path, tmp_path: Path) -> None:
    overrides = ["data=text_files", f"data.path={reviews}", *QUICK, "export.saved_model=false"]
    kept: dict[str, Any] = {}
    for name in ("true", "false"):
        directory = tmp_path / name
        _, metrics, history = run_here(directory, *overrides, f"evaluate.diagnostics={name}")
        for row in history:
            del row["seconds"]
        weights = keras.models.load_model(directory / "model.keras").get_weights()
        events = list((directory / "tensorboard" / "diagnostics").glob("*"))
        kept[name] = (weights, history, metrics["test"])
        assert ("diagnostics" in metrics) == bool(events) == (name == "true")
    for one, other in zip(kept["true"][0], kept["false"][0], strict=True):
        np.testing.assert_array_equal(one, other)
    assert kept["true"][1:] == kept["false"][1:]
    assert 0 <= kept["true"][1][-1]["clipped"] <= 1
    found = json.loads((tmp_path / "true" / "metrics.json").read_text())["diagnostics"]
    assert (
        found["horizon"]["encoder"]["answer"]["low"]
        <= found["horizon"]["encoder"]["answer"]["high"]
    )
    page = (tmp_path / "true" / "report.html").read_text()
    assert "What it remembers" in page
    assert "What it remembers" not in (tmp_path / "false" / "report.html").read_text()
