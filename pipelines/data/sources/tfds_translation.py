"""Translation sets of TensorFlow Datasets (TFDS), by their name there."""

from __future__ import annotations

from typing import Literal

from models.settings import settings
from pipelines.data.sources._pairs import Pairs
from pipelines.data.sources._tfds import TfdsSet


@settings
class TfdsTranslation(Pairs, TfdsSet):
    """A sentence and its translation an example. What it shares with others: see TfdsSet."""

    format: Literal["tfds_translation"]
    source_column: str
    target_column: str
