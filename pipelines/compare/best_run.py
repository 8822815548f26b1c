"""Commands that reproduce the best run, and that train further from its settings."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path

import yaml
from hydra import compose
from hydra.core.global_hydra import GlobalHydra
from hydra.initialize import initialize_config_dir

from pipelines.compare.run_records import UNRELATED_KEYS, Record
from pipelines.config.restore import to_plain_values
from pipelines.core.files import atomic_write
from pipelines.core.paths import CONF
from pipelines.core.plain_text import one_line

ENTRY = ("task", "model", "data", "decode", "train")
"""Groups whose options define a model; settings that follow from them are left out."""


def reproduce_command(record: Record) -> str:
    """The command line that reproduces the run and its scores."""
    return shlex.join(["python", "main.py", *record.overrides])


def write_experiment(record: Record, directory: Path, name: str) -> str:
    """Writes experiment/NAME.yaml into the directory; returns the command that trains it."""
    values, choices = read_experiment(record)
    lines = [
        "# @package _global_",
        f"# The best run of a comparison: {one_line(record.run.directory)}.",
    ]
    train_command = f"python main.py --config-dir {shlex.quote(str(directory))} experiment={name}"
    defaults = [{f"override /{group}": option} for group, option in choices.items()]
    body = yaml.safe_dump({"defaults": defaults, **values}, sort_keys=False, allow_unicode=True)
    path = directory / "experiment" / f"{name}.yaml"
    with atomic_write(path) as temporary:
        temporary.write_text(
            "\n".join([*lines, f"#   {one_line(train_command)}", body]), encoding="utf-8"
        )
    return train_command


def read_experiment(record: Record) -> tuple[dict[str, object], dict[str, str]]:
    """The settings that the run changes in its groups' options, and these options."""
    choices = {group: record.choices[group] for group in ENTRY if group in record.choices}
    defaults = _compose([f"{key}={value}" for key, value in choices.items()])
    saved = {
        key: value
        for key, value in record.config.items()
        if key in defaults and key not in UNRELATED_KEYS
    }
    changed = changed_values(saved, defaults)
    prepare = changed.get("prepare")
    if isinstance(prepare, dict):
        prepare.pop("cache_dir", None)
    return {key: value for key, value in changed.items() if value != {}}, choices


def _compose(overrides: list[str]) -> dict[str, object]:
    """Composes a configuration, also inside a Hydra run.

    Hydra keeps its state in a global object, so that of the run is set aside meanwhile.
    """
    outer = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            return to_plain_values(compose("config", overrides))
    finally:
        GlobalHydra.instance().clear()
        if outer is not None:
            GlobalHydra.instance().initialize(outer)


def changed_values(
    values: Mapping[str, object], defaults: Mapping[str, object]
) -> dict[str, object]:
    """The values that differ from the defaults, with the same nesting."""
    differing: dict[str, object] = {}
    for key, value in values.items():
        default = defaults.get(key)
        if key in defaults and default == value:
            continue
        if isinstance(value, Mapping) and isinstance(default, Mapping):
            differing[key] = changed_values(value, default)
        else:
            differing[key] = value
    return differing
