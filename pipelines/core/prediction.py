"""How stages ask a model for predictions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from pipelines.core.contracts import Batch


class Predict(Protocol):
    """From a batch to predictions by name; `raw` columns are wanted among its inputs."""

    raw: tuple[str, ...]

    def __call__(self, batch: Batch) -> Mapping[str, Any]: ...
