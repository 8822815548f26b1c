"""What is said of a run's files that are damaged, or another run's; tests/fuzz has every damage."""

from __future__ import annotations

import json
from pathlib import Path

import keras
import numpy as np
import pytest
from conftest import Command

from pipelines.compare.run_records import find_records
from pipelines.core.saved_files import DamagedError
from pipelines.data.codecs.labels import LabelCodec
from pipelines.data.codecs.series import NumberCodec, SeriesCodec
from pipelines.evaluate.predictions import load_predictions
from pipelines.runs import checkpoint
from pipelines.runs.directory import Run
from pipelines.train.state import TrainingState


def dense(inputs: int, outputs: int) -> keras.Model:
    return keras.Sequential([keras.Input((inputs,)), keras.layers.Dense(outputs)])


@pytest.mark.parametrize("mode", ["evaluate", "export"])
def test_another_valid_model_in_place_of_the_runs_is_refused(
    mode: str, copy: Path, command_here: Command
) -> None:
    dense(3, 2).save(copy / "model.keras")
    result = command_here(f"mode={mode}", f"run={copy}")
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error:")]
    assert "model.keras is damaged (it has 8 parameters, not" in line
    assert f"resume with mode=train run={copy}" in line


def test_another_model_of_as_many_parameters_is_refused(copy: Path, command_here: Command) -> None:
    metrics = json.loads((copy / "metrics.json").read_text())
    metrics["parameters"]["total"] = 8
    (copy / "metrics.json").write_text(json.dumps(metrics))
    dense(3, 2).save(copy / "model.keras")
    result = command_here("mode=evaluate", f"run={copy}", "evaluate.diagnostics=false")
    assert result.returncode == 1
    assert "model.keras is damaged (" in result.stderr.splitlines()[-1]


def test_a_run_to_start_from_must_hold_a_classifier(
    copy: Path, quick_overrides: list[str], command_here: Command
) -> None:
    dense(3, 2).save(copy / "model.keras")
    result = command_here(*quick_overrides, f"task.start={copy}")
    assert result.returncode == 1
    assert "task.embedding.vectors needs a run with word vectors" in result.stderr.splitlines()[-1]


@pytest.mark.parametrize("names", ["x", [], ["a"], [1, 2], {}, None, ["a", "a"]])
def test_names_of_labels_are_different_texts(names: object) -> None:
    with pytest.raises(ValueError, match="name"):
        LabelCodec("label").restore({"column": "label", "names": names, "counts": [1, 2]})


@pytest.mark.parametrize("counts", ["x", [1], [1, 2, 3], [1, -1], [1, 0.5], None])
def test_each_label_has_a_count(counts: object) -> None:
    with pytest.raises(ValueError, match="count"):
        LabelCodec("label").restore({"column": "label", "names": ["a", "b"], "counts": counts})


@pytest.mark.parametrize(
    ("mean", "deviation"),
    [([1.0], [0.0]), ([1.0, 2.0], [1.0, 1.0]), ([], []), (["x"], [1.0]), ([float("nan")], [1.0])],
)
def test_a_number_has_one_mean_and_a_deviation(mean: object, deviation: object) -> None:
    with pytest.raises(ValueError, match=r"mean|deviation"):
        NumberCodec("x").restore({"mean": mean, "deviation": deviation})
    SeriesCodec("x").restore({"mean": [1.0, 2.0], "deviation": [1.0, 1.0]})


def resumed(path: Path) -> object:
    return checkpoint.restore(path, {}, TrainingState.from_checkpoint)


@pytest.mark.parametrize("state", [[], None, "x", {"step": "x"}, {"step": -1}, {"history": [{}]}])
def test_the_state_of_a_checkpoint_is_one_of_training(state: object, tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    checkpoint.save(path, {}, {"step": 5, "stale": 1})  # a field's former name
    assert resumed(path) == {"step": 5, "stale": 1}
    checkpoint.save(path, {}, state)  # type: ignore[arg-type]
    with pytest.raises(DamagedError, match="start a new run"):
        resumed(path)


def test_what_unpacks_to_more_than_was_packed_is_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez_compressed(path, state=np.zeros(10_000_000, np.uint8))
    assert path.stat().st_size < 20_000
    with pytest.raises(DamagedError, match="it would unpack to 10,000,1"):
        resumed(path)


def test_texts_of_predictions_need_their_ends(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, **{"test/answer/ends": np.array([3])})
    with pytest.raises(DamagedError, match=r"test/answer/text.*measure that run again"):
        load_predictions(path, "test")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("sweep.json", '{"trials": [{"number": "x", "state": "FAIL"}]}', r"trials\.0\.number"),
        ("sweep.json", '{"trials": [{"number": 1, "state": "LOST"}]}', r"trials\.0\.state"),
        ("sweep.json", '{"objectives": [1]}', r"objectives\.0"),
        ("run/.hydra/hydra.yaml", "hydra: {runtime: [1]}", r"hydra\.runtime"),
        ("run/config.yaml", "seed: many", "seed"),
    ],
)
def test_a_comparison_goes_on_without_what_is_damaged_and_says_so(
    name: str, content: str, said: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "run" / ".hydra").mkdir(parents=True)
    (tmp_path / "run" / "config.yaml").write_text("seed: 3")
    (tmp_path / name).write_text(content)
    (record,), _ = find_records(str(tmp_path))
    assert record.seed == (1 if "config" in name else 3)
    assert record.reason == ""
    (message,) = caplog.messages
    assert f"{Path(name).name} is damaged ({said.replace(chr(92), '')}" in message


def test_history_holds_numbers(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.history.write_text('{"step": 1, "train.loss": 0.5}\n')
    assert run.read_history() == [{"step": 1, "train.loss": 0.5}]
    run.history.write_text('{"step": 1, "train.loss": [0.5]}\n')
    with pytest.raises(DamagedError, match=r"train\.loss"):
        run.read_history()
