"""Whole splits through a made-up task: order, padding, buckets, baselines and files."""

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest

from pipelines.core.contracts import Batch, Codec
from pipelines.core.scores import Metric, Score
from pipelines.core.settings import EvaluateSettings
from pipelines.evaluate.evaluation import evaluate, key_of, predict_split, score_by_length
from pipelines.evaluate.verdict import judge
from pipelines.runs.directory import Run
from pipelines.runs.metrics import RunMetrics, ScoreEntry

SETTINGS = EvaluateSettings(
    splits=["validation", "test"],
    batch_tokens=64,
    resamples=100,
    diagnostics=True,
    against=None,
)


ACCURACY = Metric("accuracy", scale=1)


class Split:
    """Sequences of `row + 1` repeated; the label is whether the row is even."""

    def __init__(self, name="test", n=237, seed=0):
        self.name, self.n = name, n
        self.sizes = np.random.default_rng(seed).integers(1, 30, size=n).astype(np.int32)

    def __len__(self):
        return self.n

    def lengths(self):
        return self.sizes[:, None]

    def gather(self, rows):
        sizes = self.sizes[rows]
        tokens = (np.arange(sizes.max()) < sizes[:, None]) * (rows[:, None] + 1)
        return {"tokens": tokens.astype(np.int32), "tokens_length": sizes}

    def column(self, name):
        return (np.arange(self.n) % 2 == 0).astype(np.int32)

    def examples(self, rows):
        return [
            {"text": f"テキスト {row}", "label": str(row % 2 == 0), "blob": b"\xff"} for row in rows
        ]


class Task:
    columns, input_columns = ("text", "blob", "label"), ("text", "blob")

    def costs(self, spec):
        return {}

    def example(self, raw):
        return raw

    def batch(self, columns, codec):
        return Batch(dict(columns), columns["tokens"][:, 0], None)

    def score(self, predictions, split):
        right = (predictions["said"] == split.column("label")).astype(float)

        def of(weights):
            with np.errstate(invalid="ignore"):
                return weights @ right / weights.sum(1)

        return {"accuracy": Score(ACCURACY, of, "share that is right")}

    def baselines(self, train, test):
        assert train.name == "train"
        return {"always yes": {"said": np.ones(len(test))}, "never": {"said": np.zeros(len(test))}}

    def parts(self, predictions):
        return {"the half": {"said": predictions["said"] * (predictions["row"] < 100)}}

    def decode_predictions(self, predictions, codec):
        words = np.array([b"\xe3\x81\x84", b"yes"])
        return {"label": words[predictions["said"].astype(int)], "chance": predictions["chance"]}


class Predict:
    """Says of each example its row; notes how long the longest one of each batch is."""

    def __init__(self):
        self.task, self.codec, self.raw, self.longest = Task(), Codec({}), (), []

    def __call__(self, batch):
        inputs = batch.inputs
        self.longest.append(int(np.max(inputs["tokens_length"])))
        row = np.asarray(inputs["tokens"])[:, 0] - 1
        chance = np.float32(row / 1000)
        return {"row": row, "echo": inputs["tokens"], "said": (row % 2 == 0) * 1, "chance": chance}


@pytest.fixture
def splits():
    sizes = {"train": 80, "validation": 60, "test": 237}
    return {name: Split(name, n, seed) for seed, (name, n) in enumerate(sizes.items())}


@pytest.mark.parametrize("tokens", [1, 40, 100_000])
def test_predictions_are_in_the_splits_order_whatever_the_batches(tokens):
    split, told = Split(), []
    predict_split(Predict(), split, tokens=tokens, progress=told.append)
    outputs, rate = predict_split(Predict(), split, tokens=tokens)
    assert outputs["row"].tolist() == list(range(len(split)))
    assert outputs["echo"].tolist() == split.gather(np.arange(len(split)))["tokens"].tolist()
    assert rate > 0
    assert sum(told) == len(split)


def test_longest_examples_come_first():
    predict = Predict()
    predict_split(predict, Split(), tokens=60)
    assert predict.longest == sorted(predict.longest, reverse=True)
    assert len(predict.longest) > 10


@pytest.mark.parametrize("n", [3, 60, 237, 5000])
def test_buckets_of_length_hold_every_example_once(n):
    split = Split(n=n)
    score = Score(Metric("mean"), lambda w: w @ split.column("label") / w.sum(1), "mean")
    with np.errstate(invalid="ignore"):
        buckets = score_by_length({"mean": score}, split, resamples=100, seed=0)
    assert sum(bucket.count for bucket in buckets) == n
    for left, right in itertools.pairwise(buckets):
        assert left.longest < right.shortest
    for bucket in buckets:
        inside = (split.sizes >= bucket.shortest) & (split.sizes <= bucket.longest)
        assert bucket.count == inside.sum()
        assert {bucket.shortest, bucket.longest} <= set(split.sizes.tolist())
        assert bucket.scores["mean"] == pytest.approx(split.column("label")[inside].mean())
        assert bucket.low <= bucket.scores["mean"] <= bucket.high
    assert len(buckets) == {3: 1, 60: 1, 237: 4, 5000: 8}[n]


def test_no_buckets_without_sequences():
    split = Split()
    split.lengths = lambda: np.zeros((len(split), 0), np.int32)
    assert (
        score_by_length(Task().score({"said": np.ones(237)}, split), split, resamples=100, seed=0)
        == []
    )


def test_all_of_it(tmp_path, splits):
    path = tmp_path / "predictions.jsonl"
    evaluation = evaluate(Predict(), splits, SETTINGS, seed=1, predictions_file=path)
    metrics = RunMetrics()
    evaluation.record(metrics)
    assert metrics.test["accuracy"].value == 1
    assert metrics.validation["accuracy"].signature == "share that is right"
    assert metrics.validation["accuracy"].metric("accuracy") == ACCURACY
    assert list(metrics.baselines) == ["test"]
    assert list(metrics.baselines["test"]) == ["always_yes", "never"]
    assert metrics.baselines["test"]["always_yes"].label == "always yes"
    yes = metrics.baselines["test"]["always_yes"].scores["accuracy"]
    assert yes.low < yes.value < yes.high
    assert list(metrics.parts) == ["test"]
    assert metrics.parts["test"]["the_half"].label == "the half"
    # Of rows from 100 to 236 those are wrong that are even, which are 69.
    half = metrics.parts["test"]["the_half"].scores["accuracy"]
    assert half.value == pytest.approx(1 - 69 / 237)
    assert [one.label for one in metrics.compared("test")] == ["the half", "always yes", "never"]
    assert metrics.comparison.outcome == "better"
    assert metrics.comparison.score == "accuracy"
    assert metrics.comparison.baseline == "always_yes"
    assert "is better than the strongest baseline, always yes (0.502)" in metrics.verdict
    assert metrics.throughput["evaluate"] > 0
    assert metrics.latency.milliseconds > 0
    assert metrics.latency.examples == 50
    assert list(evaluation.predictions) == ["validation", "test"]
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert [line["row"] for line in lines if line["split"] == "test"] == list(range(237))
    assert lines[61] == {
        "split": "test",
        "row": 1,
        "given": {"text": "テキスト 1", "blob": "<1 bytes>"},
        "reference": {"label": "False"},
        "answer": {"label": "い", "chance": 0.001},
    }
    names = {file.name for file in tmp_path.iterdir()}
    assert names == {"predictions.jsonl", "predictions.npz"}
    assert metrics.against is None


def test_what_was_measured_comes_back_from_the_file_as_it_was(tmp_path, splits):
    path, run, metrics = tmp_path / "predictions.jsonl", Run(tmp_path), RunMetrics()
    evaluate(Predict(), splits, SETTINGS, seed=1, predictions_file=path).record(metrics)
    run.save_metrics(metrics)
    json.loads(run.metrics.read_text(), parse_constant=pytest.fail)  # no NaN, no infinity
    assert run.load_metrics() == metrics


def test_a_second_evaluation_takes_the_place_of_the_first(tmp_path, splits):
    """Scores of splits that it doesn't measure are of earlier weights, and go; costs stay."""
    entry = ScoreEntry(value=0, low=0, high=0, signature="", label="f1", higher_is_better=True)
    metrics = RunMetrics(
        seed=1, seconds={"train": 9.0}, throughput={"train": 5.0, "evaluate": 6.0},
        test={"accuracy": entry, "f1": entry}, validation={"f1": entry}, train={"f1": entry},
        baselines={"test": {"old": {"label": "old", "scores": {}}}}, by_length={"test": []},
    )  # fmt: skip
    settings = replace(SETTINGS, splits=["test"], diagnostics=False)
    path = tmp_path / "predictions.jsonl"
    evaluate(Predict(), splits, settings, seed=1, predictions_file=path).record(metrics)
    assert list(metrics.test) == ["accuracy"]
    assert metrics.validation == metrics.train == metrics.baselines == metrics.by_length == {}
    assert (metrics.seed, metrics.seconds) == (1, {"train": 9.0})
    assert metrics.throughput["train"] == 5.0
    assert metrics.throughput["evaluate"] != 6.0


@pytest.mark.parametrize(
    ("label", "key"),
    [
        ("majority class", "majority_class"),
        ("tf-idf logistic regression", "tf_idf_logistic_regression"),
        ("nearest of 2 training sentences", "nearest_of_2_training_sentences"),
        ("ARIMA(1, 0)", "arima_1_0"),
    ],
)
def test_a_systems_key_has_letters_digits_and_single_underscores(label, key):
    assert key_of(label) == key


def test_without_diagnostics_there_are_only_scores(tmp_path, splits):
    settings = EvaluateSettings(
        splits=["validation"], batch_tokens=64, resamples=100, diagnostics=False, against=None
    )
    path = tmp_path / "predictions.jsonl"
    found = evaluate(Predict(), splits, settings, seed=1, predictions_file=path)
    assert found.baselines == found.by_length == {}
    assert found.comparison is None
    assert "nothing to compare" in found.verdict


def test_the_same_seed_gives_the_same_numbers(tmp_path, splits):
    def numbers():
        path = tmp_path / "predictions.jsonl"
        found = evaluate(Predict(), splits, SETTINGS, seed=4, predictions_file=path)
        return found.scores, found.baselines, found.by_length, found.verdict, found.comparison

    assert numbers() == numbers()


def test_a_split_on_which_no_score_is_defined():
    assert judge({}, {}, {}, 0) == ("No score is defined on this split.", None)
