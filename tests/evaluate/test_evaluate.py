"""Whole splits through a made-up task: order, padding, buckets, baselines and files."""

import itertools
import json

import numpy as np
import pytest

from pipelines.core.contracts import Batch, Codec
from pipelines.core.scores import Score
from pipelines.core.settings import EvaluateSettings
from pipelines.evaluate.evaluation import by_length, evaluate, judge, predict_split

SETTINGS = EvaluateSettings(
    splits=["validation", "test"],
    batch_tokens=64,
    resamples=100,
    diagnostics=True,
    against=None,
)


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
    reads, given = ("text", "blob", "label"), ("text", "blob")

    def batch(self, columns, codec):
        return Batch(dict(columns), columns["tokens"][:, 0], None)

    def score(self, predictions, split):
        right = (predictions["said"] == split.column("label")).astype(float)

        def of(weights):
            with np.errstate(invalid="ignore"):
                return weights @ right / weights.sum(1)

        return {"accuracy": Score("accuracy", of, "share that is right")}

    def baselines(self, train, test):
        assert train.name == "train"
        return {"always yes": {"said": np.ones(len(test))}, "never": {"said": np.zeros(len(test))}}

    def answers(self, predictions, codec):
        words = np.array([b"\xe3\x81\x84", b"yes"])
        return {"label": words[predictions["said"].astype(int)], "chance": predictions["chance"]}


def predict(batch):
    inputs = batch.inputs
    row = np.asarray(inputs["tokens"])[:, 0] - 1
    chance = np.float32(row / 1000)
    return {"row": row, "echo": inputs["tokens"], "said": (row % 2 == 0) * 1, "chance": chance}


predict.raw = ()


@pytest.fixture
def splits():
    sizes = {"train": 80, "validation": 60, "test": 237}
    return {name: Split(name, n, seed) for seed, (name, n) in enumerate(sizes.items())}


@pytest.mark.parametrize("tokens", [1, 40, 100_000])
def test_predictions_are_in_the_splits_order_whatever_the_batches(tokens):
    split, told = Split(), []
    predict_split(predict, split, Task(), Codec({}), tokens=tokens, progress=told.append)
    outputs, rate = predict_split(predict, split, Task(), Codec({}), tokens=tokens)
    assert outputs["row"].tolist() == list(range(len(split)))
    assert outputs["echo"].tolist() == split.gather(np.arange(len(split)))["tokens"].tolist()
    assert rate > 0
    assert sum(told) == len(split)


def test_longest_examples_come_first():
    seen = []

    def note(batch):
        seen.append(int(np.max(batch.inputs["tokens_length"])))
        return predict(batch)

    note.raw = ()
    predict_split(note, Split(), Task(), Codec({}), tokens=60)
    assert seen == sorted(seen, reverse=True)
    assert len(seen) > 10


@pytest.mark.parametrize("n", [3, 60, 237, 5000])
def test_buckets_of_length_hold_every_example_once(n):
    split = Split(n=n)
    score = Score("mean", lambda w: w @ split.column("label") / w.sum(1), "mean")
    with np.errstate(invalid="ignore"):
        buckets = by_length({"mean": score}, split, resamples=100, seed=0)
    assert sum(bucket["count"] for bucket in buckets) == n
    for left, right in itertools.pairwise(buckets):
        assert left["to"] < right["from"]
    for bucket in buckets:
        inside = (split.sizes >= bucket["from"]) & (split.sizes <= bucket["to"])
        assert bucket["count"] == inside.sum()
        assert bucket["scores"]["mean"] == pytest.approx(split.column("label")[inside].mean())
        assert bucket["low"] <= bucket["scores"]["mean"] <= bucket["high"]
    assert len(buckets) == {3: 1, 60: 1, 237: 4, 5000: 8}[n]


def test_no_buckets_without_sequences():
    split = Split()
    split.lengths = lambda: np.zeros((len(split), 0), np.int32)
    assert (
        by_length(Task().score({"said": np.ones(237)}, split), split, resamples=100, seed=0) == []
    )


def test_all_of_it(tmp_path, splits):
    path = tmp_path / "predictions.jsonl"
    evaluation = evaluate(
        Task(), predict, Codec({}), splits, SETTINGS, seed=1, predictions_file=path
    )
    metrics = json.loads(json.dumps(evaluation.metrics, allow_nan=False))
    assert metrics["test"]["accuracy"]["value"] == 1
    assert metrics["validation"]["accuracy"]["signature"] == "share that is right"
    assert list(metrics["baselines"]) == ["test"]
    yes = metrics["baselines"]["test"]["always yes"]["accuracy"]
    assert yes["low"] < yes["value"] < yes["high"]
    assert metrics["comparison"]["outcome"] == "better"
    assert metrics["comparison"]["baseline"] == "always yes"
    assert "is better than the strongest baseline, always yes (0.502)" in metrics["verdict"]
    assert metrics["throughput"]["evaluate"] > 0
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
    assert metrics["against"] is None


def test_without_diagnostics_there_are_only_scores(tmp_path, splits):
    settings = EvaluateSettings(
        splits=["validation"], batch_tokens=64, resamples=100, diagnostics=False, against=None
    )
    path = tmp_path / "predictions.jsonl"
    metrics = evaluate(
        Task(), predict, Codec({}), splits, settings, seed=1, predictions_file=path
    ).metrics
    assert metrics["baselines"] == metrics["by_length"] == {}
    assert metrics["comparison"] is None
    assert "nothing to compare" in metrics["verdict"]


def test_the_same_seed_gives_the_same_numbers(tmp_path, splits):
    def numbers():
        path = tmp_path / "predictions.jsonl"
        result = evaluate(
            Task(), predict, Codec({}), splits, SETTINGS, seed=4, predictions_file=path
        )
        return {k: v for k, v in result.metrics.items() if k not in ("throughput", "latency")}

    assert numbers() == numbers()


def test_a_split_on_which_no_score_is_defined():
    assert judge({}, {}, 0)["comparison"] is None
