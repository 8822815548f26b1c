"""Classification of texts with every model: from data to answers in a fresh process."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import QUICK
from fresh_process import check_fresh_answers
from score_checks import ColumnSplit, RowSplit, check_scores
from tiny_runs import MODELS, Run, run_each_model_once, run_here
from tiny_task import TinyTask, configure

from models.classifier import networks_of
from pipelines.core.errors import UserError
from pipelines.runs.directory import Run as RunDirectory
from pipelines.runs.directory import load_model


@pytest.fixture(scope="module")
def overrides(reviews: Path) -> list[str]:
    return ["data=text_files", f"data.path={reviews}", *QUICK, "evaluate.diagnostics=false"]


@pytest.fixture(scope="module")
def run_of(overrides: list[str], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Run]:
    """A quick run of a model."""
    return run_each_model_once(tmp_path_factory.mktemp("sentiment"), overrides, {})


def test_scores_are_the_metrics_that_the_task_declares() -> None:
    probabilities = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]])
    check_scores("sentiment", {"probabilities": probabilities}, ColumnSplit(label=[0, 1, 1]))


@pytest.mark.parametrize("model", MODELS)
def test_every_model_goes_from_data_to_a_saved_model(
    model: str, run_of: Callable[[str], Run]
) -> None:
    directory, metrics, history = run_of(model)
    assert metrics["model"] == model
    assert history[-1]["train.loss"] < history[0]["train.loss"]
    assert (directory / "saved_model" / "saved_model.pb").exists()
    assert (directory / "report.html").exists()


def test_a_fresh_process_answers_as_every_model_did(run_of: Callable[[str], Run]) -> None:
    check_fresh_answers([run_of(model).directory for model in MODELS])


@pytest.mark.parametrize("model", MODELS)
def test_every_model_learns_32_examples_by_heart(model: str) -> None:
    """The label is the parity of two numbers: no word gives it away, only all of them together."""
    numbers = [(n, m) for n in range(8) for m in range(4)]
    raw = {
        "text": [f"number {n} and {m}" for n, m in numbers],
        "label": ["odd" if (n + m) % 2 else "even" for n, m in numbers],
    }
    tiny = TinyTask(
        raw, f"model={model}", "task.text.minimum_count=1", "task.ngrams.order=0",
        "task.embedding.word_dropout=0", "task.embedding.dropout=0", "task.dropout=0",
        "model.width=24", "task.embedding.width=16",
        "train.learning_rate=0.01", "train.ema_decay=null",
    )  # fmt: skip
    assert tiny.learn_by_heart(300, batch_rows=8) < 0.05


@pytest.mark.parametrize(
    "options",
    [
        [
            "model.layers=2",
            "model.residual=true",
            "model.dropout=0.2",
            "model.recurrent_dropout=0.2",
            "task.class_weights=balanced",
            "task.label_smoothing=0.1",
            "train.accumulation_steps=2",
            "export.saved_model=false",  # of such layers: test_streaming
        ],
        [
            "model=simple_rnn",
            "model.activation=relu",
            "task.pooling=last",
            "train.optimizer=rmsprop",
            "train.schedule=exponential",
            "train.ema_decay=null",
        ],
        [
            "task.text.tokens=character",
            "task.pooling=attention",
            "train.optimizer=adamw",
            "task.text.truncate=head",
            "task.text.punctuation=drop",
            "train.evaluate_every=3",
        ],
        [
            "train.deterministic=true",
            "train.monitor=loss",
            "train.patience=1",
            "export.saved_model=false",
        ],
        ["train.precision=mixed_bfloat16", "train.max_steps=4"],
        [
            "task.ensemble=2",
            "task.adversarial=0.3",
            "task.embedding.vectors=corpus",
            "model=bi_gru",
            "evaluate.diagnostics=true",
        ],
    ],
    ids=lambda options: options[0],
)
def test_options_work_from_end_to_end(
    options: list[str], overrides: list[str], tmp_path: Path
) -> None:
    _, metrics, history = run_here(tmp_path / "run", *overrides, *options)
    assert metrics["test"]["loss"]["value"] > 0
    assert history[-1]["gradient_norm"] > 0


def test_corpus_vectors_are_where_every_network_starts() -> None:
    raw = {"text": ["a x b", "a y b", "c d d"] * 2, "label": ["p", "p", "n"] * 2}
    tiny = TinyTask(
        raw, "task.text.minimum_count=1", "task.ngrams.order=0", "task.ensemble=2",
        "task.embedding.vectors=corpus", "task.embedding.scale=0.2", "task.embedding.width=4",
    )  # fmt: skip
    first, second = (network.embedding.matrix for network in networks_of(tiny.model))
    before = first.numpy()
    tiny.task.initialize(tiny.model, RowSplit(**tiny.columns), tiny.codec, 1)
    words = tiny.codec.fields["tokens"].vocabulary
    vectors = {word: first.numpy()[place] for place, word in enumerate(words)}
    np.testing.assert_allclose(vectors["x"], vectors["y"], atol=1e-5)
    assert np.abs(vectors["x"] - vectors["d"]).max() > 0.01
    known = first.numpy()[2:]
    assert np.sqrt(np.square(known).mean()) == pytest.approx(0.2, rel=1e-4)
    np.testing.assert_array_equal(first.numpy()[:2], before[:2])  # padding, unknown
    np.testing.assert_array_equal(second.numpy()[2:], known)


def test_corpus_vectors_that_would_not_learn_are_refused() -> None:
    task = configure(
        "task=sentiment", "task.embedding.vectors=corpus", "task.embedding.trainable=false"
    )
    with pytest.raises(UserError, match="which learn on"):
        task.task.check(task.decode)


def test_each_network_starts_with_the_vectors_that_its_encoder_learnt_with(
    overrides: list[str], tmp_path: Path
) -> None:
    small = ["task.ensemble=2", "task.ngrams.order=0", "train.max_steps=2", "model.width=5"]
    source = run_here(tmp_path / "run", *overrides, *small, "export.saved_model=false").directory
    raw = {"text": ["a film", "never seen"] * 2, "label": ["positive", "negative"] * 2}
    tiny = TinyTask(
        raw, "task.text.minimum_count=1", "task.ngrams.order=0", "task.ensemble=3",
        "model.width=5", f"task.start={source}",
    )  # fmt: skip
    known = json.loads((source / "codec" / "tokens.json").read_text())["vocabulary"]
    here, there = tiny.codec.fields["tokens"].vocabulary.index("film"), known.index("film") + 2
    sources = networks_of(load_model(RunDirectory(source)))
    tables = [sources[number].embedding.matrix.numpy() for number in (0, 1, 0)]
    assert np.abs(tables[0][there] - tables[1][there]).max() > 1e-3
    for network, table in zip(networks_of(tiny.model), tables, strict=True):
        np.testing.assert_array_equal(network.embedding.matrix.numpy()[here], table[there])


def test_sentencepiece_works_from_end_to_end(overrides: list[str], tmp_path: Path) -> None:
    pytest.importorskip("tensorflow_text")
    pieces = ["task.text.tokens=sentencepiece", "task.text.vocabulary_size=60"]
    metrics = run_here(tmp_path / "run", *overrides, *pieces).metrics
    assert metrics["test"]["loss"]["value"] > 0


def test_a_linear_baseline_that_beats_the_network_is_named(
    overrides: list[str], tmp_path: Path
) -> None:
    more = [
        "train.learning_rate=0.000001", "task.ngrams.order=0", "evaluate.diagnostics=true",
        "export.saved_model=false",
    ]  # fmt: skip
    metrics = run_here(tmp_path / "run", *overrides, *more).metrics
    assert metrics["comparison"]["outcome"] == "worse"
    strongest = metrics["baselines"]["test"][metrics["comparison"]["baseline"]]["label"]
    assert f"the strongest baseline, {strongest} (" in metrics["verdict"]
    assert metrics["verdict"] in (tmp_path / "run" / "report.html").read_text()
