"""The name of a sweep's study and directory, which the same command finds again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

HOW = (
    "trials", "prune_after", "prune_from", "prune_share", "parallel", "seconds", "run_seconds",
    "run_gigabytes", "failures", "retry", "storage",
)  # fmt: skip
"""Settings of a sweep that say how it is done, not what is asked."""


def sweep_name(name: str | None, option: str, overrides: Sequence[str]) -> str:
    """Of a sweep's study and directory: the same for commands that ask the same."""
    if name is not None:
        return name
    how = tuple(f"sweep.{key}=" for key in HOW)
    asked = sorted(text for text in overrides if not text.lstrip("+").startswith(how))
    return f"{option}-{hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:8]}"
