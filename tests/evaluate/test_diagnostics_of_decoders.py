"""What comes into what is written by attention, and what by the state."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from tiny_runs import run_here

from pipelines.config.restore import to_plain_values
from pipelines.config.schema import parse
from pipelines.core.paths import ROOT
from pipelines.core.task import Trained
from pipelines.data.prepare import prepare
from pipelines.evaluate.diagnostics.occlusion import compare_paths, occlude_steps
from pipelines.evaluate.diagnostics.sample import draw_sample, inspect_model

SMALL = [
    "task=translation", "data=parallel_text", "task.text.tokens=word", "model.width=6",
    "task.embedding.width=5", "task.decoder.tied=false", "evaluate.resamples=100",
]  # fmt: skip


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """60 sentences of letters, and the same with other letters."""
    random = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("pairs")
    chosen = [random.integers(0, 6, random.integers(2, 7)) for _ in range(60)]
    for name, letters in (("source", "abcdef"), ("target", "uvwxyz")):
        lines = [" ".join(letters[i] for i in one) for one in chosen]
        (folder / name).write_text("\n".join(lines) + "\n")
    return [f"data.{name}={folder / name}" for name in ("source", "target")]


class Writer:
    """An untrained translator and a sample of its test split."""

    def __init__(self, *overrides: str):
        with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
            config = parse(to_plain_values(compose("config", [*SMALL, *overrides])))
        self.task = config.task
        data = prepare(config.data, self.task, config.prepare)
        settings = config.model.of_width(config.model.width)
        self.model: Any = self.task.build(settings, data.codec, 1)
        self.trained = Trained(self.task, self.model, data.codec, config.decode)
        self.sample = draw_sample(self.trained, data.splits["train"], most=12)


@pytest.fixture(scope="module")
def writer(files: list[str]) -> Writer:
    return Writer(*files)


def test_without_weights_on_the_context_nothing_comes_through_attention(writer: Writer) -> None:
    decoder = writer.model.decoder
    kernel = decoder.combine.get_weights()
    assert 0 < np.nanmean(compare_paths(writer.trained, writer.sample)[0]) < 1
    changed = kernel[0].copy()
    changed[: writer.model.encoder.output_width] = 0
    decoder.combine.set_weights([changed, kernel[1]])
    try:
        found = compare_paths(writer.trained, writer.sample)
    finally:
        decoder.combine.set_weights(kernel)
    np.testing.assert_allclose(found.attention, 0, atol=1e-7)
    assert found.nats["attention"] == pytest.approx(0, abs=1e-6)


def test_without_a_first_state_everything_comes_through_attention(writer: Writer) -> None:
    bridges = writer.model.decoder.bridge
    kept = [dense.get_weights() for dense in bridges]
    for dense in bridges:
        dense.set_weights([np.zeros_like(one) for one in dense.get_weights()])
    try:
        found = compare_paths(writer.trained, writer.sample)
    finally:
        for dense, weights in zip(bridges, kept, strict=True):
            dense.set_weights(weights)
    np.testing.assert_allclose(found.attention, 1, atol=1e-7)
    assert found.nats["state"] == pytest.approx(0, abs=1e-6)


def test_a_decoders_answers_depend_on_nothing_after_them(writer: Writer) -> None:
    found = inspect_model(writer.task, writer.model, writer.sample)
    influence = found.influence["decoder"].answer
    places = np.concatenate(list(writer.sample.places.T))
    np.testing.assert_array_equal(np.isfinite(influence).sum(1), places + 1)
    np.testing.assert_allclose(influence, found.influence["decoder"].state["forward_0"], rtol=1e-4)
    stacks = writer.task.recurrent_stacks(writer.model)
    taken = occlude_steps(writer.trained, writer.sample, stacks["decoder"])
    assert np.nanmean(taken.change[:, 0]) > 0
    np.testing.assert_array_equal(np.isfinite(taken.change[:, 1]), places >= 1)


def test_a_translators_report_says_what_comes_which_way(files: list[str], tmp_path: Path) -> None:
    fast = ["train.epochs=1", "export.saved_model=false", "task.decoder.input_feeding=true"]
    metrics = run_here(tmp_path / "run", "model=lstm", *SMALL, *fast, *files).metrics
    found = metrics["diagnostics"]
    assert set(found["horizon"]) == {"encoder", "decoder"}
    assert 0 <= found["through_attention"] <= 1
    assert set(found["nats_lost_without"]) == {"attention", "state", "both"}
    assert "Attention or state" in (tmp_path / "run" / "report.html").read_text()
