"""Every file of a run with bits flipped, bytes lost or other content: told, or harmless."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import FinishedRun
from hydra import compose, initialize_config_dir

from pipelines.config.restore import load_run_config, to_plain_values
from pipelines.config.schema import parse
from pipelines.core.contracts import Codec
from pipelines.core.errors import UserError
from pipelines.core.paths import ROOT
from pipelines.core.types import Config as Values
from pipelines.evaluate.predictions import load_predictions
from pipelines.runs import checkpoint
from pipelines.runs.directory import Run, load_model
from pipelines.runs.overrides import recorded_overrides


def flip(content: bytes, rng: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.choice([1, 3, 20])):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def flip_near_the_end(content: bytes, rng: random.Random) -> bytes:
    """Where archives have their directory."""
    start = max(0, len(content) - 400)
    return content[:start] + flip(content[start:], rng)


def lose(content: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(len(content))
    return content[:place] + content[place + rng.choice([1, 50, 10**9]) :]


def replace(content: bytes, rng: random.Random) -> bytes:
    return rng.choice([b"", b"[]", b"null", b'"text"', b"{}", b"[" * 50_000, b"1e999", b"\x00"])


DAMAGES: list[Callable[[bytes, random.Random], bytes]] = [flip, flip_near_the_end, lose, replace]


def current_values() -> Values:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return to_plain_values(compose("config"))


READERS: dict[str, Callable[[Run, Codec], object]] = {
    "config.yaml": lambda run, _: load_run_config(run, current_values()),
    "metrics.json": lambda run, _: run.load_metrics(),
    "history.jsonl": lambda run, _: run.read_history(),
    "predictions.npz": lambda run, _: load_predictions(run.prediction_arrays, "test"),
    "checkpoints/best.npz": lambda run, _: checkpoint.restore(run.best, {}),
    "checkpoints/last.npz": lambda run, _: checkpoint.restore(run.last, {}),
    "codec/label.json": lambda run, codec: codec.load(run.codec),
    "codec/tokens.json": lambda run, codec: codec.load(run.codec),
    ".hydra/overrides.yaml": lambda run, _: recorded_overrides(run),
    "model.keras": lambda run, _: load_model(run),
}
TIMES = {"model.keras": 12, "config.yaml": 8}
"""Of each kind of damage; a model takes a second to read, a configuration half of it."""


@pytest.mark.parametrize("name", READERS)
def test_a_damaged_file_is_reported_in_a_line_or_harmless(
    name: str, finished_run: FinishedRun, tmp_path: Path
) -> None:
    whole, copy = finished_run.directory, Run(tmp_path / "run")
    for part in (name, "codec/label.json", "codec/tokens.json", "codec/ngrams.json"):
        (copy.directory / part).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(whole / part, copy.directory / part)
    content = (whole / name).read_bytes()
    reported: list[str] = []
    task = parse(load_run_config(Run(whole), current_values())).task
    for damage in DAMAGES:
        rng = random.Random(f"{name} {damage.__name__}")
        for _ in range(TIMES.get(name, 40)):
            (copy.directory / name).write_bytes(damage(content, rng))
            try:
                READERS[name](copy, Codec(task.codec()))
            except UserError as error:
                reported.append(str(error))
    assert all("\n" not in message and len(message) < 1000 for message in reported)
    assert reported or name == ".hydra/overrides.yaml"
