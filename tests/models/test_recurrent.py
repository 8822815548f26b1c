"""Encoders and decoders: padding, causality, call against step, saving."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from models.layers import Recurrent, Scan
from models.recurrent import Decoder, Encoder, make_portable
from models.settings import RecurrentSettings

B, T, D, W = 3, 5, 2, 4
LENGTHS = [3, 5, 1]
SETTINGS = RecurrentSettings(
    cell="gru",
    bidirectional=False,
    width=W,
    layers=1,
    residual=False,
    activation="tanh",
    dropout=0.0,
    recurrent_dropout=0.0,
)
each_cell = pytest.mark.parametrize("cell", ["simple_rnn", "lstm", "gru"])
each_way = pytest.mark.parametrize("bidirectional", [False, True], ids=["forward", "both"])


def normal(seed: int, *shape: int) -> tf.Tensor:
    return tf.constant(np.random.default_rng(seed).normal(size=shape), tf.float32)


def build(kind, seed: int = 1, **changes):
    layer = kind(replace(SETTINGS, **changes), seed=seed)
    layer.build((None, None, D))
    return layer


def close(a, b) -> None:
    for one, other in zip(tf.nest.flatten(a), tf.nest.flatten(b), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


@each_cell
def test_equals_keras_bidirectional(cell: str) -> None:
    kinds = {"simple_rnn": "SimpleRNN", "lstm": "LSTM", "gru": "GRU"}
    layer = getattr(keras.layers, kinds[cell])(W, return_sequences=True, return_state=True)
    theirs, ours = keras.layers.Bidirectional(layer), build(Encoder, cell=cell, bidirectional=True)
    theirs.build((None, None, D))
    theirs.set_weights(ours.get_weights())
    x, mask = normal(1, B, T, D), tf.sequence_mask(LENGTHS, T)
    y, *states = theirs(x, mask=mask)
    half = len(states) // 2
    expected = [tf.concat([states[i], states[half + i]], -1) for i in range(half)]
    close(ours(x, mask), (y * tf.cast(mask, tf.float32)[..., tf.newaxis], (tuple(expected),)))


@each_way
@each_cell
def test_padding_changes_nothing(cell: str, bidirectional: bool) -> None:
    """Whatever stands in the padding, however much of it: same outputs, states and gradients."""
    encoder = build(Encoder, cell=cell, bidirectional=bidirectional, layers=2, residual=True)
    x = normal(1, B, T, D)
    mask = tf.sequence_mask(LENGTHS, T)
    longer = tf.concat([tf.where(mask[..., tf.newaxis], x, 9.0), 5 * normal(2, B, 3, D)], 1)

    def run(x, mask):
        with tf.GradientTape() as tape:
            y, state = encoder(x, mask, training=True)
            total = tf.reduce_sum(y**2) + sum(tf.reduce_sum(s**3) for s in tf.nest.flatten(state))
        return y, state, tape.gradient(total, [v.value for v in encoder.trainable_variables])

    y, state, gradients = run(x, mask)
    y2, state2, gradients2 = run(longer, tf.sequence_mask(LENGTHS, T + 3))
    close((y2[:, :T], state2, gradients2), (y, state, gradients))
    assert not np.any(y2[:, T:]), "padding is not 0"
    assert not np.any(y[0, 3:]), "padding is not 0"


@each_way
@each_cell
def test_a_batch_equals_its_members(cell: str, bidirectional: bool) -> None:
    encoder = build(Encoder, cell=cell, bidirectional=bidirectional, layers=2)
    x = normal(1, B, T, D)
    y, state = encoder(x, tf.sequence_mask(LENGTHS, T))
    for b, length in enumerate(LENGTHS):
        alone, alone_state = encoder(x[b : b + 1, :length])
        close(alone[0], y[b, :length])
        close(alone_state, tf.nest.map_structure(lambda s, b=b: s[b : b + 1], state))


@each_cell
def test_forward_ignores_what_follows(cell: str) -> None:
    encoder = build(Encoder, cell=cell, layers=2)
    x = normal(1, B, T, D)
    changed = tf.concat([x[:, :2], normal(2, B, T - 2, D)], 1)
    before, after = encoder(x)[0].numpy(), encoder(changed)[0].numpy()
    np.testing.assert_array_equal(before[:, :2], after[:, :2])
    assert not np.allclose(before[:, 2:], after[:, 2:])


@each_cell
def test_call_equals_steps(cell: str) -> None:
    decoder = build(Decoder, cell=cell, layers=2, residual=True)
    x, state = normal(1, B, T, D), decoder.start(B)
    state = tf.nest.map_structure(lambda s: normal(5, B, W), state)
    y, final = decoder(x, decoder.start(state))
    outputs = []
    for t in range(T):
        out, state = decoder.step(x[:, t], state)
        outputs.append(out)
    np.testing.assert_allclose(tf.stack(outputs, 1), y, atol=1e-5)
    close(state, final)


def test_an_encoder_state_starts_a_decoder() -> None:
    encoder, decoder = (build(kind, cell="lstm", layers=2) for kind in (Encoder, Decoder))
    _, state = encoder(normal(1, B, T, D), tf.sequence_mask(LENGTHS, T))
    y, _ = decoder(normal(2, B, 2, D), decoder.start(state))
    assert y.shape == (B, 2, W)


def test_residual_adds_the_input_of_the_second_layer() -> None:
    plain, residual = (build(Encoder, layers=2, residual=r) for r in (False, True))
    first = build(Encoder)
    x = normal(1, B, T, D)
    close(residual(x)[0], plain(x)[0] + first(x)[0])


def test_dropout_between_layers_is_for_training() -> None:
    encoder = build(Encoder, layers=2, dropout=0.5)
    x = normal(1, B, T, D)
    assert not np.allclose(encoder(x, training=True)[0], encoder(x, training=True)[0])
    close(encoder(x, training=False), encoder(x))


@each_way
def test_same_seed_same_weights_whatever_else_changed(bidirectional: bool) -> None:
    one = build(Encoder, bidirectional=bidirectional)
    other = build(Encoder, bidirectional=bidirectional, layers=2, dropout=0.5)
    third = build(Encoder, bidirectional=bidirectional, seed=2)
    for a, b in zip(one.layers[0], other.layers[0], strict=True):
        close(a.get_weights(), b.get_weights())
    assert not np.allclose(one.get_weights()[0], third.get_weights()[0])
    kernels = [layer.get_weights()[1] for layers in other.layers for layer in layers]
    assert len({kernel.tobytes() for kernel in kernels}) == len(kernels)


def test_a_decoder_cannot_read_backwards() -> None:
    with pytest.raises(ValueError, match="reads forward"):
        Decoder(replace(SETTINGS, bidirectional=True))


def test_a_state_must_fit() -> None:
    decoder = build(Decoder, cell="lstm")
    with pytest.raises(ValueError, match="2 parts for each of 1 layers; got"):
        decoder.start(build(Decoder, cell="gru").start(B))


@pytest.mark.parametrize("portable", [False, True])
def test_only_a_portable_model_avoids_cudnn_on_a_gpu(
    portable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = []

    def fused(self, x, padding, state):
        ran.append(self.name)
        return self._scan_loop(Scan(x, padding, state, None, False))

    encoder = build(Encoder, bidirectional=True)
    x = keras.Input((None, D))
    model = keras.Model(x, encoder(x)[0])
    make_portable(model, portable)
    monkeypatch.setattr(Recurrent, "_scan_cudnn", fused)
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: [kind])
    model(normal(1, B, T, D))
    assert ran == ([] if portable else ["forward_0", "backward_0"])


RELOAD = """
import sys, numpy as np, tensorflow as tf
model = tf.saved_model.load(sys.argv[1])
data = np.load(sys.argv[2])
result = model.serve(tf.constant(data["x"]), tf.constant(data["mask"]))
np.testing.assert_allclose(result, data["y"], atol=1e-6)
assert "models" not in sys.modules
"""


def test_saved_model_reloads_in_a_fresh_process(tmp_path: Path) -> None:
    """Every cell in one SavedModel, with free batch and time, loaded with TensorFlow alone."""
    encoders = [
        build(Encoder, cell=cell, bidirectional=both)
        for cell in ("simple_rnn", "lstm", "gru")
        for both in (False, True)
    ]
    x, mask = keras.Input((None, D)), keras.Input((None,), dtype="bool")
    model = keras.Model((x, mask), tf_concat([encoder(x, mask)[0] for encoder in encoders]))
    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint(
        "serve",
        lambda x, mask: model((x, mask)),
        [tf.TensorSpec([None, None, D]), tf.TensorSpec([None, None], tf.bool)],
    )
    archive.write_out(str(tmp_path / "model"), verbose=False)
    values, keep = normal(1, B, T, D), tf.sequence_mask(LENGTHS, T)
    np.savez(tmp_path / "data.npz", x=values, mask=keep, y=model((values, keep)))
    arguments = [sys.executable, "-c", RELOAD, tmp_path / "model", tmp_path / "data.npz"]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def tf_concat(outputs):
    return keras.layers.Concatenate()(outputs)


def test_gradient_in_a_compiled_loop_over_batches() -> None:
    """The hand-made gradient also works inside an outer loop, as train_step runs it."""
    encoder = build(Encoder, cell="lstm", bidirectional=True)
    kernel = encoder.trainable_variables[0].value

    @tf.function
    def outer(xs):
        total = tf.zeros_like(kernel)
        for x in xs:
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(encoder(x, training=True)[0] ** 2)
            total += tape.gradient(loss, kernel)
        return total

    xs = normal(1, 2, B, T, D)
    parts = []
    for x in xs:
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(encoder(x, training=True)[0] ** 2)
        parts.append(tape.gradient(loss, kernel))
    close(outer(xs), tf.add_n(parts))
