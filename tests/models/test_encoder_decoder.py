"""Encoder-decoders: the whole sequence and one position agree, and nothing leaks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from tiny_decoders import (
    CELLS_AND_DIRECTIONS,
    DECODER,
    EMBEDDING,
    RECURRENT,
    check_every_weight_learns,
)

from models.attention import Attention
from models.cross_entropy import token_losses, token_measures
from models.encoder_decoder import EncoderDecoder
from models.scheduled_sampling import mix_in_predictions, reference_share
from models.settings import ScheduledSampling
from models.token_decoder import OutputWeights

LENGTHS = [7, 4, 2]


def build_model(cell: str = "gru", bidirectional: bool = False, **decoder: Any) -> EncoderDecoder:
    recurrent = replace(RECURRENT, cell=cell, bidirectional=bidirectional)
    settings = replace(DECODER, **decoder)
    return EncoderDecoder(recurrent, EMBEDDING, settings, vocabulary_sizes=(11, 13), seed=1)


def make_inputs() -> dict[str, tf.Tensor]:
    random = np.random.default_rng(0)
    source = random.integers(2, 11, (3, 7)).astype(np.int32)
    source[np.arange(7) >= np.asarray(LENGTHS)[:, None]] = 0
    target = random.integers(4, 13, (3, 5)).astype(np.int32)
    target[:, 0] = 2
    inputs = {"source": source, "source_length": np.asarray(LENGTHS, np.int32), "target": target}
    return {name: tf.constant(value) for name, value in inputs.items()}


def decode_stepwise(
    model: EncoderDecoder, inputs: dict[str, tf.Tensor], beams: int = 1
) -> np.ndarray:
    """(B, T, K, V) logits, position by position, of the same hypothesis in each beam."""
    memory, state = model.encode(inputs["source"], inputs["source_length"])
    state = tf.nest.map_structure(lambda x: tf.repeat(x[:, tf.newaxis], beams, 1), state)
    logits = []
    for t in range(inputs["target"].shape[1]):
        ids = tf.repeat(inputs["target"][:, t : t + 1], beams, 1)
        one, state, _ = model.decoder.step(ids, state, memory)
        logits.append(one.numpy())
    return np.stack(logits, 1)


@pytest.mark.parametrize(("cell", "bidirectional"), CELLS_AND_DIRECTIONS)
@pytest.mark.parametrize("attention", ["none", "dot", "general", "additive"])
@pytest.mark.parametrize(("feeding", "tied"), [(False, False), (True, True)])
def test_the_whole_sequence_equals_repeated_steps(
    cell: str, bidirectional: bool, attention: str, feeding: bool, tied: bool
) -> None:
    model = build_model(cell, bidirectional, attention=attention, input_feeding=feeding, tied=tied)
    whole = model(make_inputs()).numpy()
    np.testing.assert_allclose(decode_stepwise(model, make_inputs())[:, :, 0], whole, atol=1e-5)


def test_every_beam_is_a_step_of_its_own() -> None:
    model = build_model(input_feeding=True)
    logits = decode_stepwise(model, make_inputs(), beams=3)
    np.testing.assert_allclose(logits, np.repeat(logits[:, :, :1], 3, 2), atol=1e-6)


@pytest.mark.parametrize("feeding", [False, True])
def test_a_position_ignores_the_tokens_after_it(feeding: bool) -> None:
    model, inputs = build_model("lstm", True, input_feeding=feeding), make_inputs()
    before = model(inputs).numpy()
    other = inputs["target"].numpy()
    other[:, 3:] = 12
    after = model(inputs | {"target": tf.constant(other)}).numpy()
    np.testing.assert_array_equal(after[:, :3], before[:, :3])
    assert np.abs(after[:, 3:] - before[:, 3:]).max() > 1e-4


@pytest.mark.parametrize("attention", ["none", "dot", "general", "additive"])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_padding_changes_no_logit(attention: str, bidirectional: bool) -> None:
    model, inputs = build_model("gru", bidirectional, attention=attention), make_inputs()
    longer = inputs | {"source": tf.pad(inputs["source"], [[0, 0], [0, 4]])}
    np.testing.assert_allclose(model(longer), model(inputs), atol=1e-6)


def test_a_batch_gives_what_its_members_give_alone() -> None:
    model, inputs = build_model("lstm", True), make_inputs()
    together = model(inputs).numpy()
    for row, length in enumerate(LENGTHS):
        alone = {name: value[row : row + 1] for name, value in inputs.items()}
        alone["source"] = alone["source"][:, :length]
        np.testing.assert_allclose(model(alone)[0], together[row], atol=1e-5)


@pytest.mark.parametrize(("cell", "bidirectional"), CELLS_AND_DIRECTIONS)
@pytest.mark.parametrize("attention", ["none", "additive"])
def test_every_weight_learns(cell: str, bidirectional: bool, attention: str) -> None:
    model, inputs = (
        build_model(cell, bidirectional, attention=attention, input_feeding=True),
        make_inputs(),
    )
    check_every_weight_learns(model, inputs)


def test_tied_output_and_shared_vocabulary_have_one_matrix() -> None:
    settings = replace(DECODER, tied=True)
    model = EncoderDecoder(
        RECURRENT, EMBEDDING, settings, vocabulary_sizes=(13, 13), shared=True, seed=1
    )
    with_vocabulary = [v.path for v in model.trainable_variables if 13 in v.shape]
    assert len(with_vocabulary) == 2  # the matrix, and the output layer's bias
    assert np.all(
        model.decoder.output_weights().kernel.numpy() == model.source_embedding.matrix.numpy()
    )


def test_a_model_read_from_its_file_gives_the_same_logits(tmp_path: Path) -> None:
    model = build_model("lstm", True, tied=True, input_feeding=True)
    model.save(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(again(make_inputs()), model(make_inputs()))


def test_a_tied_output_must_be_as_wide_as_the_embedding() -> None:
    with pytest.raises(ValueError, match="as wide as the embedding, 5; got readout=8"):
        build_model(tied=True, readout=8)


def test_dot_attention_must_be_as_wide_as_the_memory() -> None:
    with pytest.raises(ValueError, match="as wide as the memory"):
        build_model(attention="dot", width=7)


def test_attention_is_a_softmax_of_scores_over_real_positions() -> None:
    """By hand: dot products 1, 0 and (masked) 5 give weights e/(e+1), 1/(e+1), 0."""
    layer = Attention("dot", 2)
    layer.build(((None, None, 2), (None, None, 2)))
    values = tf.constant([[[1.0, 0.0], [0.0, 2.0], [5.0, 5.0]]])
    memory = layer.precompute_keys(values, tf.constant([[True, True, False]]))
    context, weights = layer(tf.constant([[[1.0, 0.0]]]), memory)
    e = np.e
    np.testing.assert_allclose(weights[0, 0], [e / (e + 1), 1 / (e + 1), 0], rtol=1e-6)
    np.testing.assert_allclose(context[0, 0], [e / (e + 1), 2 / (e + 1)], rtol=1e-6)


def test_general_and_additive_scores_by_hand() -> None:
    values, mask = tf.constant([[[1.0], [3.0]]]), tf.constant([[True, True]])
    for how, expected in [("general", [2 * 0.5 * 1, 2 * 0.5 * 3]), ("additive", None)]:
        layer = Attention(how, 1)
        layer.build(((None, None, 1), (None, None, 1)))
        layer.key.assign([[0.5]])
        if how == "additive":
            layer.query.assign([[0.25]])
            layer.vector.assign([[4.0]])
            expected = [4 * np.tanh(0.25 * 2 + 0.5 * 1), 4 * np.tanh(0.25 * 2 + 0.5 * 3)]
        _, weights = layer(tf.constant([[[2.0]]]), layer.precompute_keys(values, mask))
        odds = np.exp(expected)
        np.testing.assert_allclose(weights[0, 0], odds / odds.sum(), rtol=1e-5)


def test_losses_are_nats_at_real_positions_and_0_on_padding() -> None:
    """Kernel rows 0 and log 3 give the odds 1 : 3 to a readout of 1."""
    projection = OutputWeights(tf.constant([[0.0], [np.log(3.0)]], tf.float32), tf.zeros(2))
    losses = token_losses(tf.ones([1, 3, 1]), projection, tf.constant([[1, 1, 0]]))
    np.testing.assert_allclose(losses, [[np.log(4 / 3), np.log(4 / 3), 0]], rtol=1e-6)
    smooth = token_losses(tf.ones([1, 1, 1]), projection, tf.constant([[1]]), smoothing=0.2)
    by_hand = 0.8 * np.log(4 / 3) + 0.2 * (np.log(4) + np.log(4 / 3)) / 2
    np.testing.assert_allclose(smooth, [[by_hand]], rtol=1e-6)


def test_measures_count_every_real_token_once() -> None:
    projection = OutputWeights(tf.constant([[0.0], [1.0], [2.0]]), tf.zeros(3))
    measured = token_measures(tf.ones([2, 3, 1]), projection, tf.constant([[2, 1, 0], [1, 0, 0]]))
    assert measured["tokens"].numpy().tolist() == [2, 1]
    assert measured["tokens_right"].numpy().tolist() == [1, 0]
    log_z = np.log(1 + np.e + np.e**2)
    np.testing.assert_allclose(measured["log_likelihood"], [3 - 2 * log_z, 1 - log_z], rtol=1e-5)


def test_smoothed_gradient_is_the_derivative_of_the_smoothed_loss() -> None:
    kernel = tf.constant(np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32))
    readouts = tf.constant(np.random.default_rng(1).normal(size=(1, 2, 3)).astype(np.float32))

    def loss(x: tf.Tensor) -> tf.Tensor:
        projection = OutputWeights(kernel, tf.zeros(5))
        return tf.reduce_sum(token_losses(x, projection, tf.constant([[3, 1]]), smoothing=0.1))

    with tf.GradientTape() as tape:
        tape.watch(readouts)
        value = loss(readouts)
    gradient = tape.gradient(value, readouts).numpy()
    moved = readouts.numpy()
    moved[0, 1, 2] += 1e-2
    back = readouts.numpy()
    back[0, 1, 2] -= 1e-2
    numeric = (loss(tf.constant(moved)) - loss(tf.constant(back))) / 2e-2
    np.testing.assert_allclose(gradient[0, 1, 2], numeric, rtol=1e-2)


@pytest.mark.parametrize(
    ("schedule", "step", "expected"),
    [
        ("none", 10**6, 1.0),
        ("constant", 0, 0.25),
        ("linear", 50, 0.5),
        ("linear", 90, 0.25),
        ("exponential", 100, 0.5),
        ("exponential", 1000, 0.25),
        ("inverse_sigmoid", 0, 100 / 101),
        ("inverse_sigmoid", 100, 100 / (100 + np.e)),
    ],
)
def test_share_of_reference_tokens_follows_its_schedule(
    schedule: str, step: int, expected: float
) -> None:
    settings = ScheduledSampling(schedule=schedule, steps=100, floor=0.25)
    share = reference_share(settings, tf.constant(step))
    np.testing.assert_allclose(share, expected, rtol=1e-5)


def test_sampled_tokens_are_the_models_own_and_the_marker_and_padding_stay() -> None:
    model, inputs = build_model(), make_inputs()
    target = inputs["target"].numpy()
    target[1, 3:] = 0
    inputs["target"] = tf.constant(target)
    settings = ScheduledSampling(schedule="constant", steps=1, floor=0.0)
    changed = mix_in_predictions(model, inputs, settings, tf.constant(3))["target"].numpy()
    said = model(inputs).numpy().argmax(-1)
    expected = np.concatenate([target[:, :1], said[:, :-1]], 1)
    expected[target == 0] = 0
    np.testing.assert_array_equal(changed, expected)
    teacher = ScheduledSampling(schedule="none", steps=1, floor=0.0)
    np.testing.assert_array_equal(
        mix_in_predictions(model, inputs, teacher, tf.constant(3))["target"], target
    )
