"""The configuration of an existing run, with what the command line may change in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import yaml
from omegaconf import DictConfig, OmegaConf

from pipelines.config.messages import RENAMED
from pipelines.config.schema import parse
from pipelines.core.errors import UserError
from pipelines.core.files import atomic_write
from pipelines.core.types import Config as Values
from pipelines.runs.directory import Run
from pipelines.runs.overrides import overridden_keys, recorded_overrides

END = "...\n"
"""Of config.yaml, as YAML has it: what is missing in a whole file came later than the run."""


KINDS = ("name", "format", "strategy")
"""Settings that say which others there are beside them."""


OVERRIDABLE = {
    "train": ("train", "evaluate", "export", "decode", "prepare.cache_dir", "data"),
    "evaluate": ("evaluate", "decode", "prepare.cache_dir", "data"),
    "export": ("export", "decode", "prepare.cache_dir", "data"),
    "predict": ("data",),
    "serve": ("serve",),
}
"""By mode, the settings that may differ from a run's own; that the data is still the same data is
checked by its content."""


EPHEMERAL_KEYS = ("serve", "sweep", "runs")
"""Settings that its directory doesn't keep."""


def resolve_config(composed: DictConfig, overrides: Sequence[str]) -> Values:
    """The settings: as composed or, with run=DIRECTORY, the run's own with the overrides on top.

    The run's config.yaml is the truth about the run; conf/ may have changed since. UserError for an
    override that would contradict what was trained.
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
    given = overridden_keys([text for text in overrides if text not in recorded])
    for key in [*given, "mode", "run", "input", "output"]:
        *parents, last = key.split(".")
        source, target = values, saved
        for parent in parents:
            source, target = source[parent], target.setdefault(parent, {})
        if last not in source or target.get(last) == source[last]:
            continue
        free = (*OVERRIDABLE.get(values["mode"], ()), "mode", "run", "input", "output")
        if not _is_within(key, free):
            made = target.get(last)
            made = "another" if isinstance(made, dict) else repr(made)
            modes = [mode for mode, names in OVERRIDABLE.items() if _is_within(key, names)]
            remedy = f"it goes with mode={modes[-1]}" if modes else "start a new run"
            raise UserError(
                f"{key} can't be changed for {run.directory} with mode={values['mode']}: "
                f"it was made with {made}; {remedy}"
            )
        target[last] = source[last]
    return saved


def _is_within(key: str, names: Sequence[str]) -> bool:
    """Whether the key is one of them, or below one."""
    return any(key == name or key.startswith(f"{name}.") for name in names)


def _serve_config(values: Values, overrides: Sequence[str]) -> Values:
    """A server looks at SavedModels only, of runs or of others: what else is set has no effect."""
    for key in overridden_keys(overrides):
        if key not in ("mode", "run") and key.partition(".")[0] not in OVERRIDABLE["serve"]:
            raise UserError(f"{key} can't be set with mode=serve: what is served is a finished run")
    return values


def to_plain_values(composed: DictConfig) -> Values:
    """Plain values, without Hydra's own settings."""
    keys = [str(key) for key in composed if key not in ("hydra", "experiment")]
    values = OmegaConf.to_container(OmegaConf.masked_copy(composed, keys), resolve=True)
    return {str(key): value for key, value in cast(dict, values).items()}


def save_config(run: Run, values: Values) -> None:
    """As of a new run: what a later mode asks for is asked anew."""
    kept = {**values, "mode": "train", "run": None, "input": None, "output": None}
    for name in EPHEMERAL_KEYS:
        del kept[name]
    with atomic_write(run.config) as temporary:
        text = yaml.safe_dump(kept, sort_keys=False, allow_unicode=True) + END
        temporary.write_text(text, encoding="utf-8")


def _with_new_names(saved: Values, asked: Values) -> Values:
    """The saved settings, each under its present name."""
    for former, present in RENAMED.items():
        (group, old), new = former.split("."), present.partition(".")[2]
        section = saved.get(group)
        if isinstance(section, dict) and old in section and new in asked.get(group, {}):
            section[new] = section.pop(old)
    return saved


def _fill_missing(saved: Values, asked: Values) -> Values:
    """With settings that there weren't yet when the run was made, as they are by default."""
    if any(saved.get(key) != asked.get(key) for key in KINDS):
        return saved
    return {
        key: _fill_missing(saved[key], value)
        if isinstance(value, dict) and isinstance(saved.get(key), dict)
        else saved.get(key, value)
        for key, value in asked.items()
    }


def load_run_config(run: Run, asked: Values) -> Values:
    """The settings that a run was made with; those that it doesn't keep are `asked`'s."""
    try:
        text = run.config.read_text(encoding="utf-8")
        saved = yaml.safe_load(text)
        if not isinstance(saved, dict) or not text.rstrip().endswith(END.rstrip()):
            raise UserError("it isn't whole")
        saved |= {name: asked[name] for name in EPHEMERAL_KEYS}
        saved = _fill_missing(_with_new_names(saved, asked), asked)
        parse(saved)
    except NotADirectoryError:
        raise UserError(f"run={run.directory} is not a run's directory: it is a file") from None
    except FileNotFoundError:
        exists = run.directory.exists()
        hint = "it holds no config.yaml" if exists else "there is no such directory"
        raise UserError(f"run={run.directory} is not a run's directory: {hint}") from None
    except (yaml.YAMLError, KeyError, UserError, UnicodeDecodeError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{run.config} is damaged or of another version: {reason}") from None
    return saved
