"""A short name for all that decides the content of prepared data."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import inspect
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipelines.core.contracts import FieldCodec, Source
from pipelines.core.paths import PIPELINES
from pipelines.core.types import Json, JsonObject


def fingerprint(
    source: Source,
    codec: Mapping[str, FieldCodec],
    columns: Sequence[Json],
    settings: JsonObject,
) -> str:
    """20 hexadecimal digits that change with the data, the settings, or the code that decides."""
    request = {
        "source": source.fingerprint(),
        "codec": {name: _describe(part) for name, part in codec.items()},
        "columns": columns,
        "settings": settings,
        "code": _code(source, codec),
        # Its regular expressions and Unicode tables split the text.
        "tensorflow": importlib.metadata.version("tensorflow"),
    }
    text = json.dumps(request, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:20]


def _describe(codec: FieldCodec) -> JsonObject:
    """An unfitted codec's class and what its constructor was given."""

    def to_plain(value: object) -> Json:
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return dataclasses.asdict(value)
        if isinstance(value, FieldCodec):
            return _describe(value)
        kind = type(value).__name__
        raise TypeError(f"{type(codec).__name__} keeps a {kind} before it is fitted")

    kind = f"{type(codec).__module__}.{type(codec).__qualname__}"
    return {"class": kind, "with": json.loads(json.dumps(vars(codec), default=to_plain))}


def _code(source: Source, codec: Mapping[str, FieldCodec]) -> str:
    files = set((PIPELINES / "data").rglob("*.py"))
    files |= {Path(inspect.getfile(type(part))) for part in (source, *codec.values())}
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(path.read_bytes())
    return digest.hexdigest()
