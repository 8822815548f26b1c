"""Checkpoints: variables and a state in one file, which is written as a whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from pipelines.core.errors import UserError
from pipelines.core.files import atomic_write
from pipelines.core.saved_arrays import open_arrays
from pipelines.core.saved_files import DamagedError, open_regular, parse_json, reading
from pipelines.core.types import JsonObject


class Variable(Protocol):
    """A variable of Keras or TensorFlow, as far as checkpoints use it."""

    @property
    def shape(self) -> Iterable[int | None]: ...

    def assign(self, value: np.ndarray, /) -> object: ...


NUMBERS = "biufV"
"""Kinds of arrays that variables have; V has NumPy for bfloat16."""

Variables = Mapping[str, Sequence[Variable]]
"""Variables by group, in an order that each process makes alike."""


def save(path: Path, variables: Variables, state: Mapping[str, object]) -> None:
    """Writes variables, by group and in order, and a state that JSON can hold."""
    arrays = {
        f"{group}:{index}": np.asarray(variable)
        for group, members in variables.items()
        for index, variable in enumerate(members)
    }
    arrays["state"] = np.frombuffer(json.dumps(state).encode(), dtype=np.uint8)
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


def restore(
    path: Path, variables: Variables, check: Callable[[JsonObject], object] | None = None
) -> JsonObject:
    """Assigns the given groups, which may be some of those saved. Returns the state.

    check  raises ValueError for a state that is none.

    Each array's checksum (the archive's CRC-32) is verified. Raises DamagedError if the file is
    missing or damaged, UserError if a shape differs; then no variable has changed.
    """
    try:
        with (
            reading(path, "it may be of another model: delete it, or start a new run"),
            open_regular(path) as file,
            open_arrays(file, most=path.stat().st_size) as saved,
        ):
            state = parse_json(saved["state"].tobytes())
            if not isinstance(state, dict):
                raise TypeError("its state is no object")
            if check is not None:
                check(state)
            pairs = [
                (variable, saved[f"{group}:{index}"])
                for group, members in variables.items()
                for index, variable in enumerate(members)
            ]
    except FileNotFoundError:
        raise DamagedError(
            f"{path} is missing, and training can't resume without it: start a new run"
        ) from None
    for variable, value in pairs:
        if tuple(variable.shape) != value.shape or value.dtype.kind not in NUMBERS:
            raise UserError(
                f"{path} is of another model: a variable must have shape {tuple(variable.shape)}; "
                f"received {value.shape} of {value.dtype}: start a new run"
            )
    for variable, value in pairs:
        variable.assign(value)
    return state


def restore_mean(paths: Sequence[Path], variables: Variables) -> None:
    """Assigns the mean of several checkpoints. Integers, such as seeds, are those of the first.

    Sums are in float64: in float16 two large weights would already add up to infinity.
    """
    sums: list[np.ndarray] = []
    members = [variable for group in variables.values() for variable in group]
    for path in paths:
        restore(path, variables)
        values = [np.asarray(variable) for variable in members]
        if not sums:
            sums = [
                value.astype(np.float64) if value.dtype.kind == "f" else value for value in values
            ]
            continue
        for total, value in zip(sums, values, strict=True):
            if total.dtype.kind == "f":
                total += value
    for variable, total in zip(members, sums, strict=True):
        mean = total / len(paths) if total.dtype.kind == "f" else total
        variable.assign(mean.astype(np.asarray(variable).dtype))
