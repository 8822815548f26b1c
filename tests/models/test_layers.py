"""Our loops against Keras' own layers, and their gradients against differences."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from models.layers import GRU, LSTM, SimpleRNN

B, T, D, W = 3, 5, 2, 4
LENGTHS = [3, 5, 1]
KERAS = {SimpleRNN: keras.layers.SimpleRNN, GRU: keras.layers.GRU, LSTM: keras.layers.LSTM}
CELLS = [
    (SimpleRNN, {"activation": "tanh"}),
    (SimpleRNN, {"activation": "relu"}),
    (SimpleRNN, {"activation": "sigmoid"}),
    (GRU, {}),
    (LSTM, {}),
]
cells = pytest.mark.parametrize(
    ("cell", "options"), CELLS, ids=["tanh", "relu", "sigmoid", "gru", "lstm"]
)


def normal(seed: int, *shape: int) -> tf.Tensor:
    return tf.constant(np.random.default_rng(seed).normal(size=shape), tf.float32)


def randomize(layer: keras.layers.Layer, width: int = D) -> keras.layers.Layer:
    """The layer with every weight, biases too, away from where it starts."""
    layer.build((None, None, width))
    weights = [0.5 * normal(i, *w.shape).numpy() for i, w in enumerate(layer.get_weights())]
    layer.set_weights(weights)
    return layer


def uneven(y: tf.Tensor) -> tf.Tensor:
    """Numbers of y's shape, all different."""
    return tf.reshape(tf.sin(tf.range(tf.cast(tf.size(y), tf.float32))), tf.shape(y))


def with_gradients(call, weights, tensors):
    """A scalar that depends on every output; its gradients by weights and tensors; outputs."""

    @tf.function
    def run(*tensors):
        with tf.GradientTape() as tape:
            tape.watch(tensors)
            outputs = call(*tensors)
            total = tf.add_n([tf.reduce_sum(y * uneven(y)) for y in outputs])
        return tape.gradient(total, [*tensors, *[w.value for w in weights]]), outputs

    return run(*tensors)


def close(ours, theirs, tolerance: float = 1e-5) -> None:
    for a, b in zip(tf.nest.flatten(ours), tf.nest.flatten(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    ("reverse", "masked"),
    [(False, True), (True, True), (False, False)],
    ids=["forward", "backward", "full"],
)
@cells
def test_equals_keras(cell, options: dict, reverse: bool, masked: bool) -> None:
    ours = randomize(cell(W, reverse=reverse, **options))
    theirs = KERAS[cell](
        W, return_sequences=True, return_state=True, go_backwards=reverse, **options
    )
    theirs.build((None, None, D))
    theirs.set_weights(ours.get_weights())
    mask = tf.sequence_mask(LENGTHS if masked else [T] * B, T)
    keep = tf.cast(mask, tf.float32)[..., tf.newaxis]
    states = [normal(7 + i, B, W) for i in range(2 if cell is LSTM else 1)]

    def our_call(x, *states):
        y, state = ours(x, mask=mask if masked else None, initial_state=states)
        return y, *state

    def their_call(x, *states):
        y, *state = theirs(x, mask=mask if masked else None, initial_state=list(states))
        # Keras gives a backward layer's outputs in the order they were made.
        return (tf.reverse(y, [1]) if reverse else y) * keep, *state

    arguments = (normal(1, B, T, D), *states)
    got = with_gradients(our_call, ours.trainable_variables, arguments)
    close(got, with_gradients(their_call, theirs.trainable_variables, arguments))


@cells
def test_training_or_not_is_the_same(cell, options: dict) -> None:
    """Outside training TensorFlow derives the gradient, for attributions."""
    layer = randomize(cell(W, **options))
    x, mask = normal(1, B, T, D), tf.sequence_mask(LENGTHS, T)

    def call(training: bool):
        def run(x):
            y, state = layer(x, mask=mask, training=training)
            return y, *state

        return with_gradients(run, layer.trainable_variables, (x,))

    close(call(False), call(True))


@cells
def test_fused_path_equals_loop(cell, options: dict) -> None:
    """What a GPU would run (Keras' layer with the same weights), run here without cuDNN."""
    layer = randomize(cell(W, reverse=True, **options))
    x, mask = normal(1, B, T, D), tf.sequence_mask(LENGTHS, T)
    loop = layer(x, mask=mask)
    layer._scan_loop = lambda scan: layer._scan_cudnn(*scan[:3])
    close(layer(x, mask=mask), loop)


@cells
def test_gradient_equals_differences(cell, options: dict) -> None:
    layer = randomize(cell(W, recurrent_dropout=0.5, **options))
    mask = tf.sequence_mask([2, 3], 3)
    drop = tf.constant([[2.0, 0, 2, 0], [0, 2.0, 2, 2]])
    layer.drop.sample_mask = lambda shape: drop
    x = normal(3, 2, 3, D)

    def scalar(x):
        y, state = layer(x, mask=mask, training=True)
        return tf.reduce_sum(y * y) + tf.add_n([tf.reduce_sum(s**3) for s in state])

    variables = layer.trainable_variables
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = scalar(x)
    dx, *gradients = tape.gradient(value, [x, *[v.value for v in variables]])

    def difference(put, values, index, step=1e-2):
        ends = []
        for sign in (1, -1):
            moved = values.copy()
            moved[index] += sign * step
            ends.append(put(moved))
        return (ends[0] - ends[1]) / (2 * step)

    for index in [(0, 0, 1), (1, 2, 0)]:
        slope = difference(lambda v: scalar(tf.constant(v)).numpy(), x.numpy(), index)
        assert float(dx[index]) == pytest.approx(slope, rel=0.02, abs=2e-3)
    for variable, gradient in zip(variables, gradients, strict=True):
        start = variable.numpy()
        index = tuple(size // 2 for size in start.shape)

        def put(values, variable=variable):
            variable.assign(values)
            return scalar(x).numpy()

        slope = difference(put, start, index)
        variable.assign(start)
        assert float(gradient[index]) == pytest.approx(slope, rel=0.02, abs=2e-3)


def test_recurrent_dropout_is_one_mask_a_sequence() -> None:
    """As Keras' SimpleRNN has it: the mask multiplies h at every step before the matrix."""
    layer = randomize(SimpleRNN(W, recurrent_dropout=0.5))
    drop = tf.constant([[2.0, 0, 2, 0]])
    layer.drop.sample_mask = lambda shape: drop
    x = normal(3, 1, T, D)
    kernel, recurrent, bias = layer.get_weights()
    h, expected = tf.zeros([1, W]), []
    for t in range(T):
        h = tf.tanh(x[:, t] @ kernel + (h * drop) @ recurrent + bias)
        expected.append(h)
    close(layer(x, training=True)[0], tf.stack(expected, 1))
    assert not np.allclose(layer(x, training=False)[0], layer(x, training=True)[0])


def test_recurrent_dropout_differs_by_call_and_sequence() -> None:
    layer = randomize(GRU(W, recurrent_dropout=0.5))
    x = tf.repeat(normal(3, 1, T, D), 2, axis=0)
    first, second = (layer(x, training=True)[0].numpy() for _ in range(2))
    assert not np.allclose(first, second)
    assert not np.allclose(first[0], first[1])


def test_overflow_in_padding_stays_there() -> None:
    """An exploding relu network runs to infinity in the padding; its gradient stays finite."""
    layer = SimpleRNN(W, activation="relu")
    layer.build((None, None, D))
    layer.set_weights([np.ones((D, W)), 100 * np.eye(W), np.ones(W)])
    mask = tf.sequence_mask([2], 40)
    call = lambda x: layer(x, mask=mask, training=True)[:1]  # noqa: E731
    gradients, _ = with_gradients(call, layer.trainable_variables, (tf.ones([1, 40, D]),))
    assert all(np.isfinite(g).all() for g in gradients)


@cells
def test_a_seed_decides_everything_that_is_random(cell, options: dict) -> None:
    made = [cell(W, seed=7, recurrent_dropout=0.5, **options) for _ in range(2)]
    for layer in made:
        layer.build((None, None, D))
    for one, other in zip(*(layer.variables for layer in made), strict=True):
        np.testing.assert_array_equal(one, other, err_msg=one.path)


def test_relu_starts_from_the_identity() -> None:
    layer = SimpleRNN(W, activation="relu")
    layer.build((None, None, D))
    np.testing.assert_array_equal(layer.rnn.cell.recurrent_kernel, np.eye(W))


@pytest.mark.parametrize("cell", [SimpleRNN, GRU, LSTM])
def test_mixed_precision(cell) -> None:
    layer = cell(W, dtype="mixed_bfloat16")
    full = cell(W)
    for each in (layer, full):
        each.build((None, None, D))
    layer.set_weights(full.get_weights())
    x, mask = normal(1, B, T, D), tf.sequence_mask(LENGTHS, T)
    gradients, (y, *_) = with_gradients(
        lambda x: [tf.cast(layer(x, mask=mask, training=True)[0], tf.float32)],
        layer.trainable_variables,
        (x,),
    )
    assert layer(x, mask=mask)[0].dtype == tf.bfloat16
    np.testing.assert_allclose(y, full(x, mask=mask)[0], atol=0.03)
    assert all(g is not None and np.isfinite(g).all() for g in gradients)
