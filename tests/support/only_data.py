"""A task that has data and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipelines.core.contracts import FieldCodec
from pipelines.core.task import Task


class OnlyData(Task):
    """What prepare asks of a task."""

    name = "only_data"
    metrics = ()

    def __init__(
        self,
        codec: Mapping[str, FieldCodec],
        *,
        dedupe_by: tuple[str, ...] = (),
        stratify_by: str | None = None,
        group_by: tuple[str, ...] = (),
    ):
        self._codec = codec
        self.columns = tuple(dict.fromkeys(part.column for part in codec.values()))
        self.input_columns = self.columns
        self.dedupe_by, self.stratify_by, self.group_by = dedupe_by, stratify_by, group_by

    def codec(self) -> Mapping[str, FieldCodec]:
        return self._codec

    def build(self, *_: Any) -> Any: ...
    def batch(self, *_: Any) -> Any: ...
    def losses(self, *_: Any) -> Any: ...
    def predict(self, *_: Any, **__: Any) -> Any: ...
    def score(self, *_: Any) -> Any: ...
