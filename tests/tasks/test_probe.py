"""Made-up problems: what they ask, what solves them, and widths within a budget."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from score_checks import ColumnSplit, check_scores
from tiny_runs import run_here

from pipelines.config.restore import to_plain_values
from pipelines.config.schema import Config, check, parse
from pipelines.core.contracts import RowIssues
from pipelines.core.errors import UserError
from pipelines.core.paths import ROOT
from pipelines.data.batches import curriculum_mask
from pipelines.data.codecs.numbers import AnswerCodec, SequenceCodec
from pipelines.data.sources.generated import PROBLEMS, Generated
from pipelines.evaluate.metrics.probe import guessing_error, probe_scores

SMALL = [
    "task=probe", "data.lengths=[6,9]", "data.examples=400", "model.width=7", "train.epochs=3",
    "train.curriculum=1", "evaluate.resamples=100", "export.verify=8", "data.symbols=2",
    "prepare.validation=0.2", "prepare.test=0.2",
]  # fmt: skip


def config(*overrides: str) -> Config:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return parse(to_plain_values(compose("config", list(overrides))))


def examples(problem: str, steps: int, count: int = 20, seed: int = 3) -> list[tuple[Any, Any]]:
    source = Generated(
        format="generated", problem=problem, lengths=[steps], examples=count, symbols=3, seed=seed
    )  # fmt: skip
    rows = list(source.read("all", RowIssues()))
    assert rows == list(source.read("all", RowIssues()))
    return [(row["sequence"].split(), row["answer"].split()) for row in rows]


def test_scores_are_the_metrics_that_the_task_declares() -> None:
    predictions = {"probabilities": np.eye(2)[[[0], [1], [1]]]}
    answers = ColumnSplit(answer=[[0], [1], [0]], lengths=[4, 4, 8])
    check_scores("probe", predictions, answers)


def test_each_problem_has_the_answer_that_it_says() -> None:
    for read, said in examples("copy", 12):
        assert len(read) == 12
        assert read[:3] == said
        assert set(read[3:9]) == {"0"}
        assert read[9:] == ["9", "0", "0"]
    for read, said in examples("adding", 9):
        pairs = np.array([[float(x) for x in step.split(",")] for step in read])
        assert pairs[:4, 1].sum() == pairs[4:, 1].sum() == 1
        assert pairs[:, 0] @ pairs[:, 1] == pytest.approx(float(said[0]), abs=1e-9)
    for read, said in examples("recall", 7):
        assert [read[0]] == said
    for read, said in examples("parity", 8):
        assert int(said[0]) == sum(map(int, read)) % 2
    for read, said in examples("next_number", 6):
        numbers = [float(one) for one in read]
        assert float(said[0]) == pytest.approx(2 * numbers[-1] - numbers[-2], abs=3e-4)
    assert examples("copy", 12, seed=3) != examples("copy", 12, seed=4)


def test_numbers_without_a_dot_are_symbols_and_others_are_not() -> None:
    codec = SequenceCodec("sequence")
    codec.fit([["2 0 1", "1"]])
    encoded = codec.encode(np.array(["1 2", "0"])).to_tensor().numpy()
    np.testing.assert_array_equal(encoded[0], [[0, 1, 0], [0, 0, 1]])
    np.testing.assert_array_equal(encoded[1], [[1, 0, 0], [0, 0, 0]])
    codec.fit([["0.5,1 0.25,0.0", "1.0,2"]])
    assert codec.field.shape == (None, 2)
    encoded = codec.encode(np.array(["0.5,1 2,3"])).to_tensor().numpy()
    np.testing.assert_array_equal(encoded[0], [[0.5, 1], [2, 3]])
    answers = AnswerCodec("answer")
    answers.fit([["3 1", "0 2"]])
    assert answers.size == 4
    assert answers.encode(np.array(["1 3"])).numpy().tolist() == [[1, 3]]
    answers.fit([["0.5"], ["1"]])
    assert answers.size is None
    with pytest.raises(UserError, match="equally many"):
        codec.fit([["1,2 3"]])
    with pytest.raises(UserError, match="must hold numbers"):
        codec.fit([["1 two"]])


def test_a_length_is_solved_only_if_all_shorter_ones_are() -> None:
    lengths = np.repeat([5, 10, 20], 10)
    answers = np.tile([0, 1], 15)[:, None]
    right = np.eye(2)[answers]
    scores = probe_scores({"probabilities": right}, answers, lengths)
    ones = np.ones((1, 30))
    assert guessing_error(answers) == 0.5
    assert scores["longest_solved"].of(ones) == [20.0]
    wrong = right.copy()
    wrong[10:20] = 1 - wrong[10:20]
    scores = probe_scores({"probabilities": wrong}, answers, lengths)
    assert scores["longest_solved"].of(ones) == [5.0]
    assert scores["error_of_guessing"].of(ones) == pytest.approx(2 / 3)
    constant = np.full((30, 1), 0.5)
    numbers = probe_scores({"numbers": constant}, answers.astype(float), lengths)
    assert numbers["longest_solved"].of(ones) == [0.0]
    assert numbers["error_of_guessing"].of(ones) == pytest.approx(1.0)


def test_the_curriculum_lets_longer_examples_in_from_epoch_to_epoch() -> None:
    lengths = np.repeat([10, 20, 30, 40], 5)[:, None]
    counts = [len(curriculum_mask(lengths, epoch, 3)) for epoch in range(5)]
    assert counts == [5, 10, 15, 20, 20]
    assert len(curriculum_mask(lengths, 0, 0)) == 20


@pytest.mark.parametrize("problem", sorted(PROBLEMS))
def test_every_problem_goes_from_data_to_a_saved_model(problem: str, tmp_path: Path) -> None:
    more = [] if problem == "copy" else ["evaluate.diagnostics=false", "export.saved_model=false"]
    _, metrics, history = run_here(tmp_path / "run", *SMALL, f"data={problem}", *more)
    assert np.isfinite(history[-1]["train.loss"])
    assert metrics["test"]["longest_solved"]["value"] in (0, 6, 9)
    if problem == "copy":
        found = metrics["diagnostics"]["horizon"]["encoder"]["answer"]
        assert 1 <= found["value"] <= 9
        assert (
            metrics["baselines"]["test"]["best_constant"]["scores"]["error_of_guessing"]["value"]
            > 0.8
        )


@pytest.mark.parametrize("model", ["bi_lstm", "simple_rnn"])
def test_a_network_solves_what_is_in_its_last_steps(model: str, tmp_path: Path) -> None:
    overrides = [
        *SMALL, "data=next_number", f"model={model}", "train.epochs=25",
        "evaluate.diagnostics=false",
        "export.saved_model=false", "train.learning_rate=0.02", "train.batch_examples=16",
    ]  # fmt: skip
    metrics = run_here(tmp_path / "run", *overrides).metrics
    assert metrics["test"]["longest_solved"]["value"] == 9
    assert metrics["test"]["error_of_guessing"]["value"] < 0.1


@pytest.mark.parametrize("cell", ["simple_rnn", "lstm", "gru", "bi_gru"])
def test_a_budget_chooses_the_largest_width_that_fits(cell: str) -> None:
    from pipelines.core.contracts import Codec
    from pipelines.train.parameter_budget import count_parameters, fit_width

    chosen = config("task=probe", "data=adding", f"model={cell}", "model.parameters=3000")
    codec = Codec(chosen.task.codec())
    codec.fields["sequence"].fit([["0.1,1.0"]])
    codec.fields["answer"].fit([["0.1"]])

    def build(settings: Any) -> Any:
        return chosen.task.build(settings, codec, 1)

    settings = fit_width(chosen.model, build)
    assert count_parameters(build(settings)) <= 3000
    assert count_parameters(build(chosen.model.of_width(settings.width + 1))) > 3000
    gates = {"simple_rnn": 1, "lstm": 4, "gru": 3, "bi_gru": 3}[cell]
    ways, w = (2 if cell == "bi_gru" else 1), settings.width
    biases = 2 if "gru" in cell else 1
    recurrent = ways * gates * (2 * w + w * w + biases * w)
    assert count_parameters(build(settings)) == recurrent + ways * w + 1


def test_a_budget_and_a_width_do_not_go_together() -> None:
    assert config().model.width == 64
    assert config("task=translation").model.width == 256
    assert config("model.parameters=70000").model.width == 0
    with pytest.raises(UserError, match=r"leave model\.width=32 out"):
        config("model.parameters=70000", "model.width=32")
    with pytest.raises(UserError, match=r"model\.parameters"):
        config("model.width=0")
    with pytest.raises(UserError, match=r"at least twice data\.symbols"):
        check(config("task=probe", "data=copy", "data.lengths=[10]"))
