"""Models that earlier versions saved: registered names, paths of weights, and arguments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import keras
import pytest

from models.attention import Attention
from models.captioner import Captioner
from models.classifier import TimeMajor
from models.encoder_decoder import EncoderDecoder
from models.heads import Pooling
from models.serialization import FromConfig
from models.vision import ImageEncoder


@pytest.mark.parametrize(
    ("name", "layer"), [("recurrent>Steps", TimeMajor), ("recurrent>PictureEncoder", ImageEncoder)]
)
def test_layers_are_registered_under_the_names_in_saved_models(name: str, layer: type) -> None:
    assert keras.saving.get_registered_object(name) is layer


def test_the_paths_of_saved_weights_have_the_former_class_name() -> None:
    assert ImageEncoder.__name__ == "PictureEncoder"


@pytest.mark.parametrize("layer", [Attention("general", 4), Pooling("mean_max")])
def test_the_kind_of_a_layer_is_read_under_its_former_name(layer: Attention | Pooling) -> None:
    config = layer.get_config()
    config["how"] = config.pop("kind")
    assert type(layer).from_config(config).kind == layer.kind


def test_arguments_are_read_under_their_former_names() -> None:
    assert Captioner.former_names == {"shape": "image_shape", "size": "vocabulary_size"}
    assert EncoderDecoder.former_names == {"sizes": "vocabulary_sizes"}


class Shaped(FromConfig):
    config_types: ClassVar[Mapping[str, type]] = {"image_shape": tuple}
    former_names: ClassVar[Mapping[str, str]] = {"shape": "image_shape"}

    def __init__(self, image_shape: tuple[int, ...], seed: int) -> None:
        self.image_shape, self.seed = image_shape, seed


@pytest.mark.parametrize("name", ["shape", "image_shape"])
def test_a_saved_configuration_gives_arguments_of_their_types(name: str) -> None:
    made = Shaped.from_config({name: [2, 3], "seed": 1})
    assert (made.image_shape, made.seed) == ((2, 3), 1)
