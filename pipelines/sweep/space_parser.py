"""Reads a sweep's space from YAML and the command line, by Hydra's own override grammar."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import (
    ChoiceSweep,
    IntervalSweep,
    Override,
    RangeSweep,
    Sweep,
)
from hydra.errors import HydraException

from pipelines.config.quoting import FREE_TEXT_KEYS
from pipelines.core.errors import UserError, shown
from pipelines.sweep.overrides import format_value
from pipelines.sweep.space import Parameter, Space


def parse_space(
    listed: Mapping[str, object], arguments: Sequence[str], fixed: Sequence[str]
) -> Space:
    """The space of a sweep: the YAML's parameters, the command line's, and the fixed settings.

    listed     sweep.space: the command line adds parameters to it, replaces them, or removes one
               by fixing its setting.
    arguments  the command line.
    fixed      sweep.fixed, of which the command line's settings take precedence.
    """
    parser = OverridesParser.create()
    overrides = [parser.parse_override(text) for text in arguments]
    overrides = [override for override in overrides if not _key(override).startswith("sweep")]
    typed_keys = {_key(override) for override in overrides}
    parameters: dict[str, Parameter] = {}
    for key, value in listed.items():
        values, when = _split_condition(key, value) if isinstance(value, dict) else (value, {})
        if key not in typed_keys:
            parameters[key] = _parse_choices(parser, key, str(values), when)
    for override in overrides:
        if override.is_sweep_override():
            parameters[_key(override)] = _create_parameter(override, {})
    shared = [
        override
        for override in map(parser.parse_override, fixed)
        if _key(override) not in typed_keys
    ]
    texts = [
        _format(override) for override in (*shared, *overrides) if not override.is_sweep_override()
    ]
    return Space(_order_by_conditions(parameters), tuple(texts))


def _split_condition(key: str, value: Mapping[str, object]) -> tuple[object, Mapping[str, object]]:
    """The values of a parameter, and its condition."""
    when = value.get("when")
    conditions = list(when.values()) if isinstance(when, dict) else [{}]
    has_both = set(value) == {"values", "when"}
    if not isinstance(when, dict) or not has_both or any(isinstance(x, dict) for x in conditions):
        received = ", ".join(f"{name}: {part}" for name, part in value.items())
        raise UserError(
            f"sweep.space.{key}: values with a condition are {{values: ..., when: {{SETTING: "
            f"VALUE}}}}; received {{{received}}}"
        )
    return value["values"], when


def _parse_choices(
    parser: OverridesParser, key: str, values: str, when: Mapping[str, object]
) -> Parameter:
    try:
        override = parser.parse_override(f"{key}={values}")
    except HydraException as error:
        reason = " ".join(str(error.__cause__ or error).split())
        raise UserError(f"sweep.space.{key}: {shown(values)} can't be read: {reason}") from None
    if not override.is_sweep_override():
        raise UserError(
            f"sweep.space.{key}: values to choose from are needed, such as choice(1, 2) or "
            f"interval(0.0, 0.5); received {shown(values)}"
        )
    texts = {
        name: tuple(map(format_value, value if isinstance(value, list) else [value]))
        for name, value in when.items()
    }
    return _create_parameter(override, texts)


def _create_parameter(override: Override, when: Mapping[str, tuple[str, ...]]) -> Parameter:
    key, typed_key, value = _key(override), override.get_key_element(), override.value()
    log = isinstance(value, Sweep) and "log" in value.tags
    if isinstance(value, IntervalSweep):
        low, high = value.start, value.end
        if low is None or high is None or not low < high or (log and low <= 0):
            required = "0 < low < high" if log else "low < high"
            raise UserError(f"{key}: an interval needs {required}; received {low} to {high}")
        step = 1 if isinstance(low, int) and isinstance(high, int) else None
        return Parameter(key, typed_key, (), low, high, step, log, when)
    if isinstance(value, RangeSweep) and not value.shuffle and not log:
        numbers = list(value.range())
        if len(numbers) > 1:
            last = round(numbers[-1], 12)
            return Parameter(key, typed_key, (), numbers[0], last, value.step, False, when)
    if not isinstance(value, ChoiceSweep | RangeSweep):
        raise UserError(f"{key}: a sweep over {shown(override.input_line)} is not supported")
    texts = tuple(dict.fromkeys(_unquote(key, text) for text in override.sweep_string_iterator()))
    if not texts:
        raise UserError(f"{key}: there is no value in {shown(override.input_line)}")
    return Parameter(key, typed_key, texts, when=when)


def _key(override: Override) -> str:
    """The key without its prefix: "train.epochs" of "+train.epochs=3"."""
    return override.get_key_element().lstrip("+~")


def _format(override: Override) -> str:
    """The override as a person types it: free text needs no quotes."""
    value = override.value()
    is_free_text = FREE_TEXT_KEYS.fullmatch(_key(override)) and isinstance(value, str)
    if override.is_delete() or not is_free_text:
        return str(override.input_line)
    return f"{override.get_key_element()}={value}"


def _unquote(key: str, text: str) -> str:
    """A value as a person types it. Hydra gives true, false and null their Python names."""
    text = {"True": "true", "False": "false", "None": "null"}.get(text, text)
    if not FREE_TEXT_KEYS.fullmatch(key):
        return text
    value = OverridesParser.create().parse_override(f"{key}={text}").value()
    return value if isinstance(value, str) else text


def _order_by_conditions(parameters: Mapping[str, Parameter]) -> tuple[Parameter, ...]:
    """Each parameter after those in its condition. Raises UserError for a cycle."""
    ordered: dict[str, Parameter] = {}
    waiting = dict(parameters)
    while waiting:
        ready = [
            key
            for key, parameter in waiting.items()
            if not any(name in waiting for name in parameter.when)
        ]
        if not ready:
            names = ", ".join(waiting)
            raise UserError(f"sweep.space: the conditions of {names} form a cycle")
        for key in ready:
            ordered[key] = waiting.pop(key)
    return tuple(ordered.values())
