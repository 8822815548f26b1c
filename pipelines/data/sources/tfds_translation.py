"""Translation sets of TensorFlow Datasets (TFDS), by their name there."""

from __future__ import annotations

from typing import Literal

from models.settings import settings
from pipelines.data.sources._pairs import SentencePairs
from pipelines.data.sources._tfds import TfdsSet


@settings
class TfdsTranslation(SentencePairs, TfdsSet):
    """Each example is a sentence with its translation. Further settings: see TfdsSet."""

    format: Literal["tfds_translation"]
    source_column: str
    target_column: str
