"""The configuration of an existing run, with what the command line may change in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import yaml
from omegaconf import DictConfig, OmegaConf

from pipelines.config.messages import RENAMED
from pipelines.config.schema import parse
from pipelines.core.errors import UserError, shown
from pipelines.core.files import atomic_write
from pipelines.core.saved_files import DamagedError, read_yaml, reading
from pipelines.core.types import Config as Values
from pipelines.runs.directory import Run
from pipelines.runs.overrides import overridden_keys, recorded_overrides

END = "...\n"
"""End of config.yaml, a YAML mark: a setting that a complete file lacks is newer than the run."""

KINDS = ("name", "format", "strategy")
"""Settings whose value decides which settings stand next to them."""

OVERRIDABLE = {
    "train": ("train", "evaluate", "export", "decode", "prepare.cache_dir", "data"),
    "evaluate": ("evaluate", "decode", "prepare.cache_dir", "data"),
    "export": ("export", "decode", "prepare.cache_dir", "data"),
    "predict": ("data", "predict"),
    "serve": ("serve",),
}
"""By mode, the settings that may differ from the run's own. Data is compared by its content."""

EPHEMERAL_KEYS = ("predict", "serve", "sweep", "runs")
"""Settings that aren't saved in the run's directory."""


def resolve_config(composed: DictConfig, overrides: Sequence[str]) -> Values:
    """The composed settings or, with run=DIRECTORY, the run's own with the overrides on top.

    The run's config.yaml takes precedence over conf/, which may have changed since. UserError for
    an override that contradicts the trained model.
    """
    values = to_plain_values(composed)
    if values["run"] is None:
        return values
    if values["mode"] == "serve":
        return _serve_config(values, overrides)
    run = Run(str(values["run"]))
    saved = load_run_config(run, values)
    # The run's own choices of options were repeated to compose the rest; its values are saved.
    recorded = [text for text in recorded_overrides(run) if "." not in text.partition("=")[0]]
    keys = overridden_keys([text for text in overrides if text not in recorded])
    for key in [*keys, "mode", "run", "input", "output"]:
        *parents, last = key.split(".")
        source, target = values, saved
        for parent in parents:
            source, target = source[parent], target.setdefault(parent, {})
        if last not in source or target.get(last) == source[last]:
            continue
        free = (*OVERRIDABLE.get(values["mode"], ()), "mode", "run", "input", "output")
        if not _is_within(key, free):
            former = target.get(last)
            former = "another" if isinstance(former, dict) else shown(former)
            modes = [mode for mode, names in OVERRIDABLE.items() if _is_within(key, names)]
            remedy = f"it goes with mode={modes[-1]}" if modes else "start a new run"
            raise UserError(
                f"{key} can't be changed for {run.directory} with mode={values['mode']}: "
                f"it was made with {former}; {remedy}"
            )
        target[last] = source[last]
    return saved


def _is_within(key: str, names: Sequence[str]) -> bool:
    """Whether the key is one of the names, or below one of them."""
    return any(key == name or key.startswith(f"{name}.") for name in names)


def _serve_config(values: Values, overrides: Sequence[str]) -> Values:
    """The settings of a server, which only serves SavedModels. UserError for any other override."""
    for key in overridden_keys(overrides):
        if key not in ("mode", "run") and key.partition(".")[0] not in OVERRIDABLE["serve"]:
            raise UserError(f"{key} can't be set with mode=serve: what is served is a finished run")
    return values


def to_plain_values(composed: DictConfig) -> Values:
    """The composed settings as plain dicts and lists, without Hydra's own."""
    keys = [str(key) for key in composed if key not in ("hydra", "experiment")]
    values = OmegaConf.to_container(OmegaConf.masked_copy(composed, keys), resolve=True)
    return {str(key): value for key, value in cast(dict, values).items()}


def save_config(run: Run, values: Values) -> None:
    """Saves the settings as those of a new run: later modes get their own from the command line."""
    saved = {**values, "mode": "train", "run": None, "input": None, "output": None}
    for name in EPHEMERAL_KEYS:
        del saved[name]
    with atomic_write(run.config) as temporary:
        text = yaml.safe_dump(saved, sort_keys=False, allow_unicode=True) + END
        temporary.write_text(text, encoding="utf-8")


def _with_new_names(saved: Values, current: Values) -> Values:
    """The saved settings, each under its present name."""
    for former, present in RENAMED.items():
        (group, old), new = former.split("."), present.partition(".")[2]
        section = saved.get(group)
        if isinstance(section, dict) and old in section and new in current.get(group, {}):
            section[new] = section.pop(old)
    return saved


ABSENT: Values = {"task": {"ngrams": {"order": 0}, "adversarial": 0.0, "ensemble": 1}}
"""Settings of which a default or an experiment changed the model: their values in runs that were
made before there were such settings.
"""


def _fill_missing(saved: Values, current: Values) -> Values:
    """The saved settings, with defaults for settings that are newer than the run."""
    if any(saved.get(key) != current.get(key) for key in KINDS):
        return saved
    return {
        key: _fill_missing(saved[key], value)
        if isinstance(value, dict) and isinstance(saved.get(key), dict)
        else saved.get(key, value)
        for key, value in current.items()
    }


def _as_of_old(saved: Values, current: Values) -> Values:
    """The current settings, but those in ABSENT as they were before there was such a section."""
    made = {**current}
    for group, sections in ABSENT.items():
        for name, values in sections.items():
            there = isinstance(saved.get(group), dict) and name in saved[group]
            if there or name not in current.get(group, {}):
                continue
            section = made[group][name]
            before = {**section, **values} if isinstance(values, dict) else values
            made[group] = {**made[group], name: before}
    return made


def load_run_config(run: Run, current: Values) -> Values:
    """The settings that a run was made with; those that aren't saved are the current ones."""
    try:
        with reading(run.config, "start a new run"):
            saved = read_yaml(run.config, "start a new run")
            text = run.config.read_text(encoding="utf-8")
            if not isinstance(saved, dict) or not text.rstrip().endswith(END.rstrip()):
                raise UserError("it isn't whole")
            saved |= {name: current[name] for name in EPHEMERAL_KEYS}
            saved = _fill_missing(_with_new_names(saved, current), _as_of_old(saved, current))
            parse(saved)
    except NotADirectoryError:
        raise UserError(f"run={run.directory} is not a run's directory: it is a file") from None
    except FileNotFoundError:
        exists = run.directory.exists()
        hint = "it holds no config.yaml" if exists else "there is no such directory"
        raise UserError(f"run={run.directory} is not a run's directory: {hint}") from None
    except DamagedError:
        raise
    except (UserError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{run.config} is damaged or of another version: {reason}") from None
    return saved
