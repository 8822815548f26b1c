"""Captioners: the whole caption and one position agree, and nothing leaks."""

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

from models.captioner import Captioner
from models.settings import VisionSettings

VISION = VisionSettings(
    network="residual", channels=[4, 8], blocks=[1, 2], weights=None, train_from=0, dropout=0.0
)
SHAPE = (16, 16, 3)


def build_model(
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


def make_inputs() -> dict[str, tf.Tensor]:
    """Two images, the second with two captions."""
    random = np.random.default_rng(0)
    target = random.integers(4, 13, (3, 5)).astype(np.int32)
    target[:, 0] = 2
    target[1, 3:] = 0
    inputs = {
        "image": random.integers(0, 256, (2, *SHAPE)).astype(np.uint8),
        "owner": np.array([0, 1, 1], np.int32),
        "target": target,
    }
    return {name: tf.constant(value) for name, value in inputs.items()}


def decode_stepwise(model: Captioner, inputs: dict[str, tf.Tensor]) -> np.ndarray:
    """(N, T, V) logits, position by position."""
    seen = model.encode(inputs["image"])
    memory, state = tf.nest.map_structure(lambda x: tf.gather(x, inputs["owner"]), seen)
    state = tf.nest.map_structure(lambda x: x[:, tf.newaxis], state)
    logits = []
    for t in range(inputs["target"].shape[1]):
        one, state, _ = model.decoder.step(inputs["target"][:, t : t + 1], state, memory)
        logits.append(one.numpy()[:, 0])
    return np.stack(logits, 1)


@pytest.mark.parametrize(("cell", "bidirectional"), CELLS_AND_DIRECTIONS)
@pytest.mark.parametrize("attention", ["none", "dot", "additive"])
@pytest.mark.parametrize("feeding", [False, True])
def test_the_whole_caption_equals_repeated_steps(
    cell: str, bidirectional: bool, attention: str, feeding: bool
) -> None:
    model, inputs = (
        build_model(cell, bidirectional, attention=attention, input_feeding=feeding),
        make_inputs(),
    )
    real = inputs["target"].numpy() != 0
    np.testing.assert_allclose(
        decode_stepwise(model, inputs)[real], model(inputs).numpy()[real], atol=1e-5
    )


@pytest.mark.parametrize(("cell", "bidirectional"), CELLS_AND_DIRECTIONS)
@pytest.mark.parametrize(("attention", "pooling"), [("none", "mean_max"), ("general", "attention")])
def test_every_weight_learns(cell: str, bidirectional: bool, attention: str, pooling: str) -> None:
    model, inputs = (
        build_model(cell, bidirectional, attention=attention, pooling=pooling),
        make_inputs(),
    )
    check_every_weight_learns(model, inputs)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_several_captions_of_an_image_are_as_the_image_repeated(bidirectional: bool) -> None:
    model, inputs = build_model("lstm", bidirectional), make_inputs()
    repeated = inputs | {
        "image": tf.gather(inputs["image"], inputs["owner"]),
        "owner": tf.range(3),
    }
    np.testing.assert_allclose(model(repeated), model(inputs), atol=1e-5)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_batch_gives_what_its_members_give_alone_and_padding_nothing(bidirectional: bool) -> None:
    model, inputs = build_model("gru", bidirectional), make_inputs()
    together = model(inputs).numpy()
    alone = {
        "image": inputs["image"][1:],
        "owner": tf.constant([0]),
        "target": inputs["target"][1:2, :3],
    }
    np.testing.assert_allclose(model(alone)[0], together[1, :3], atol=1e-5)


def test_attention_sums_to_one_over_the_places() -> None:
    _, weights = build_model(input_feeding=True).readouts_and_attention(make_inputs())
    assert weights.shape == (3, 5, 4)
    np.testing.assert_allclose(tf.reduce_sum(weights, -1), np.ones((3, 5)), rtol=1e-5)


def test_features_of_a_frozen_network_are_read_as_they_are(tmp_path: Path) -> None:
    vision = replace(VISION, network="MobileNetV3Small", train_from=None)
    model = build_model(vision=vision, shape=(2, 3, 7))
    assert not any("MobileNet" in v.path or "network" in v.path for v in model.variables)
    inputs = make_inputs()
    inputs["image"] = tf.cast(tf.random.stateless_normal([2, 2, 3, 7], [1, 2]), tf.float16)
    assert model(inputs).shape == (3, 5, 13)
    assert model.readouts_and_attention(inputs)[1].shape[-1] == 6


@pytest.mark.parametrize("network", ["residual", "MobileNetV3Small"])
def test_a_captioner_read_from_its_file_gives_the_same_logits(network: str, tmp_path: Path) -> None:
    keras.utils.set_random_seed(1)
    vision, shape = replace(VISION, network=network), (32, 32, 3)
    model = build_model("lstm", True, vision=vision, shape=shape, tied=False)
    inputs = make_inputs()
    inputs["image"] = tf.cast(tf.random.stateless_uniform([2, *shape], [1, 2], 0, 256), tf.uint8)
    model.save(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(again(inputs), model(inputs))
