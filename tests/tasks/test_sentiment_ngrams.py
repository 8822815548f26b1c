"""N-grams next to the recurrent network: what is estimated from which split, and when."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import pytest
from conftest import QUICK
from hydra import compose, initialize_config_dir
from scipy import sparse
from score_checks import ColumnSplit, RowSplit
from tiny_runs import run_here
from tiny_task import TinyTask, configure

from models.ngram_training import train_weights
from models.ngrams import LogitMix
from models.seeds import stream
from pipelines import stages
from pipelines.config.restore import load_run_config, save_config, to_plain_values
from pipelines.core.paths import ROOT
from pipelines.core.task import Trained
from pipelines.data.prepare import Prepared, prepare
from pipelines.evaluate.evaluation import predict_split
from pipelines.graphs.prediction import Predictor
from pipelines.runs.directory import Run, load_model
from pipelines.tasks._shared import first_weights
from pipelines.train.learner import Learner
from pipelines.train.parameter_budget import count_parameters

RAW = {"text": ["bad film", "good film", "good", "good good"], "label": ["n", "p", "p", "n"]}


def tiny(*overrides: str) -> TinyTask:
    return TinyTask(
        RAW, "task.text.minimum_count=1", "task.ngrams.minimum_count=1", "task.ngrams.order=1",
        "model.width=3", "task.embedding.width=2", *overrides,
    )  # fmt: skip


@pytest.mark.parametrize("rows", [1, 3, 100])
def test_weights_are_learnt_from_all_training_texts(
    rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(first_weights, "ROWS", rows)
    made = tiny()
    made.task.initialize(made.model, RowSplit(**made.columns), made.codec, 1)
    ids = made.columns["ngrams"]
    assert ids.shape == (4, 2)  # good, film and bad, padded
    which = np.array([[number in row for number in range(4)] for row in ids], np.float32)
    which[:, 0] = 0
    expected = train_weights(sparse.csr_matrix(which), made.columns["label"], 2, seed=1)
    np.testing.assert_allclose(
        made.model.get_layer("ngram_logits").matrix.numpy(), expected.T, rtol=1e-4, atol=1e-6
    )
    assert np.any(expected)


def test_without_ngrams_there_is_nothing_to_estimate() -> None:
    made = tiny("task.ngrams.order=0")
    made.task.initialize(made.model, RowSplit(**made.columns), made.codec, 1)
    assert set(made.batch.inputs) == {"tokens", "tokens_length"}
    predictions = made.predict()
    assert set(predictions) == {"probabilities"}
    assert made.task.calibrate(made.model, predictions, RowSplit(**made.columns)) is predictions
    assert made.task.parts(predictions) == {}
    assert made.task.costs(made.codec.spec) == {}


def test_the_recurrent_network_learns_as_it_does_alone() -> None:
    both, alone = tiny(), tiny("task.ngrams.order=0")
    both.task.initialize(both.model, RowSplit(**both.columns), both.codec, 1)
    for made in (both, alone):
        step = Learner(made.task, made.model, made.codec, made.config.train, 3)
        for number in range(3):
            step.train_step([made.batch], number)
        step.weights.flush()
    pairs = zip(both.model.trainable_variables, alone.model.trainable_variables, strict=True)
    for one, other in pairs:
        np.testing.assert_allclose(one.numpy(), other.numpy(), rtol=1e-5, atol=1e-7)


def predictions(labels: np.ndarray) -> dict[str, np.ndarray]:
    """One part is right and the other wrong."""
    right = np.eye(2, dtype=np.float32)[labels] * 2
    mixed = np.full((len(labels), 2), 0.5)
    return {"probabilities": mixed, "part_logits": np.stack([right, -right], 1)}


def test_calibration_sets_the_mixture_and_mixes_anew() -> None:
    labels = np.array([0, 1, 1] * 20)
    given = predictions(labels)
    inputs = [keras.Input((2,)), keras.Input((2,))]
    model = keras.Model(inputs, LogitMix(name="mix")(inputs))
    task = configure("task=sentiment").task
    changed = task.calibrate(model, given, ColumnSplit(label=labels))
    shares = model.get_layer("mix").shares.numpy()
    assert shares[0] > 0.5
    assert shares[1] == 0
    # Logits 2 and 0, times the weight: its sigmoid.
    right = changed["probabilities"][np.arange(60), labels]
    assert right == pytest.approx(1 / (1 + np.exp(-2 * shares[0])))
    assert given["probabilities"][0].tolist() == [0.5, 0.5]
    np.testing.assert_array_equal(changed["part_logits"], given["part_logits"])


def test_parts_by_themselves() -> None:
    labels = np.array([0, 1])
    parts = configure("task=sentiment").task.parts(predictions(labels))
    recurrent, wide = (one["probabilities"] for one in parts.values())
    assert list(parts) == ["the recurrent network alone", "the n-grams alone"]
    np.testing.assert_allclose(recurrent.sum(1), [1, 1], rtol=1e-6)
    assert recurrent.argmax(1).tolist() == [0, 1]
    assert wide.argmax(1).tolist() == [1, 0]


# == A whole run


class Finished(NamedTuple):
    config: Any
    data: Prepared
    model: keras.Model
    metrics: dict[str, Any]
    history: list[dict[str, Any]]


@pytest.fixture(scope="module")
def finished(reviews: Path, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    overrides = [
        "data=text_files", f"data.path={reviews}", *QUICK, "evaluate.diagnostics=false",
        "export.saved_model=false",
    ]  # fmt: skip
    made = run_here(tmp_path_factory.mktemp("ngrams") / "run", *overrides)
    config = configure(*overrides)
    data = prepare(config.data, config.task, config.prepare)
    return Finished(config, data, load_model(Run(made.directory)), made.metrics, made.history)


def matrix(finished: Finished, split: str) -> np.ndarray:
    """Weights of the n-grams of a new model, learnt from this split."""
    model = stages.build_model(finished.config, finished.data)
    seed = stream(finished.config.seed, "initialize")
    finished.config.task.initialize(model, finished.data.splits[split], finished.data.codec, seed)
    found: np.ndarray = model.get_layer("ngram_logits").matrix.numpy()
    return found


def test_weights_are_learnt_from_the_training_split_alone(finished: Finished) -> None:
    kept = finished.model.get_layer("ngram_logits").matrix.numpy()
    np.testing.assert_array_equal(kept, matrix(finished, "train"))
    assert np.any(kept != matrix(finished, "validation"))


def test_the_best_weights_have_the_mixture_that_validation_gave_them(finished: Finished) -> None:
    config, data = finished.config, finished.data
    predict = Predictor(Trained(config.task, finished.model, data.codec, config.decode))
    split = data.splits["validation"]
    outputs = predict_split(predict, split, tokens=config.evaluate.batch_tokens).outputs
    again = LogitMix()
    again.build(None)
    again.fit(np.moveaxis(outputs["part_logits"], 1, 0), split.column("label"))
    shares = finished.model.get_layer("mix").shares.numpy()
    assert shares == pytest.approx(again.shares.numpy(), abs=1e-3)
    assert shares != pytest.approx([1, 1], abs=1e-3)  # as it was built


def test_a_saved_model_scores_what_it_scored_in_training(finished: Finished) -> None:
    scores = {name: one["value"] for name, one in finished.metrics["validation"].items()}
    assert any(
        row["validation.loss"] == pytest.approx(scores["loss"], rel=1e-4)
        and row["validation.accuracy"] == pytest.approx(scores["accuracy"])
        for row in finished.history
    )


def test_each_part_is_measured_on_the_last_split(finished: Finished) -> None:
    ((split, parts),) = finished.metrics["parts"].items()
    assert split == "test"
    labels = [one["label"] for one in parts.values()]
    assert labels == ["the recurrent network alone", "the n-grams alone"]
    for one in parts.values():
        assert set(one["scores"]) == set(finished.metrics["test"])


def test_a_run_from_before_there_were_ngrams_has_none(tmp_path: Path) -> None:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        current = to_plain_values(compose("config", ["task=sentiment"]))
    assert current["task"]["ngrams"]["order"] == 3
    run, former = Run(tmp_path), {**current, "task": {**current["task"]}}
    del former["task"]["ngrams"]
    save_config(run, former)
    assert load_run_config(run, current)["task"]["ngrams"]["order"] == 0
    save_config(run, current)
    assert load_run_config(run, current)["task"]["ngrams"] == current["task"]["ngrams"]


@pytest.mark.parametrize("name", ["adversarial", "ensemble"])
def test_a_run_from_before_a_setting_has_the_network_that_it_was_made_with(
    name: str, tmp_path: Path
) -> None:
    """Also where its experiment has another value by now."""
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        current = to_plain_values(compose("config", ["experiment=imdb_best"]))
    run, former = Run(tmp_path), {**current, "task": {**current["task"]}}
    del former["task"][name]
    save_config(run, former)
    before = {"adversarial": 0.0, "ensemble": 1}[name]
    assert current["task"][name] != before
    assert load_run_config(run, current)["task"][name] == before


def test_a_budget_of_parameters_counts_neither_ngrams_nor_word_vectors() -> None:
    both, alone = tiny(), tiny("task.ngrams.order=0")
    mixture = 2  # how much each part counts
    assert count_parameters(both.model) == count_parameters(alone.model) + mixture
    assert both.model.get_layer("ngram_logits").count_params() == 4
    wider = tiny("task.embedding.width=2", "task.text.minimum_count=2")  # fewer words
    assert count_parameters(wider.model) == count_parameters(both.model)
