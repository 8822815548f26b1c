"""Settings and their values as they are typed on the command line."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

Value = str | int | float
Setting = Callable[[str], str]
"""The text of a setting that is not varied, by its name; "" where there is none."""


def as_typed(value: Any) -> str:
    """A YAML value as it is typed on the command line."""
    if value is None:
        return "null"
    if isinstance(value, list | tuple):
        return f"[{','.join(map(as_typed, value))}]"
    return str(value).lower() if isinstance(value, bool) else str(value)


def settings_in(values: Mapping[str, Any], choices: Mapping[str, Any]) -> Setting:
    """Of a composed configuration: its values, and the option of each group."""

    def setting(key: str) -> str:
        if key in choices:
            return as_typed(choices[key])
        value: Any = values
        for part in key.split("."):
            if not isinstance(value, Mapping) or part not in value:
                return ""
            value = value[part]
        return as_typed(value)

    return setting


def meant(text: str) -> Any:
    """The value that a text on the command line stands for: 0.001 for "1e-3", None for "null"."""
    try:
        return OverridesParser.create().parse_override(f"key={text}").value()
    except HydraException:
        return text
