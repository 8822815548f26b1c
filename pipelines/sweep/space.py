"""The space of a sweep: its parameters, with conditions, and the points that they span."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from pipelines.core.errors import UserError, shown, suggest
from pipelines.sweep.overrides import SettingLookup, Value, parse_value

MAX_ENUMERATED = 5000
"""Points of a space up to which a search enumerates them."""


@dataclass(frozen=True)
class Parameter:
    """A setting that is varied: over `choices`, or from `low` to `high`.

    typed_key  the key with its prefix, as on the command line: "+train.epochs".
    choices    values as command-line texts.
    step       of integers or of a grid of floats; None for a continuous range.
    when       the condition: by other settings, the values with which this one has an effect.
    """

    key: str
    typed_key: str
    choices: tuple[str, ...] = ()
    low: float | int = 0
    high: float | int = 0
    step: float | int | None = None
    log: bool = False
    when: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def is_integer(self) -> bool:
        return isinstance(self.low, int) and isinstance(self.high, int)

    def representative_values(self) -> tuple[Value, ...]:
        """All choices, or both ends of the range."""
        return self.choices or (self.low, self.high)

    def parse(self, text: str) -> Value | None:
        """The value of this parameter that `text` stands for; None if it isn't one of them."""
        if self.choices:
            value = parse_value(text)
            return next((choice for choice in self.choices if parse_value(choice) == value), None)
        try:
            number = int(text) if self.is_integer else float(text)
        except ValueError:
            return None
        if not self.low <= number <= self.high:
            return None
        if self.step is None:
            return number
        steps = (number - self.low) / self.step
        return number if math.isclose(steps, round(steps), abs_tol=1e-9) else None

    def grid_values(self) -> tuple[Value, ...]:
        """All values that a grid visits. Raises UserError for a continuous range."""
        if self.choices:
            return self.choices
        if self.step is None:
            raise UserError(
                f"{self.key}: a grid needs single values, not an interval: use choice(...) or "
                "range(...), or sweep=optuna to search"
            )
        count = round((self.high - self.low) / self.step) + 1
        numbers = tuple(self.low + index * self.step for index in range(count))
        return tuple(round(number, 12) for number in numbers)  # 0.3, not 0.30000000000000004

    def describe(self) -> str:
        """The values in words; two parameters share them only if they are equal."""
        if self.choices:
            values = f"choice({', '.join(self.choices)})"
        else:
            values = f"{self.low} to {self.high}"
            values += f" by {self.step}" if self.step else ""
            values += ", log" if self.log else ""
        when = " and ".join(f"{key}={'|'.join(texts)}" for key, texts in self.when.items())
        return f"{values} when {when}" if when else values


@dataclass(frozen=True)
class Space:
    """Parameters, each after those in its condition, and the overrides that all runs share."""

    parameters: tuple[Parameter, ...]
    fixed: tuple[str, ...]

    def is_active(
        self, parameter: Parameter, point: Mapping[str, Value], lookup: SettingLookup
    ) -> bool:
        """Whether the parameter has an effect at a point; `lookup` has the other settings."""
        return all(
            str(point[key] if key in point else lookup(key)) in texts
            for key, texts in parameter.when.items()
        )

    def grid_points(self, lookup: SettingLookup) -> list[dict[str, Value]]:
        """Every combination once; a point leaves out parameters that have no effect there."""
        points: list[dict[str, Value]] = [{}]
        for parameter in self.parameters:
            points = [
                {**point, **extension}
                for point in points
                for extension in (
                    [{parameter.key: value} for value in parameter.grid_values()]
                    if self.is_active(parameter, point, lookup)
                    else [{}]
                )
            ]
        return points

    def default_point(self, lookup: SettingLookup) -> dict[str, Value]:
        """The defaults of the active parameters, as far as the space contains them."""
        point: dict[str, Value] = {}
        for parameter in self.parameters:
            if self.is_active(parameter, point, lookup):
                value = parameter.parse(lookup(parameter.key))
                if value is not None:
                    point[parameter.key] = value
        return point

    def enumerate_if_small(self, lookup: SettingLookup) -> list[dict[str, Value]] | None:
        """The points of `grid_points`; None for a continuous or a large space."""
        count = 1
        for parameter in self.parameters:
            if not parameter.choices and parameter.step is None:
                return None
            count *= len(parameter.grid_values())
            if count > MAX_ENUMERATED:
                return None
        return self.grid_points(lookup)

    def covering_points(self, lookup: SettingLookup) -> Iterator[dict[str, Value]]:
        """Points that together contain every choice, and both ends of every range."""
        longest = max(
            (len(parameter.representative_values()) for parameter in self.parameters), default=1
        )
        for index in range(max(1, longest)):
            yield self._point_at(index, lookup)
        keys = {parameter.key for parameter in self.parameters}
        for parameter in self.parameters:
            if not parameter.when:
                continue
            # Points where its condition holds, with the first values of all other parameters.
            for texts in itertools.product(*parameter.when.values()):
                required = dict(zip(parameter.when, texts, strict=True))
                if required.keys() <= keys:
                    yield self._point_at(0, lookup, required)

    def _point_at(
        self, index: int, lookup: SettingLookup, conditions: Mapping[str, str] | None = None
    ) -> dict[str, Value]:
        """Each active parameter's value at the index, but the required ones where there are."""
        point: dict[str, Value] = {}
        for parameter in self.parameters:
            if self.is_active(parameter, point, lookup):
                values = parameter.representative_values()
                by_text = {str(value): value for value in values}
                text = (conditions or {}).get(parameter.key, "")
                point[parameter.key] = by_text.get(text, values[index % len(values)])
        return point

    def overrides_at(self, point: Mapping[str, Value]) -> list[str]:
        """The command line of the run at a point."""
        typed = {parameter.key: parameter.typed_key for parameter in self.parameters}
        return [*self.fixed, *(f"{typed[key]}={value}" for key, value in point.items())]

    def describe(self) -> dict[str, str]:
        """The values of each parameter, in words."""
        return {parameter.key: parameter.describe() for parameter in self.parameters}


def check_conditions(space: Space, keys: Sequence[str]) -> None:
    """Raises UserError where a condition names a setting or a value that doesn't exist."""
    by_key = {parameter.key: parameter for parameter in space.parameters}
    for parameter in space.parameters:
        for key, texts in parameter.when.items():
            where = f"sweep.space.{parameter.key}.when.{key}"
            if key not in by_key and key not in keys:
                raise UserError(f"{where}: there is no such setting; {suggest(key, keys)}")
            choices = by_key[key].choices if key in by_key else ()
            for text in texts:
                if choices and text not in choices:
                    raise UserError(f"{where}: {shown(text)} is no value; {suggest(text, choices)}")
