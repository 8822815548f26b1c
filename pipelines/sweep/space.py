"""What a sweep varies and what it fixes, read from Hydra's own override grammar."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

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
from pipelines.core.errors import UserError, suggest
from pipelines.sweep.overrides import Setting, Value, as_typed, meant

FEW = 5000
"""Points that are worth to be listed."""


@dataclass(frozen=True)
class Parameter:
    """A setting that is varied: over `choices`, as they are typed, or from `low` to `high`.

    typed  the key with what stands before it: "+train.epochs".
    step   of whole numbers or a grid of numbers; None for any between.
    when   by other settings, the texts of values without which this has no effect.
    """

    key: str
    typed: str
    choices: tuple[str, ...] = ()
    low: float | int = 0
    high: float | int = 0
    step: float | int | None = None
    log: bool = False
    when: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def whole(self) -> bool:
        return isinstance(self.low, int) and isinstance(self.high, int)

    def examples(self) -> tuple[Value, ...]:
        """All choices, or both ends."""
        return self.choices or (self.low, self.high)

    def value(self, text: str) -> Value | None:
        """What a setting has, as a value of this parameter; None if it isn't one of them."""
        if self.choices:
            return next((one for one in self.choices if meant(one) == meant(text)), None)
        try:
            number = int(text) if self.whole else float(text)
        except ValueError:
            return None
        if not self.low <= number <= self.high:
            return None
        on_grid = self.step is None or math.isclose(
            (number - self.low) / self.step, round((number - self.low) / self.step), abs_tol=1e-9
        )
        return number if on_grid else None

    def values(self) -> tuple[Value, ...]:
        """All that a grid visits. UserError if there is no end of them."""
        if self.choices:
            return self.choices
        if self.step is None:
            raise UserError(
                f"{self.key}: a grid needs single values, not an interval: use choice(...) or "
                "range(...), or sweep=optuna to search"
            )
        count = round((self.high - self.low) / self.step) + 1
        numbers = tuple(self.low + place * self.step for place in range(count))
        return tuple(round(number, 12) for number in numbers)  # 0.3, not 0.30000000000000004


@dataclass(frozen=True)
class Space:
    """Parameters, each after those that its condition names, and overrides that all runs share."""

    parameters: tuple[Parameter, ...]
    fixed: tuple[str, ...]

    def active(self, parameter: Parameter, drawn: Mapping[str, Value], setting: Setting) -> bool:
        """Whether the parameter has an effect beside those that were drawn before it."""
        return all(
            str(drawn[key] if key in drawn else setting(key)) in texts
            for key, texts in parameter.when.items()
        )

    def points(self, setting: Setting) -> list[dict[str, Value]]:
        """Every combination, once; a parameter without effect is no part of it."""
        points: list[dict[str, Value]] = [{}]
        for parameter in self.parameters:
            points = [
                {**point, **more}
                for point in points
                for more in (
                    [{parameter.key: value} for value in parameter.values()]
                    if self.active(parameter, point, setting)
                    else [{}]
                )
            ]
        return points

    def given(self, setting: Setting) -> dict[str, Value]:
        """What the settings are, of the parameters that have an effect and that value."""
        found: dict[str, Value] = {}
        for parameter in self.parameters:
            if self.active(parameter, found, setting):
                value = parameter.value(setting(parameter.key))
                if value is not None:
                    found[parameter.key] = value
        return found

    def few_points(self, setting: Setting) -> list[dict[str, Value]] | None:
        """As `points`; None if there are many, or no end of them."""
        count = 1
        for parameter in self.parameters:
            if not parameter.choices and parameter.step is None:
                return None
            count *= len(parameter.values())
            if count > FEW:
                return None
        return self.points(setting)

    def samples(self, setting: Setting) -> Iterator[dict[str, Value]]:
        """Points that together have every choice and both ends of every range."""
        most = max((len(parameter.examples()) for parameter in self.parameters), default=1)
        first = self._point(itertools.repeat(0), setting)
        yield first
        for number in range(1, most):
            yield self._point(itertools.repeat(number), setting)
        for parameter in self.parameters:
            if not parameter.when:
                continue
            # What its condition asks for, where others are at their first.
            for texts in itertools.product(*parameter.when.values()):
                wanted = dict(zip(parameter.when, texts, strict=True))
                names = [other.key for other in self.parameters]
                if all(key in names for key in wanted):
                    yield self._point(itertools.repeat(0), setting, wanted)

    def _point(
        self, places: Iterator[int], setting: Setting, wanted: Mapping[str, str] | None = None
    ) -> dict[str, Value]:
        point: dict[str, Value] = {}
        for parameter, place in zip(self.parameters, places, strict=False):
            if self.active(parameter, point, setting):
                examples = parameter.examples()
                texts = {str(value): value for value in examples}
                asked = (wanted or {}).get(parameter.key)
                point[parameter.key] = texts.get(str(asked), examples[place % len(examples)])
        return point

    def overrides(self, point: Mapping[str, Value]) -> list[str]:
        """The command line of the run at a point."""
        typed = {parameter.key: parameter.typed for parameter in self.parameters}
        return [*self.fixed, *(f"{typed[key]}={value}" for key, value in point.items())]

    def described(self) -> dict[str, str]:
        """By parameter, its values in words that two spaces share only if they are the same."""
        return {parameter.key: _described(parameter) for parameter in self.parameters}


def read_space(listed: Mapping[str, Any], arguments: Sequence[str], each: Sequence[str]) -> Space:
    """The space of a sweep: the YAML's parameters, the command line's on top, and what is fixed.

    What the command line fixes isn't searched. Settings of `each` stand unless it has them.
    """
    parser = OverridesParser.create()
    given = [parser.parse_override(text) for text in arguments]
    given = [one for one in given if not _name(one).startswith("sweep")]
    asked = {_name(one) for one in given}
    parameters: dict[str, Parameter] = {}
    for key, value in listed.items():
        values, when = _condition(key, value) if isinstance(value, dict) else (value, {})
        if key not in asked:
            parameters[key] = _listed(parser, key, str(values), when)
    for one in given:
        if one.is_sweep_override():
            parameters[_name(one)] = _parameter(one, {})
    shared = [one for one in map(parser.parse_override, each) if _name(one) not in asked]
    fixed = [_text(one) for one in (*shared, *given) if not one.is_sweep_override()]
    return Space(_ordered(parameters), tuple(fixed))


def _condition(key: str, value: Mapping[str, Any]) -> tuple[Any, Mapping[str, Any]]:
    """Values, and where they have an effect."""
    when = value.get("when")
    texts = when.values() if isinstance(when, dict) else [{}]
    if set(value) != {"values", "when"} or any(isinstance(one, dict) for one in texts):
        raise UserError(
            f"sweep.space.{key}: values with a condition are {{values: ..., when: {{SETTING: "
            f"VALUE}}}}; received {{{', '.join(f'{name}: {one}' for name, one in value.items())}}}"
        )
    return value["values"], value["when"]


def _listed(parser: OverridesParser, key: str, values: str, when: Mapping[str, Any]) -> Parameter:
    try:
        one = parser.parse_override(f"{key}={values}")
    except HydraException as error:
        reason = " ".join(str(error.__cause__ or error).split())
        raise UserError(f"sweep.space.{key}: {values!r} can't be read: {reason}") from None
    if not one.is_sweep_override():
        raise UserError(
            f"sweep.space.{key}: values to choose from are needed, such as choice(1, 2) or "
            f"interval(0.0, 0.5); received {values!r}"
        )
    texts = {
        name: tuple(map(as_typed, value if isinstance(value, list) else [value]))
        for name, value in when.items()
    }
    return _parameter(one, texts)


def _parameter(one: Override, when: Mapping[str, tuple[str, ...]]) -> Parameter:
    name, typed, value = _name(one), one.get_key_element(), one.value()
    log = isinstance(value, Sweep) and "log" in value.tags
    if isinstance(value, IntervalSweep):
        low, high = value.start, value.end
        if low is None or high is None or not low < high or (log and low <= 0):
            wanted = "0 < low < high" if log else "low < high"
            raise UserError(f"{name}: an interval needs {wanted}; received {low} to {high}")
        step = 1 if isinstance(low, int) and isinstance(high, int) else None
        return Parameter(name, typed, (), low, high, step, log, when)
    if isinstance(value, RangeSweep) and not value.shuffle and not log:
        numbers = list(value.range())
        if len(numbers) > 1:
            last = round(numbers[-1], 12)
            return Parameter(name, typed, (), numbers[0], last, value.step, False, when)
    if not isinstance(value, ChoiceSweep | RangeSweep):
        raise UserError(f"{name}: a sweep over {one.input_line!r} is not known")
    texts = tuple(dict.fromkeys(_unquoted(name, text) for text in one.sweep_string_iterator()))
    if not texts:
        raise UserError(f"{name}: there is no value in {one.input_line!r}")
    return Parameter(name, typed, texts, when=when)


def _name(one: Override) -> str:
    """The key without what stands before it: of "+train.epochs=3" it is "train.epochs"."""
    return one.get_key_element().lstrip("+~")


def _text(one: Override) -> str:
    """The override as a person types it, who needn't quote free text."""
    if (
        one.is_delete()
        or not FREE_TEXT_KEYS.fullmatch(_name(one))
        or not isinstance(one.value(), str)
    ):
        return str(one.input_line)
    value = one.value()
    return f"{one.get_key_element()}={value}"


def _unquoted(name: str, text: str) -> str:
    """As `_text`, of a value; Hydra makes Python's names of true, false and null."""
    text = {"True": "true", "False": "false", "None": "null"}.get(text, text)
    if not FREE_TEXT_KEYS.fullmatch(name):
        return text
    value = OverridesParser.create().parse_override(f"{name}={text}").value()
    return value if isinstance(value, str) else text


def _ordered(parameters: Mapping[str, Parameter]) -> tuple[Parameter, ...]:
    """Each after those that its condition names."""
    ordered: dict[str, Parameter] = {}
    waiting = dict(parameters)
    while waiting:
        ready = [
            key for key, one in waiting.items() if not any(name in waiting for name in one.when)
        ]
        if not ready:
            names = ", ".join(waiting)
            raise UserError(f"sweep.space: the conditions of {names} go round in a circle")
        for key in ready:
            ordered[key] = waiting.pop(key)
    return tuple(ordered.values())


def check_conditions(space: Space, known: Sequence[str]) -> None:
    """Raises UserError where a condition names a setting, or a value, that can't be."""
    by_key = {parameter.key: parameter for parameter in space.parameters}
    for parameter in space.parameters:
        for key, texts in parameter.when.items():
            place = f"sweep.space.{parameter.key}.when.{key}"
            if key not in by_key and key not in known:
                raise UserError(f"{place}: there is no such setting; {suggest(key, known)}")
            choices = by_key[key].choices if key in by_key else ()
            for text in texts:
                if choices and text not in choices:
                    raise UserError(f"{place}: {text!r} is no value; {suggest(text, choices)}")


def _described(parameter: Parameter) -> str:
    values = (
        f"choice({', '.join(parameter.choices)})"
        if parameter.choices
        else f"{parameter.low} to {parameter.high}"
        + (f" by {parameter.step}" if parameter.step else "")
        + (", log" if parameter.log else "")
    )
    when = " and ".join(f"{key}={'|'.join(texts)}" for key, texts in parameter.when.items())
    return f"{values} when {when}" if when else values
