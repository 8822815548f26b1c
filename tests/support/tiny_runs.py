"""Runs of every task that take seconds, in the tests' own process."""

from __future__ import annotations

import json
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


def go(directory: Path, *overrides: str) -> tuple[dict, list[dict]]:
    """A run in this process; its metrics and history."""
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        composed = compose("config", list(overrides))
    run(composed, list(overrides), str(directory))
    lines = (directory / "history.jsonl").read_text().splitlines()
    return json.loads((directory / "metrics.json").read_text()), [
        json.loads(line) for line in lines
    ]
