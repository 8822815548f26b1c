"""Evaluate: predictions of whole splits, scores with intervals, and baselines to compare with."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipelines.core.contracts import Split
from pipelines.core.prediction import Predict
from pipelines.core.scores import Score
from pipelines.core.settings import EvaluateSettings
from pipelines.core.task import Task
from pipelines.data.batches import assemble, costs_of, plan
from pipelines.evaluate.against import compare_with_run
from pipelines.evaluate.bootstrap import Measurement, Resampling, measure_all
from pipelines.evaluate.predictions import Arrays, save_predictions, write_predictions
from pipelines.evaluate.verdict import judge
from pipelines.graphs.prediction import raw_columns
from pipelines.runs.metrics import (
    SPLITS,
    Baseline,
    BaselineComparison,
    Latency,
    LengthBucket,
    RunComparison,
    RunMetrics,
    Scores,
)
from pipelines.runs.progress import Bar

log = logging.getLogger(__name__)


MOST_BUCKETS = 8
SMALLEST_BUCKET = 50
"""Fewer examples than this have intervals too wide to compare lengths by."""


MOST_TIMED, MOST_SECONDS = 50, 3.0
"""Examples that are timed in batches of one, and the seconds that this may take."""


class Evaluation(NamedTuple):
    """The measurements, and the predictions by split, in the split's order.

    scores, baselines, parts, by_length, verdict, comparison, against, latency  as in RunMetrics.
    throughput  predictions per second.
    """

    scores: dict[str, Scores]
    baselines: dict[str, dict[str, Baseline]]
    parts: dict[str, dict[str, Baseline]]
    by_length: dict[str, list[LengthBucket]]
    verdict: str
    comparison: BaselineComparison | None
    against: RunComparison | None
    latency: Latency
    throughput: float
    predictions: dict[str, Arrays]

    def record(self, metrics: RunMetrics) -> None:
        """Puts all into the run's metrics, in place of what an earlier evaluation measured."""
        for name in SPLITS:
            setattr(metrics, name, self.scores.get(name, {}))
        metrics.baselines, metrics.parts = self.baselines, self.parts
        metrics.by_length = self.by_length
        metrics.verdict, metrics.comparison = self.verdict, self.comparison
        metrics.against, metrics.latency = self.against, self.latency
        metrics.throughput["evaluate"] = self.throughput


class Prediction(NamedTuple):
    """A split's predictions, in its order, and examples a second once the graph is traced."""

    outputs: Arrays
    throughput: float


def evaluate(
    predict: Predict,
    splits: Mapping[str, Split],
    settings: EvaluateSettings,
    *,
    seed: int,
    predictions_file: Path,
) -> Evaluation:
    """Measures the splits that the settings name; writes the predictions, a JSON object a line.

    And, as .npz, the arrays of the split that is reported.

    splits    all of the run, by name; the baselines learn from "train".
    """
    task, codec = predict.task, predict.codec
    predictions: dict[str, Arrays] = {}
    measured: dict[str, dict[str, Measurement]] = {}
    throughput = 0.0
    buckets: dict[str, list[LengthBucket]] = {}
    for name in settings.splits:
        split = splits[name]
        with Bar(f"predict {name}", len(split), "examples") as bar:
            predictions[name], throughput = predict_split(
                predict, split, tokens=settings.batch_tokens, progress=bar.advance
            )
        scores = task.score(predictions[name], split)
        measured[name] = measure_all(scores, len(split), resamples=settings.resamples, seed=seed)
        if settings.diagnostics:
            buckets[name] = score_by_length(scores, split, resamples=settings.resamples, seed=seed)
    evaluated = {name: splits[name] for name in predictions}
    last = reported_split(settings)
    write_predictions(predictions_file, task, codec, evaluated, predictions)
    save_predictions(predictions_file.with_suffix(".npz"), last, predictions[last])
    baselines: dict[str, dict[str, Measurement]] = {}
    if settings.diagnostics:
        baselines = measure_baselines(task, splits["train"], splits[last], settings, seed=seed)
    parts = _measure(task.parts(predictions[last]), task, splits[last], settings, seed=seed)
    labels = {key_of(label): label for label in baselines}
    by_key = {key_of(label): scores for label, scores in baselines.items()}
    verdict, comparison = judge(measured[last], by_key, labels, len(splits[last]))
    against = None
    if settings.against is not None:
        against = compare_with_run(
            settings.against,
            measured[last],
            task,
            splits[last],
            Resampling(settings.resamples, seed),
        )
        log.info("%s", against.verdict)
    log.info("%s", verdict)
    return Evaluation(
        scores={name: entries(scores) for name, scores in measured.items()},
        baselines={last: _baselines(baselines)} if settings.diagnostics else {},
        parts={last: _baselines(parts)} if parts else {},
        by_length=buckets,
        verdict=verdict,
        comparison=comparison,
        against=against,
        latency=latency(predict, splits[last]),
        throughput=throughput,
        predictions=predictions,
    )


def key_of(label: str) -> str:
    """A system's name as a key: "tf-idf logistic regression" is "tf_idf_logistic_regression"."""
    return re.sub(r"[^a-z0-9]+", "_", label.lower()).strip("_")


def _baselines(measured: Mapping[str, Mapping[str, Measurement]]) -> dict[str, Baseline]:
    """By key, from measurements by label."""
    return {
        key_of(label): Baseline(label=label, scores=entries(scores))
        for label, scores in measured.items()
    }


def reported_split(settings: EvaluateSettings) -> str:
    """The split that baselines are measured on, and that the report shows examples of."""
    return "test" if "test" in settings.splits else settings.splits[-1]


def predict_split(
    predict: Predict,
    split: Split,
    *,
    tokens: int,
    progress: Callable[[int], None] | None = None,
) -> Prediction:
    """Every example's prediction.

    Batches go longest first: the first runs out of memory, or none. Outputs that are longer in
    some batches than in others (sequences) are padded with 0 on the right of their second axis.
    `progress` is called with the number of further examples.
    """
    task, codec = predict.task, predict.codec
    order = plan(costs_of(task, codec, split), tokens=tokens, seed=None)
    parts, seconds = [], []
    batches = assemble(split, order, make=lambda columns: task.batch(columns, codec))
    for number, batch in enumerate(batches):
        if predict.raw:
            batch.inputs.update(raw_columns(split.examples(order[number].tolist()), predict.raw))
        start = time.perf_counter()
        parts.append({name: np.asarray(value) for name, value in predict(batch).items()})
        seconds.append(time.perf_counter() - start)
        if progress:
            progress(len(order[number]))
    rows = [order[number] for number in range(len(order))]
    # The first batch also traces the graph, which is no property of the model.
    timed = slice(1, None) if len(rows) > 1 else slice(None)
    throughput = sum(map(len, rows[timed])) / max(sum(seconds[timed]), 1e-9)
    back = np.argsort(np.concatenate(rows), kind="stable")
    outputs = {name: _join([part[name] for part in parts])[back] for name in parts[0]}
    return Prediction(outputs, throughput)


def latency(predict: Predict, split: Split) -> Latency:
    """Milliseconds of a prediction: the median over batches of one example, of all lengths."""
    batches = plan(split.lengths(), tokens=1, seed=None, maximum_examples=1)
    seconds: list[float] = []
    for number in np.linspace(0, len(batches) - 1, min(MOST_TIMED, len(batches))).astype(int):
        rows = batches[int(number)]
        batch = predict.task.batch(split.gather(rows), predict.codec)
        if predict.raw:
            batch.inputs.update(raw_columns(split.examples(rows.tolist()), predict.raw))
        start = time.perf_counter()
        for value in predict(batch).values():
            np.asarray(value)
        seconds.append(time.perf_counter() - start)
        if sum(seconds) > MOST_SECONDS:
            break
    milliseconds = round(1e3 * float(np.median(seconds)), 3)
    return Latency(milliseconds=milliseconds, examples=len(seconds))


def entries(measured: Mapping[str, Measurement]) -> Scores:
    return {name: measurement.entry() for name, measurement in measured.items()}


def measure_baselines(
    task: Task, train: Split, split: Split, settings: EvaluateSettings, *, seed: int
) -> dict[str, dict[str, Measurement]]:
    """The same scores on the same resamples for each naive system, by its name."""
    start = time.perf_counter()
    measured = _measure(task.baselines(train, split), task, split, settings, seed=seed)
    log.info("baselines: %s in %.1f s", ", ".join(measured) or "none", time.perf_counter() - start)
    return measured


def _measure(
    systems: Mapping[str, Mapping[str, np.ndarray]],
    task: Task,
    split: Split,
    settings: EvaluateSettings,
    *,
    seed: int,
) -> dict[str, dict[str, Measurement]]:
    """Of each system's predictions, by its name."""
    return {
        name: measure_all(
            task.score(outputs, split), len(split), resamples=settings.resamples, seed=seed
        )
        for name, outputs in systems.items()
    }


def score_by_length(
    scores: Mapping[str, Score], split: Split, *, resamples: int, seed: int
) -> list[LengthBucket]:
    """Scores on buckets of the first sequence field's length, about equally many examples in each.

    The most important score comes with its interval. Nothing for a split without sequences.
    """
    lengths = split.lengths()
    if not len(lengths) or not lengths.shape[1]:
        return []
    lengths, buckets = lengths[:, 0], []
    first = next(iter(scores))
    for low, high in _quantile_buckets(lengths):
        keep = (lengths >= low) & (lengths <= high)
        values = {
            name: float(score.of(keep[None].astype(float))[0]) for name, score in scores.items()
        }
        bucket = LengthBucket(
            shortest=int(lengths[keep].min()),
            longest=int(lengths[keep].max()),
            count=int(keep.sum()),
            scores={name: value for name, value in values.items() if np.isfinite(value)},
        )
        part = measure_all(
            {first: scores[first]}, len(keep), resamples=resamples, seed=seed, keep=keep
        )
        if first in part:
            entry = part[first].entry()
            bucket.low, bucket.high = entry.low, entry.high
        buckets.append(bucket)
    return buckets


def _quantile_buckets(lengths: np.ndarray) -> list[tuple[int, int]]:
    """Disjoint closed ranges that together hold every length; fewer where lengths repeat often."""
    count = int(np.clip(len(lengths) // SMALLEST_BUCKET, 1, MOST_BUCKETS))
    upper = np.unique(np.quantile(lengths, np.arange(1, count + 1) / count, method="lower"))
    lower = np.concatenate([[lengths.min()], upper[:-1] + 1])
    return [(int(low), int(high)) for low, high in zip(lower, upper, strict=True)]


def _join(parts: list[np.ndarray]) -> np.ndarray:
    if parts[0].ndim < 2 or len({part.shape[1] for part in parts}) == 1:
        return np.concatenate(parts)
    longest = max(part.shape[1] for part in parts)
    rest = [(0, 0)] * (parts[0].ndim - 2)
    return np.concatenate(
        [np.pad(part, [(0, 0), (0, longest - part.shape[1]), *rest]) for part in parts]
    )
