"""Settings and their values in the syntax of the command line."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

Value = str | int | float
"""A value of a swept parameter: text for a choice, a number within a range."""

SettingLookup = Callable[[str], str]
"""Looks up a setting's value as command-line text; "" for unknown settings."""


def format_value(value: object) -> str:
    """A YAML value in the syntax of the command line."""
    if value is None:
        return "null"
    if isinstance(value, list | tuple):
        return f"[{','.join(map(format_value, value))}]"
    return str(value).lower() if isinstance(value, bool) else str(value)


def parse_value(text: str) -> object:
    """The value of a command-line text: 0.001 for "1e-3", None for "null"."""
    try:
        return OverridesParser.create().parse_override(f"key={text}").value()
    except HydraException:
        return text


def create_lookup(values: Mapping[str, object], choices: Mapping[str, object]) -> SettingLookup:
    """Looks settings up in a composed configuration: its values, and each group's option."""

    def look_up(key: str) -> str:
        if key in choices:
            return format_value(choices[key])
        value: object = values
        for part in key.split("."):
            if not isinstance(value, Mapping) or part not in value:
                return ""
            value = value[part]
        return format_value(value)

    return look_up
