"""Two runs on the same examples: what is kept of the one, and how the other is set against it."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import Command, FinishedRun
from whole_runs import FEW_STAGES

from pipelines.core.contracts import Codec
from pipelines.core.errors import UserError
from pipelines.core.scores import Metric, Score
from pipelines.evaluate import predictions
from pipelines.evaluate.against import check_against, check_same_examples, compare_with_run
from pipelines.evaluate.bootstrap import Resampling, measure_all
from pipelines.evaluate.predictions import load_predictions, save_predictions, write_predictions
from pipelines.runs.directory import Run
from pipelines.runs.metrics import RunMetrics

ACCURACY = Metric("accuracy", "right answers", scale=1)
LOSS = Metric("loss", higher_is_better=False)


class Split:
    name = "test"

    def __init__(self, n=400, start=0):
        self.n, self.start = n, start
        self.labels = np.random.default_rng(0).integers(2, size=n)

    def __len__(self):
        return self.n

    def examples(self, rows):
        return [{"text": f"文 {row + self.start}", "label": int(self.labels[row])} for row in rows]


class Task:
    columns, input_columns = ("text", "label"), ("text",)

    def __init__(self, words=("no", "yes"), kind=""):
        self.words, self.kind = words, kind

    def example(self, raw):
        return raw

    def score(self, predictions, split):
        said = predictions["probabilities"].argmax(1)
        right = (said == split.labels).astype(float)

        def mean(values):
            return lambda weights: weights @ values / weights.sum(1)

        surprise = -np.log(predictions["probabilities"][np.arange(len(split)), split.labels])
        return {
            "accuracy": Score(ACCURACY, mean(right), "share that is right"),
            "loss": Score(LOSS, mean(surprise), f"nats{self.kind}"),
        }

    def decode_predictions(self, predictions, codec):
        probabilities = predictions["probabilities"]
        words = np.array(self.words)[probabilities.argmax(1)]
        return {"label": words, "probability": probabilities.max(1), "note": predictions["note"]}


def made_up(split, share, seed):
    """Predictions of which so large a share is right."""
    random = np.random.default_rng(seed)
    right = np.where(random.random(len(split)) < share, split.labels, 1 - split.labels)
    probabilities = np.where(np.arange(2) == right[:, None], 0.8, 0.2).astype(np.float32)
    notes = np.array([f"は {row}".encode() for row in range(len(split))], object)
    return {"probabilities": probabilities, "note": notes}


def write_run(directory, task, split, values, name="sentiment"):
    directory.mkdir(exist_ok=True)
    (directory / "config.yaml").write_text(yaml.safe_dump({"task": {"name": name}}))
    path = directory / "predictions.jsonl"
    write_predictions(path, task, Codec({}), {split.name: split}, {split.name: values})
    save_predictions(path.with_suffix(".npz"), split.name, values)
    return str(directory)


@pytest.fixture
def other(tmp_path):
    split = Split()
    return write_run(tmp_path / "other", Task(), split, made_up(split, 0.7, 1))


def compare(other, values, task=None, resamples=300):
    split, task = Split(), task or Task()
    own = measure_all(task.score(values, split), len(split), resamples=resamples, seed=5)
    return compare_with_run(other, own, task, split, Resampling(resamples, 5))


def test_the_better_run_is_better_in_words_and_numbers(other):
    check_against(other, task="sentiment", run=None)
    check_same_examples(other, Task(), Codec({}), Split())
    against = compare(other, made_up(Split(), 0.9, 2))
    assert (against.run, against.split, against.outcome) == (other, "test", "better")
    assert list(against.scores) == ["accuracy", "loss"]
    accuracy, loss = against.scores.values()
    assert accuracy.value == pytest.approx(0.7, abs=0.07)
    assert 0 < accuracy.low < accuracy.difference < accuracy.high
    assert accuracy.p < 0.01
    assert loss.outcome == "better"
    assert (accuracy.label, accuracy.scale, accuracy.higher_is_better) == ("right answers", 1, True)
    assert (loss.label, loss.scale, loss.higher_is_better) == ("loss", None, False)
    assert against.verdict.startswith("This run (right answers 0.")
    assert f"is better than that of {other} (0.6" in against.verdict.replace("(0.7", "(0.6")
    assert "400 test examples" in against.verdict


def test_a_comparison_is_kept_in_the_runs_metrics(other, tmp_path):
    against, run = compare(other, made_up(Split(), 0.9, 2)), Run(tmp_path)
    run.save_metrics(RunMetrics(against=against))
    assert run.load_metrics().against == against
    json.loads(run.metrics.read_text(), parse_constant=pytest.fail)


def test_the_same_answers_do_not_differ(other):
    against = compare(other, made_up(Split(), 0.7, 1))
    assert against.outcome == "equal"
    assert against.scores["accuracy"].difference == 0
    assert against.scores["accuracy"].p == 1


def test_pairs_tell_more_than_two_intervals(other):
    values = made_up(Split(), 0.7, 1)
    wrong = values["probabilities"].argmax(1) != Split().labels
    mended = np.flatnonzero(wrong)[:14]
    values["probabilities"][mended] = values["probabilities"][mended, ::-1]
    assert compare(other, values).outcome == "better"


def test_scores_that_are_computed_otherwise_are_not_compared(other):
    split = Split()
    values = made_up(split, 0.7, 1)
    measured = measure_all(Task(kind=" of pieces").score(values, split), 400, resamples=100, seed=5)
    against = compare_with_run(other, measured, Task(), split, Resampling(100, 5))
    assert list(against.scores) == ["accuracy"]
    nothing = compare_with_run(other, {}, Task(), split, Resampling(100, 5))
    assert (nothing.outcome, nothing.scores) == (None, {})
    assert nothing.verdict == f"Nothing could be compared with {other}."


@pytest.mark.parametrize(
    ("split", "task", "message"),
    [
        (Split(n=300), Task(), "was measured on 400 test examples, this run has 300"),
        (Split(start=1), Task(), "on other examples (test row 0 differs in given)"),
        (Split(), Task(words=("yes", "no")), "can't be read by this run, whose labels"),
        (Split(), Task(words=("no",)), "can't be read by this run, whose labels"),
    ],
)
def test_other_examples_and_other_answers_are_reported(other, split, task, message):
    with pytest.raises(UserError) as error:
        check_same_examples(other, task, Codec({}), split)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_another_reference_is_another_example(other):
    split = Split()
    split.labels = 1 - split.labels
    with pytest.raises(UserError, match="differs in reference"):
        check_same_examples(other, Task(), Codec({}), split)


def test_what_is_no_run_to_compare_with_is_reported_at_once(other, tmp_path):
    with pytest.raises(UserError, match="is not a run's directory"):
        check_against(str(tmp_path), task="sentiment", run=None)
    with pytest.raises(UserError, match="is a run of task=sentiment; this is translation"):
        check_against(other, task="translation", run=None)
    with pytest.raises(UserError, match="is this run itself"):
        check_against(other, task="sentiment", run=f"{other}/../other")
    check_against(None, task="sentiment", run=None)
    (Path(other) / "predictions.npz").unlink()
    with pytest.raises(UserError, match=r"holds no predictions.npz: .* mode=evaluate run="):
        check_against(other, task="sentiment", run=None)


def test_predictions_come_back_as_they_were_kept(tmp_path):
    path = tmp_path / "predictions.npz"
    given = {
        "text": np.array([b"\xe3\x81\x84", "é".encode(), b""], object),
        "several": np.array([["a", "日本"], ["", "b\n"], ["c", "\udc00"]], object),
        "words": np.array(["x", "yz", ""]),
        "numbers": np.arange(6, dtype=np.float32).reshape(3, 2),
        "log/likelihood": np.array([1, 2, 3]),
    }
    save_predictions(path, "test", given)
    back = load_predictions(path, "test")
    assert set(back) == set(given)
    assert back["text"].tolist() == given["text"].tolist()
    several = [[b"a", "日本".encode()], [b"", b"b\n"], [b"c", b"?"]]
    assert back["several"].tolist() == several
    assert back["words"].tolist() == [b"x", b"yz", b""]
    for name in ("numbers", "log/likelihood"):
        assert np.array_equal(back[name], given[name])
        assert back[name].dtype == given[name].dtype
    with pytest.raises(UserError, match="holds nothing of the validation split"):
        load_predictions(path, "validation")
    path.write_bytes(b"damaged")
    with pytest.raises(UserError, match="is damaged"):
        load_predictions(path, "test")


def test_too_much_is_not_kept(tmp_path, monkeypatch):
    path = tmp_path / "predictions.npz"
    save_predictions(path, "test", {"a": np.zeros(100)})
    monkeypatch.setattr(predictions, "MOST_BYTES", 100)
    save_predictions(path, "test", {"a": np.zeros(100)})
    assert not path.exists()


def test_a_run_is_set_against_another_from_the_command_line(
    finished_run: FinishedRun, quick_overrides: list[str], command_here: Command, tmp_path: Path
) -> None:
    against = f"evaluate.against={finished_run.directory}"
    other_data = command_here(*quick_overrides, against, "seed=2", "prepare.split_seed=9")
    assert other_data.returncode == 1
    assert "was measured on other examples" in other_data.stderr
    directory = tmp_path / "run"
    options = ["seed=2", "model=lstm", *FEW_STAGES, f"hydra.run.dir={directory}"]
    result = command_here(*quick_overrides, against, *options)
    assert result.returncode == 0, result.stderr
    metrics = json.loads((directory / "metrics.json").read_text())
    assert metrics["against"]["run"] == str(finished_run.directory)
    assert metrics["against"]["verdict"] in result.stderr.replace("\n", " ")
    assert metrics["against"]["verdict"] in (directory / "report.html").read_text()
    measured = metrics["against"]["scores"]["accuracy"]
    theirs = json.loads((finished_run.directory / "metrics.json").read_text())["test"]["accuracy"]
    assert measured["value"] == pytest.approx(theirs["value"])
    own = metrics["test"]["accuracy"]["value"]
    assert measured["difference"] == pytest.approx(own - theirs["value"])
