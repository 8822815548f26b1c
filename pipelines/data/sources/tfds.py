"""Text classification sets of TensorFlow Datasets (TFDS), by their name there."""

from __future__ import annotations

from typing import Literal

from models.settings import settings
from pipelines.data.sources._tfds import TfdsSet


@settings
class Tfds(TfdsSet):
    """Each example is a text with its label. Further settings: see TfdsSet."""

    format: Literal["tfds"]
    text_column: str
    label_column: str

    columns = ("text", "label")
    labels = ("label",)
