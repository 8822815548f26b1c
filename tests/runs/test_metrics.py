"""metrics.json: what is written is read back, keys are plain, and damage is told."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from pipelines.core.errors import UserError
from pipelines.core.scores import Metric
from pipelines.runs import metrics as module
from pipelines.runs import metrics_page
from pipelines.runs.directory import Run
from pipelines.runs.measurements import Record
from pipelines.runs.metrics import (
    Baseline,
    BaselineComparison,
    DataFacts,
    Epochs,
    Export,
    Facts,
    Latency,
    LengthBucket,
    Machine,
    OtherScore,
    Parameters,
    RunComparison,
    RunMetrics,
    ScoreEntry,
    Training,
    numbers,
)

ACCURACY = Metric("accuracy", scale=1)
LOSS = Metric("loss", "nats", higher_is_better=False)
CLASSES = [one for one in vars(module).values() if isinstance(one, type) and issubclass(one, Facts)]


def entry(metric: Metric, value: float) -> ScoreEntry:
    return ScoreEntry(value=value, low=0.1, high=0.9, signature="how", **metric.facts())


def full() -> RunMetrics:
    """Every part is there, and whatever may be null is so somewhere."""
    scores = {"accuracy": entry(ACCURACY, 0.75), "loss": entry(LOSS, 0.5)}
    found = {"difference": 0.25, "low": 0.1, "high": 0.4, "p": 0.01}
    better = {**found, "higher_is_better": True, "outcome": "better"}
    return RunMetrics(
        task="sentiment", model="gru", seed=0, command="python main.py", verdict="better",
        data=DataFacts(
            fingerprint="ab", source={"name": "x.csv"}, rows=12, bad_rows=1, bad_row_examples=["7"],
            bad_row_reasons={"column 'text' is empty": 1}, rejected={}, duplicates=1, conflicts=0,
            overlaps={"train": 1}, kept_duplicates=0, left_out_by_limit=0, splits={"train": 9},
            strata={"train": {"very bad": 9}}, codec={"tokens": {"unknown_share": None}},
        ),
        train=scores, validation=scores, test=scores,
        comparison=BaselineComparison(score="accuracy", baseline="majority_class", **better),
        baselines={"test": {"majority_class": Baseline(label="majority class", scores=scores)}},
        parts={"test": {"the_ngrams_alone": Baseline(label="the n-grams alone", scores=scores)}},
        against=RunComparison(
            run="other", split="test", verdict="?", outcome=None,
            scores={"loss": OtherScore(value=0.5, label="nats", scale=None, **better)},
        ),
        by_length={"test": [LengthBucket(shortest=1, longest=3, count=9, scores={"loss": 0.5})]},
        seconds={"train": 3.5, "total": 3.5}, latency=Latency(milliseconds=1.5, examples=7),
        throughput={"evaluate": 90.0}, memory={"peak_resident_mb": 800.0},
        parameters=Parameters(total=12, trainable=10), epochs=Epochs(trained=2, best_step=9),
        training=Training(workers=1, device="CPU", precision="float32", deterministic=True),
        padding={"train": 0.25}, saving={"share_of_training": 0.0},
        diagnostics={"warnings": ["one"], "horizon": {"encoder": {"value": 3.0}}},
        exports=[Export(format="onnx", function="classify", precision="float32", reason="no room")],
        versions={"keras": "3"}, machine=Machine(system="Linux", processor="", cores=None),
    )  # fmt: skip


def test_what_was_measured_comes_back_from_the_file(tmp_path: Path) -> None:
    run = Run(tmp_path)
    assert set(full().to_json()) == set(RunMetrics.model_fields)
    run.save_metrics(full())
    assert run.load_metrics() == full()
    assert RunMetrics.model_validate(json.loads(json.dumps(full().to_json()))) == full()


def test_what_was_not_measured_is_not_in_the_file(tmp_path: Path) -> None:
    run = Run(tmp_path)
    assert run.load_metrics() == RunMetrics()
    run.save_metrics(RunMetrics(seed=0, test={"loss": entry(LOSS, 0.5)}))
    written = json.loads(run.metrics.read_text())
    assert list(written) == ["seed", "test"]
    assert "scale" not in written["test"]["loss"]
    assert "null" not in run.metrics.read_text()


def test_keys_keep_their_order_and_text_is_not_escaped(tmp_path: Path) -> None:
    """The most important score comes first, for people and for programs."""
    run = Run(tmp_path)
    scores = {name: entry(Metric(name), 0.5) for name in ("zeta", "alpha")}
    run.save_metrics(RunMetrics(test=scores, verdict="besser, 日本"))
    assert list(run.load_metrics().test) == ["zeta", "alpha"]
    assert "besser, 日本" in run.metrics.read_text(encoding="utf-8")


def keys_of(schema: dict[str, Any]) -> Iterator[str]:
    yield from schema.get("properties", ())
    for part in [*schema.get("properties", {}).values(), *schema.get("$defs", {}).values()]:
        yield from keys_of(part)


def test_no_key_holds_a_space() -> None:
    keys = list(keys_of(RunMetrics.model_json_schema()))
    assert {"by_length", "bad_row_examples", "higher_is_better", "best_step"} <= set(keys)
    assert all(key.isidentifier() and key == key.lower() for key in keys)


@pytest.mark.parametrize(
    ("content", "where"),
    [
        (b"", "Expecting value"),
        (b"{", "Expecting property name"),
        (b'{"seed": "\xff"}', "can't decode byte"),
        (b"[1]", "it: input should be"),
        (b'{"seed": "one"}', "seed: input should be a valid integer"),
        (b'{"parameters": {"total": 5}}', "parameters.trainable: field required"),
        (b'{"test": {"accuracy": {"value": 1}}}', "test.accuracy.low: field required"),
        (
            b'{"baselines": {"test": {"majority class": {"accuracy": {"value": 1}}}}}',
            "baselines.test.majority class.label: field required",
        ),
    ],
)
def test_a_file_that_is_damaged_or_of_another_version_is_reported_in_one_line(
    tmp_path: Path, content: bytes, where: str
) -> None:
    run = Run(tmp_path)
    run.metrics.write_bytes(content)
    with pytest.raises(UserError) as error:
        run.load_metrics()
    message = str(error.value)
    assert "\n" not in message
    assert f"{run.metrics} is damaged" in message
    assert where in message
    assert "delete it and run" in message


def test_keys_of_a_newer_version_are_passed_over(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.metrics.write_text(
        '{"seed": 3, "mood": "fine", "epochs": {"trained": 1, "best_step": 2, "x": 1}}'
    )
    assert run.load_metrics() == RunMetrics(seed=3, epochs=Epochs(trained=1, best_step=2))


def test_numbers_have_stable_names() -> None:
    assert dict(numbers(full())) == {
        "validation.accuracy": 0.75,
        "validation.loss": 0.5,
        "test.accuracy": 0.75,
        "test.loss": 0.5,
        "seconds.train": 3.5,
        "seconds.total": 3.5,
        "memory.peak_resident_mb": 800,
        "parameters.total": 12,
        "parameters.trainable": 10,
        "latency.milliseconds": 1.5,
        "latency.examples": 7,
        "throughput.evaluate": 90,
    }
    assert dict(numbers(RunMetrics())) == {}


def test_the_split_that_baselines_were_measured_on_comes_first() -> None:
    scores = {"loss": entry(LOSS, 0.5)}
    found = RunMetrics(train=scores, validation=scores, test=scores)
    assert found.evaluated_splits() == ["test", "validation", "train"]
    found.baselines = {"validation": {}}
    assert found.evaluated_splits() == ["validation", "test", "train"]
    assert RunMetrics(validation=scores).evaluated_splits() == ["validation"]


def test_a_metric_is_as_any_of_the_scores_describes_it() -> None:
    scores = {"loss": entry(LOSS, 0.5)}
    alone = RunMetrics(baselines={"test": {"guess": Baseline(label="guess", scores=scores)}})
    for found in (RunMetrics(test=scores), RunMetrics(validation=scores), alone):
        assert found.metric("loss") == LOSS
    assert RunMetrics().metric("exact_match").label == "exact match"


def test_a_stages_seconds_are_saved_however_it_ends_and_those_of_training_add_up(
    tmp_path: Path,
) -> None:
    record = Record(Run(tmp_path))
    record.metrics.seconds = {"train": 100.0, "report": 50.0, "total": 150.0}
    with record.stage("report"):
        pass
    with pytest.raises(KeyboardInterrupt), record.stage("train"):
        raise KeyboardInterrupt
    seconds = Run(tmp_path).load_metrics().seconds
    assert 0 <= seconds["report"] < 50
    assert 100 <= seconds["train"] < 150
    assert seconds["total"] == pytest.approx(seconds["report"] + seconds["train"])
    assert list(seconds)[-1] == "total"


def test_docs_metrics_md_is_what_the_classes_say() -> None:
    """To write it anew: python -m pipelines.runs.metrics_page."""
    assert metrics_page.PAGE.read_text(encoding="utf-8") == metrics_page.page()


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_each_key_has_a_meaning_and_no_meaning_is_of_a_key_that_is_not_there(
    kind: type[BaseModel],
) -> None:
    assert list(metrics_page.meanings(kind)) or not kind.model_fields
    assert set(metrics_page.meanings(kind)) == set(kind.model_fields)


def test_the_page_has_a_row_for_each_key_that_can_be_in_the_file() -> None:
    page = metrics_page.page()
    assert page.startswith("# metrics.json\n")
    for line in (
        "| `seed` | whole number | What a run is called by, together. |",
        "| `test` | object of [ScoreEntry](#scoreentry) |",
        "| `exports` | list of [Export](#export) |",
        "| `outcome` | `better` or `worse` or `equal` |",
    ):
        assert line in page
    for kind in CLASSES:
        if kind.__name__ not in ("Facts", "Comparison"):
            _, _, section = page.partition(f"\n## {kind.__name__}\n")
            rows = section.partition("\n## ")[0]
            assert all(f"\n| `{key}` | " in rows for key in kind.model_fields), kind
