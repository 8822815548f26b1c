"""Vision networks: what their grids are, and that nothing depends on the batch."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import keras
import numpy as np
import pytest
import tensorflow as tf

from models.residual_network import Convolution, ResidualNetwork
from models.settings import (
    Network,
    VisionSettings,
    smallest_side,
)
from models.vision import Backbone, ImageEncoder

VISION = VisionSettings(
    network="residual", channels=[4, 8], blocks=[1, 2], weights=None, train_from=0, dropout=0.0
)
SHAPE = (16, 16, 3)


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


def test_an_image_is_seen_alike_alone_and_among_others() -> None:
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


def test_a_missing_file_of_weights_is_an_error_of_one_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="give a file of weights of this network") as error:
        Backbone("MobileNetV3Small", 32, 32).load_pretrained(str(tmp_path / "none.weights.h5"))
    assert "\n" not in str(error.value)


def test_a_network_gets_no_gradient_until_it_learns() -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, *SHAPE)).astype(np.uint8)
    encoder = ImageEncoder(VISION, SHAPE, 6)
    encoder.build()
    for learns in (False, True):
        with tf.GradientTape() as tape:
            seen = encoder(images, network_trainable=tf.constant(learns))
            loss = tf.reduce_sum(seen * tf.random.stateless_normal(tf.shape(seen), [1, 2]))
        weights = encoder.network.trainable_variables
        gradients = tape.gradient(loss, [weight.value for weight in weights])
        assert any(g is not None and np.any(g) for g in gradients) == learns
