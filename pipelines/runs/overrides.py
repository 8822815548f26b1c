"""Command-line overrides: those that a run recorded, and the keys that some set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import yaml

if TYPE_CHECKING:
    pass

from pipelines.runs.directory import Run


def recorded_overrides(run: Run) -> list[str]:
    """What the command line of a new run said; nothing where that isn't known."""
    try:
        recorded = yaml.safe_load((run.directory / ".hydra" / "overrides.yaml").read_text())
    except (OSError, yaml.YAMLError, UnicodeDecodeError):
        return []
    return [str(text) for text in recorded] if isinstance(recorded, list) else []


def overridden(overrides: Sequence[str]) -> list[str]:
    """The keys that command-line overrides set: "train.epochs" of "+train.epochs=3"."""
    keys = [text.partition("=")[0].lstrip("+~").partition("@")[0] for text in overrides]
    return [key.replace("/", ".") for key in keys if not key.startswith("hydra")]
