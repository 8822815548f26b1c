"""Runs of every task that take seconds, in the tests' own process."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
from hydra import compose, initialize_config_dir

from pipelines.core.paths import ROOT
from pipelines.pipeline import run

MODELS = sorted(path.stem for path in (ROOT / "conf" / "model").glob("*.yaml"))


SOME_MODELS = [
    model if model in ("gru", "bi_lstm") else pytest.param(model, marks=pytest.mark.slow)
    for model in MODELS
]
"""All of them, but only two where there is no time for the slow tests."""


class Run(NamedTuple):
    """A finished run in this process."""

    directory: Path
    metrics: dict
    history: list[dict]


def run_here(directory: Path, *overrides: str) -> Run:
    """Trains, exports and reports in this process."""
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        composed = compose("config", list(overrides))
    run(composed, list(overrides), str(directory))
    metrics = json.loads((directory / "metrics.json").read_text())
    lines = (directory / "history.jsonl").read_text().splitlines()
    return Run(directory, metrics, [json.loads(line) for line in lines])


def run_each_model_once(
    folder: Path, overrides: Sequence[str], more: Mapping[str, Sequence[str]]
) -> Callable[[str], Run]:
    """A function that gives a model's run, which it makes when it is first asked for.

    more  overrides of single models.
    """

    @functools.cache
    def run_of(model: str) -> Run:
        return run_here(folder / model, f"model={model}", *overrides, *more.get(model, []))

    return run_of
