"""A user's mistake in one line: what was wrong, where, and the nearest valid names."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from dataclasses import fields
from typing import TYPE_CHECKING, cast

from pipelines.core.errors import UserError, shown, suggest
from pipelines.core.paths import CONF
from pipelines.core.types import Config as Values

if TYPE_CHECKING:
    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

OPEN = ("sweep.space",)
"""Settings that take any key."""

RENAMED = {
    "data.pictures": "data.images",
    "prepare.division_seed": "prepare.split_seed",
    "serve.batch_wait": "serve.batch_timeout",
    "serve.max_waiting": "serve.max_queue",
    "serve.notice": "serve.drain_seconds",
    "serve.watch": "serve.reload_interval",
    "sweep.each": "sweep.fixed",
    "sweep.first": "sweep.start_from",
    "train.accumulate": "train.accumulation_steps",
    "train.average": "train.ema_decay",
    "train.average_best": "train.checkpoint_averaging",
    "train.by_length": "train.bucket_by_length",
    "train.final_rate": "train.final_lr_ratio",
}
"""Settings by their former names, which answer with the new ones."""

PLUGINS = {"submitit_slurm": "submitit", "submitit_local": "submitit"}
"""Options of hydra/launcher that come with an extra of ours."""


def from_validation(error: ValidationError, where: str, cls: type) -> UserError:
    """The first finding of a pydantic ValidationError about settings of class `cls`."""
    found = error.errors()
    first = found[0]
    # After a setting's name come places inside of its value, and the kinds that it may be of.
    name = str(first["loc"][0]) if first["loc"] else ""
    path = f"{where}.{name}" if name else where
    if first["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        names = [field.name for field in fields(cls)]
        return UserError(f"{path}: there is no such setting; {suggest(name, names)}")
    if first["type"] in ("missing", "missing_argument"):
        return UserError(f"{path}: a value is needed")
    rules = [one for one in found if one["loc"][:1] == first["loc"][:1]]
    # A value of the right kind with a wrong item is wrong by that item, not by its other kinds.
    in_items = [one for one in rules if any(isinstance(part, int) for part in one["loc"])]
    first = (in_items or rules)[0]
    place = next((part + 1 for part in first["loc"] if isinstance(part, int)), None)
    same = [one for one in rules if one["input"] is first["input"]]
    texts = list(dict.fromkeys(_rule(one) for one in in_items[:1] or same))
    rule = texts[0] + "".join(f" or {text.removeprefix('must be ')}" for text in texts[1:])
    item = "" if place is None else f"item {place} "
    hint = ""
    if first["type"] == "literal_error":
        near = difflib.get_close_matches(str(first["input"]), _choices(first), n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
    return UserError(f"{path}: {item}{rule}; received {shown(first['input'])}{hint}")


def _rule(error: ErrorDetails) -> str:
    """What a value must be."""
    if error["type"] == "literal_error":
        return f"must be one of {', '.join(_choices(error))}"
    message = error["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    return message.replace("input should be", "must be")


def _choices(error: ErrorDetails) -> list[str]:
    return re.findall(r"'([^']*)'", error["ctx"]["expected"])


def explain_hydra(error: Exception, arguments: list[str]) -> str:
    """An error of Hydra or OmegaConf about the command line, in one line, with suggestions."""
    text = " ".join(str(part) for part in _chain(error))
    options = getattr(error, "options", None)
    missing = getattr(error, "missing_cfg_file", None)
    if options is not None and missing:
        group, _, option = missing.rpartition("/")
        if group == "hydra/launcher" and option in PLUGINS:
            return f"{group}={option} is not installed: pip install '.[{PLUGINS[option]}]'"
        return f"{group}={option}: no such option; {suggest(option, options)}"
    key = re.search(r"Could not (?:override|delete|append)[^']*'([^'=]+)", text)
    if key and ("not in struct" in text or "No match in the defaults list" in text):
        if key[1] in OPEN:
            return f"{key[1]}: what it hasn't yet is added with a plus: +{key[1]}=..."
        # Of task.embedding={widht:3} it is task.embedding.widht that isn't there.
        inner = re.search(r"full_key: (\S+)", text)
        wrong = inner[1] if inner and inner[1].startswith(f"{key[1]}.") else key[1]
        if wrong in RENAMED:
            return f"{wrong} is now called {RENAMED[wrong]}"
        return f"{wrong}: there is no such setting; {_nearest_key(wrong, _valid_keys(arguments))}"
    if bare := re.search(r"Error parsing override '([^'=]+)'\s+missing EQUAL", text):
        return f"{bare[1]} needs a value: {bare[1]}=VALUE"
    return " ".join(next(filter(None, map(str, _chain(error))), type(error).__name__).split())


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error and its causes, the outermost first."""
    while error is not None:
        yield error
        error = error.__cause__


def _valid_keys(arguments: list[str]) -> set[str]:
    """All dotted names of the configuration, with the groups chosen as far as they exist."""
    from hydra import compose
    from hydra.errors import HydraException
    from hydra.initialize import initialize_config_dir
    from omegaconf import OmegaConf

    groups = [a.partition(",")[0] for a in arguments if (CONF / a.partition("=")[0]).is_dir()]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        try:
            config = compose("config", groups)
        except HydraException:
            config = compose("config")
    return set(_list_keys(cast(Values, OmegaConf.to_container(config)), ""))


def _list_keys(values: Values, prefix: str) -> Iterator[str]:
    for key, value in values.items():
        yield f"{prefix}{key}"
        if isinstance(value, dict):
            yield from _list_keys(value, f"{prefix}{key}.")


def _nearest_key(received: str, valid_keys: set[str]) -> str:
    """Similar keys by the whole name or by its last part; else the keys of its parent."""
    last = received.rpartition(".")[2]
    near = difflib.get_close_matches(received, valid_keys, n=3, cutoff=0.75)
    near = near or sorted(key for key in valid_keys if key.rpartition(".")[2] == last)
    near = near or [
        key
        for name in difflib.get_close_matches(last, {k.rpartition(".")[2] for k in valid_keys}, n=2)
        for key in sorted(valid_keys)
        if key.rpartition(".")[2] == name
    ]
    if near:
        return f"did you mean {' or '.join(near[:3])}?"
    parent = received.rpartition(".")[0]
    siblings = {k.removeprefix(f"{parent}.") for k in valid_keys if k.startswith(f"{parent}.")}
    return suggest(last, siblings or {key.partition(".")[0] for key in valid_keys})
