"""Command-line overrides: those that a run has recorded, and the keys that overrides set."""

from __future__ import annotations

from collections.abc import Sequence

import yaml

from pipelines.runs.directory import Run


def recorded_overrides(run: Run) -> list[str]:
    """The overrides on the command line that started the run; none if they aren't known."""
    try:
        recorded = yaml.safe_load((run.directory / ".hydra" / "overrides.yaml").read_text())
    except (OSError, yaml.YAMLError, UnicodeDecodeError):
        return []
    return [str(text) for text in recorded] if isinstance(recorded, list) else []


def overridden_keys(overrides: Sequence[str]) -> list[str]:
    """The keys that overrides set, without Hydra's own: "train.epochs" for "+train.epochs=3"."""
    keys = [text.partition("=")[0].lstrip("+~").partition("@")[0] for text in overrides]
    return [key.replace("/", ".") for key in keys if not key.startswith("hydra")]
