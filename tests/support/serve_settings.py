"""A server's settings as conf/ has them, but for a few."""

from __future__ import annotations

from typing import Any

import yaml

from pipelines.core.paths import CONF
from pipelines.core.settings import ServeSettings


def serve_settings(**changed: Any) -> ServeSettings:
    values = yaml.safe_load((CONF / "serve" / "default.yaml").read_text(encoding="utf-8"))
    return ServeSettings(**{**values, **changed})
