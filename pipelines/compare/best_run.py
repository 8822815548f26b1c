"""What to run to have the winner again, and to go on from its settings."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from hydra import compose
from hydra.core.global_hydra import GlobalHydra
from hydra.initialize import initialize_config_dir

from pipelines.compare.run_records import ASIDE, Record
from pipelines.config.restore import resolved
from pipelines.core.files import atomic_write
from pipelines.core.paths import CONF

ENTRY = ("task", "model", "data", "decode", "train")
"""Groups whose options make a model; what follows from them is not repeated."""


def command(record: Record) -> str:
    """The command line that makes the run again, scores and all."""
    return shlex.join(["python", "main.py", *record.overrides])


def write_experiment(record: Record, directory: Path, name: str) -> str:
    """Writes experiment/NAME.yaml into the directory; returns the command that trains it."""
    values, choices = experiment(record)
    lines = [
        "# @package _global_",
        f"# The best of a comparison, {record.run.directory}.",
    ]
    train = f"python main.py --config-dir {shlex.quote(str(directory))} experiment={name}"
    defaults = [{f"override /{group}": option} for group, option in choices.items()]
    body = yaml.safe_dump({"defaults": defaults, **values}, sort_keys=False, allow_unicode=True)
    path = directory / "experiment" / f"{name}.yaml"
    with atomic_write(path) as temporary:
        temporary.write_text("\n".join([*lines, f"#   {train}", body]), encoding="utf-8")
    return train


def experiment(record: Record) -> tuple[dict[str, Any], dict[str, str]]:
    """What the run changes of the options of its groups, and these options."""
    choices = {group: record.choices[group] for group in ENTRY if group in record.choices}
    chosen = _composed([f"{key}={value}" for key, value in choices.items()])
    saved = {
        key: value for key, value in record.config.items() if key in chosen and key not in ASIDE
    }
    changed = changes(saved, chosen)
    changed.get("prepare", {}).pop("cache_dir", None)
    return {key: value for key, value in changed.items() if value != {}}, choices


def _composed(overrides: list[str]) -> dict[str, Any]:
    """Plain values; also within a run of Hydra's, of which there can be only one at a time."""
    outer = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            return resolved(compose("config", overrides))
    finally:
        GlobalHydra.instance().clear()
        if outer is not None:
            GlobalHydra.instance().initialize(outer)


def changes(values: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """The values that differ from those that are known, nested as they are."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        if key in known and known[key] == value:
            continue
        if isinstance(value, Mapping) and isinstance(known.get(key), Mapping):
            found[key] = changes(value, known[key])
        else:
            found[key] = value
    return found
