"""The name of a sweep's study and directory, which the same command finds again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

EXECUTION_SETTINGS = (
    "trials", "prune_after", "prune_from", "prune_share", "parallel", "seconds", "run_seconds",
    "run_gigabytes", "failures", "retry", "storage",
)  # fmt: skip
"""Settings of a sweep that say how it is executed, not what it searches."""


def sweep_name(name: str | None, option: str, overrides: Sequence[str]) -> str:
    """The name of a sweep's study and directory: equal for commands with the same search."""
    if name is not None:
        return name
    execution = tuple(f"sweep.{key}=" for key in EXECUTION_SETTINGS)
    search = sorted(text for text in overrides if not text.lstrip("+").startswith(execution))
    return f"{option}-{hashlib.sha256(json.dumps(search).encode()).hexdigest()[:8]}"
