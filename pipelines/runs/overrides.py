"""Command-line overrides: those that a run has recorded, and the keys that overrides set."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from pipelines.core.saved_files import DamagedError, read_yaml
from pipelines.runs.directory import Run


def recorded_overrides(run: Run) -> list[str]:
    """The overrides on the command line that started the run; none if they aren't known."""
    try:
        recorded = read_yaml(run.directory / ".hydra" / "overrides.yaml", "start a new run")
    except (OSError, DamagedError):
        return []
    return [str(text) for text in recorded] if isinstance(recorded, list) else []


def is_option(group: str, option: object) -> bool:
    """Whether these can be a group and an option of it, such as "model" and "gru".

    A path is none: it could lead to a file that came with the run, and which could set anything.
    """
    names = (group, str(option))
    return all(re.fullmatch(r"\w[\w-]*", name, re.ASCII) for name in names) and group != "hydra"


def recorded_options(run: Run, groups: Collection[str]) -> list[str]:
    """The options of these groups that started the run, such as "model=gru"."""
    pairs = [text.partition("=")[::2] for text in recorded_overrides(run)]
    return [f"{key}={value}" for key, value in pairs if key in groups and is_option(key, value)]


def overridden_keys(overrides: Sequence[str]) -> list[str]:
    """The keys that overrides set, without Hydra's own: "train.epochs" for "+train.epochs=3"."""
    keys = [text.partition("=")[0].lstrip("+~").partition("@")[0] for text in overrides]
    return [key.replace("/", ".") for key in keys if not key.startswith("hydra")]
