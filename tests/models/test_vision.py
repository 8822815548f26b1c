"""Vision networks: what their grids are, and that nothing depends on the batch."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any, get_args

import keras
import numpy as np
import pytest
import tensorflow as tf

from models.captioner import Captioner
from models.cross_entropy import token_losses
from models.residual_network import Convolution, ResidualNetwork
from models.settings import (
    DecoderSettings,
    EmbeddingSettings,
    Network,
    RecurrentSettings,
    VisionSettings,
    smallest_side,
)
from models.vision import Backbone, ImageEncoder

RECURRENT = RecurrentSettings(
    cell="gru",
    bidirectional=False,
    width=6,
    layers=2,
    residual=True,
    activation="tanh",
    dropout=0.0,
    recurrent_dropout=0.0,
)
EMBEDDING = EmbeddingSettings(
    width=5, scale=0.3, vectors=None, trainable=True, word_dropout=0.0, dropout=0.0
)
DECODER = DecoderSettings(
    width=None, attention="general", input_feeding=False, readout=None, tied=False, dropout=0.0
)
VISION = VisionSettings(
    network="residual", channels=[4, 8], blocks=[1, 2], weights=None, train_from=0, dropout=0.0
)
MODELS = list(product(["simple_rnn", "lstm", "gru"], [False, True]))
SHAPE = (16, 16, 3)


def model(
    cell: str = "gru",
    bidirectional: bool = False,
    vision: VisionSettings = VISION,
    pooling: str = "mean",
    shape: tuple[int, int, int] = SHAPE,
    **decoder: Any,
) -> Captioner:
    recurrent = replace(RECURRENT, cell=cell, bidirectional=bidirectional)
    settings = replace(DECODER, **decoder)
    return Captioner(
        recurrent,
        vision,
        EMBEDDING,
        settings,
        image_shape=shape,
        vocabulary_size=13,
        pooling=pooling,
        seed=1,
    )


def inputs() -> dict[str, tf.Tensor]:
    """Two images, the second with two captions."""
    random = np.random.default_rng(0)
    target = random.integers(4, 13, (3, 5)).astype(np.int32)
    target[:, 0] = 2
    target[1, 3:] = 0
    given = {
        "image": random.integers(0, 256, (2, *SHAPE)).astype(np.uint8),
        "owner": np.array([0, 1, 1], np.int32),
        "target": target,
    }
    return {name: tf.constant(value) for name, value in given.items()}


# Networks


def test_training_normalises_by_the_batch_and_inference_by_what_was_seen_before() -> None:
    layer = Convolution(4, 8, 3)
    layer.build()
    x = 3 + 2 * tf.random.stateless_normal([16, 8, 8, 4], [1, 2])
    y = layer(x, training=True).numpy()
    np.testing.assert_allclose(y.mean(axis=(0, 1, 2)), np.zeros(8), atol=1e-4)
    np.testing.assert_allclose(y.std(axis=(0, 1, 2)), np.ones(8), atol=1e-2)
    for _ in range(300):
        layer(x, training=True)
    np.testing.assert_allclose(layer(x), y, atol=0.02)


def test_a_convolution_by_hand() -> None:
    """Weights 1 and 3 on 5 and 7 make 26; with mean 20, variance 4, gain 3 and bias 1: 10."""
    layer = Convolution(2, 1, 1, gain=3.0)
    layer.build()
    layer.kernel.assign(np.array([1.0, 3.0]).reshape(1, 1, 2, 1))
    for variable, value in ((layer.bias, 1.0), (layer.mean, 20.0), (layer.variance, 4 - 1e-3)):
        variable.assign([value])
    y = layer(tf.constant([5.0, 7.0], shape=[1, 1, 1, 2]))
    np.testing.assert_allclose(y.numpy().item(), 10, rtol=1e-5)


@pytest.mark.parametrize("side", [16, 17, 64, 72])
def test_the_grid_is_as_large_as_it_says(side: int) -> None:
    network = ResidualNetwork([4, 8], [0, 1])
    grid = network(tf.zeros([1, side, side, 3], tf.uint8)).shape[1:]
    assert tuple(grid) == network.grid(side, side) == (-(-side // 8), -(-side // 8), 8)


def test_a_image_is_seen_alike_alone_and_among_others() -> None:
    network = ResidualNetwork([4, 8], [1, 1], seed=3)
    images = tf.random.stateless_uniform([5, 16, 16, 3], [1, 2], 0, 256, tf.int32)
    images = tf.cast(images, tf.uint8)
    network(images, training=True)
    together = network(images).numpy()
    np.testing.assert_allclose(network(images[3:4])[0], together[3], atol=1e-5)


def test_the_networks_that_can_be_named_are_those_of_keras() -> None:
    there = {name for name in dir(keras.applications) if name[0].isupper()}
    assert set(get_args(Network)) == {"residual", *there}


def test_images_must_be_as_large_as_keras_demands() -> None:
    for name in set(get_args(Network)) - {"residual"}:
        side = smallest_side(name)
        with pytest.raises(ValueError, match=f"at least {side}x{side}"):
            Backbone(name, side - 1, side - 1)


def test_a_backbone_scales_images_as_it_was_trained_with() -> None:
    """ResNet50V2 reads [-1, 1]; MobileNetV3 does it inside."""
    images = tf.constant([[[[0.0, 127.5, 255.0]]]])
    np.testing.assert_allclose(
        Backbone("ResNet50V2", 32, 32).preprocess(images)[0, 0, 0], [-1, 0, 1]
    )
    inside = Backbone("MobileNetV3Small", 32, 32).preprocess(images)[0, 0, 0]
    np.testing.assert_allclose(inside, [0, 127.5, 255])


def test_weights_of_a_backbone_come_from_a_file(tmp_path: Path) -> None:
    keras.utils.set_random_seed(1)
    one, other = (Backbone("MobileNetV3Small", 32, 32) for _ in range(2))
    one.network.save_weights(tmp_path / "a.weights.h5")
    other.load_pretrained(str(tmp_path / "a.weights.h5"))
    images = tf.cast(tf.random.stateless_uniform([2, 32, 32, 3], [1, 2], 0, 256), tf.uint8)
    np.testing.assert_array_equal(one(images), other(images))
    # Its batch normalisation stays as it was trained, also while it is tuned.
    np.testing.assert_array_equal(other(images, training=True), other(images))


def test_weights_that_cannot_be_had_are_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="give a file of weights of this network") as error:
        Backbone("MobileNetV3Small", 32, 32).load_pretrained(str(tmp_path / "none.weights.h5"))
    assert "\n" not in str(error.value)


def test_a_network_gets_no_gradient_until_it_learns() -> None:
    encoder = ImageEncoder(VISION, SHAPE, 6)
    encoder.build()
    for learns in (False, True):
        with tf.GradientTape() as tape:
            seen = encoder(inputs()["image"], network_trainable=tf.constant(learns))
            loss = tf.reduce_sum(seen * tf.random.stateless_normal(tf.shape(seen), [1, 2]))
        weights = encoder.network.trainable_variables
        gradients = tape.gradient(loss, [weight.value for weight in weights])
        assert any(g is not None and np.any(g) for g in gradients) == learns


# Captioners


def steps(made: Captioner, given: dict[str, tf.Tensor]) -> np.ndarray:
    """(N, T, V) logits, position by position."""
    seen = made.encode(given["image"])
    memory, state = tf.nest.map_structure(lambda x: tf.gather(x, given["owner"]), seen)
    state = tf.nest.map_structure(lambda x: x[:, tf.newaxis], state)
    logits = []
    for t in range(given["target"].shape[1]):
        one, state, _ = made.decoder.step(given["target"][:, t : t + 1], state, memory)
        logits.append(one.numpy()[:, 0])
    return np.stack(logits, 1)


@pytest.mark.parametrize(("cell", "bidirectional"), MODELS)
@pytest.mark.parametrize("attention", ["none", "dot", "additive"])
@pytest.mark.parametrize("feeding", [False, True])
def test_the_whole_caption_equals_repeated_steps(
    cell: str, bidirectional: bool, attention: str, feeding: bool
) -> None:
    made, given = model(cell, bidirectional, attention=attention, input_feeding=feeding), inputs()
    real = given["target"].numpy() != 0
    np.testing.assert_allclose(steps(made, given)[real], made(given).numpy()[real], atol=1e-5)


@pytest.mark.parametrize(("cell", "bidirectional"), MODELS)
@pytest.mark.parametrize(("attention", "pooling"), [("none", "mean_max"), ("general", "attention")])
def test_every_weight_learns(cell: str, bidirectional: bool, attention: str, pooling: str) -> None:
    made, given = model(cell, bidirectional, attention=attention, pooling=pooling), inputs()
    with tf.GradientTape() as tape:
        readouts = made.readouts(given, training=True)
        losses = token_losses(readouts, made.decoder.output_weights(), given["target"])
        loss = tf.reduce_sum(losses)
    gradients = tape.gradient(loss, [v.value for v in made.trainable_variables])
    still = [
        variable.path
        for variable, gradient in zip(made.trainable_variables, gradients, strict=True)
        if gradient is None or not np.any(tf.convert_to_tensor(gradient))
    ]
    assert still == []
    assert np.isfinite(loss)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_several_captions_of_a_image_are_as_the_image_repeated(bidirectional: bool) -> None:
    made, given = model("lstm", bidirectional), inputs()
    repeated = given | {
        "image": tf.gather(given["image"], given["owner"]),
        "owner": tf.range(3),
    }
    np.testing.assert_allclose(made(repeated), made(given), atol=1e-5)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_batch_gives_what_its_members_give_alone_and_padding_nothing(bidirectional: bool) -> None:
    made, given = model("gru", bidirectional), inputs()
    together = made(given).numpy()
    alone = {
        "image": given["image"][1:],
        "owner": tf.constant([0]),
        "target": given["target"][1:2, :3],
    }
    np.testing.assert_allclose(made(alone)[0], together[1, :3], atol=1e-5)


def test_attention_sums_to_one_over_the_places() -> None:
    _, weights = model(input_feeding=True).readouts_and_attention(inputs())
    assert weights.shape == (3, 5, 4)
    np.testing.assert_allclose(tf.reduce_sum(weights, -1), np.ones((3, 5)), rtol=1e-5)


def test_features_of_a_frozen_network_are_read_as_they_are(tmp_path: Path) -> None:
    vision = replace(VISION, network="MobileNetV3Small", train_from=None)
    made = model(vision=vision, shape=(2, 3, 7))
    assert not any("MobileNet" in v.path or "network" in v.path for v in made.variables)
    given = inputs()
    given["image"] = tf.cast(tf.random.stateless_normal([2, 2, 3, 7], [1, 2]), tf.float16)
    assert made(given).shape == (3, 5, 13)
    assert made.readouts_and_attention(given)[1].shape[-1] == 6


@pytest.mark.parametrize("network", ["residual", "MobileNetV3Small"])
def test_a_captioner_read_from_its_file_says_the_same(network: str, tmp_path: Path) -> None:
    keras.utils.set_random_seed(1)
    vision, shape = replace(VISION, network=network), (32, 32, 3)
    made = model("lstm", True, vision=vision, shape=shape, tied=False)
    given = inputs()
    given["image"] = tf.cast(tf.random.stateless_uniform([2, *shape], [1, 2], 0, 256), tf.uint8)
    made.save(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(again(given), made(given))
