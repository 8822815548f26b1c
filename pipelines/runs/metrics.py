"""What a run measured: metrics.json as a typed object.

Stages fill in their part in memory, and the file is written anew after each. Keys are stable, since
other programs read them; docs/metrics.md is made from these classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from pipelines.core.scores import Metric
from pipelines.core.types import JsonObject

SPLITS = ("train", "validation", "test")


class Facts(BaseModel):
    """A part of metrics.json. Keys of other versions are passed over when a file is read."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True)


class ScoreEntry(Facts):
    """A score with its 95% interval.

    low, high  bounds of the interval, by resampling examples.
    signature  exactly what is computed.
    label      the metric's name in words.
    scale      the metric's largest possible value; left out if it has no bound.
    """

    value: float
    low: float
    high: float
    signature: str
    label: str
    scale: float | None = None
    higher_is_better: bool

    def metric(self, name: str) -> Metric:
        return Metric(name, self.label, self.higher_is_better, self.scale)


Outcome = Literal["better", "worse", "equal"]

Scores = dict[str, ScoreEntry]
"""By the metric's name, the most important first."""


class Baseline(Facts):
    """What a system without a recurrent network scores on the same examples."""

    label: str
    scores: Scores


class Comparison(Facts):
    """The network's score minus that of another system, on the same examples.

    low, high  95% interval of the difference (paired bootstrap).
    p          two-sided.
    outcome    of the network: better or worse if the interval excludes 0.
    """

    difference: float
    low: float
    high: float
    p: float
    higher_is_better: bool
    outcome: Outcome


class BaselineComparison(Comparison):
    """With the strongest baseline, by the most important metric."""

    score: str
    baseline: str


class OtherScore(Comparison):
    """A score of another run, and the comparison with it."""

    value: float
    label: str
    scale: float | None = None


class RunComparison(Facts):
    """With the run at evaluate.against."""

    run: str
    split: str
    verdict: str
    outcome: Outcome | None = None
    scores: dict[str, OtherScore]


class LengthBucket(Facts):
    """Scores of the examples whose first sequence has a length in a range, both ends included.

    low, high  interval of the most important score.
    """

    shortest: int
    longest: int
    count: int
    scores: dict[str, float]
    low: float | None = None
    high: float | None = None


class DataFacts(Facts):
    """The data and its division.

    fingerprint      digest of the encoded data.
    rows             that were read; bad_rows of them could not be.
    rejected         kept out by task.cleaning, by reason.
    duplicates       dropped because a row that stays is the same.
    conflicts        contents that occur with different labels.
    overlaps         dropped from a split because they are in a later one, by split.
    kept_duplicates  left in validation and test splits that the source brings.
    left_out_by_limit  dropped by prepare.limit.
    division         how examples were divided where the source brings no splits.
    strata           examples by split and by the value that the division balanced.
    codec            what was fitted, by field.
    """

    fingerprint: str
    source: dict[str, str]
    rows: int
    bad_rows: int
    bad_row_reasons: dict[str, int]
    bad_row_examples: list[str]
    rejected: dict[str, int]
    duplicates: int
    conflicts: int
    overlaps: dict[str, int]
    kept_duplicates: int
    left_out_by_limit: int
    division: str = "hash"
    splits: dict[str, int]
    strata: dict[str, dict[str, int]]
    codec: dict[str, JsonObject]


class Machine(Facts):
    system: str
    processor: str
    cores: int | None = None


class Training(Facts):
    """How the model was trained, and whether the same command gives the same bits."""

    workers: int
    device: str
    precision: str
    deterministic: bool


class Epochs(Facts):
    """How far training went; best_step is the training step whose weights were kept."""

    trained: int
    best_step: int


class Parameters(Facts):
    total: int
    trainable: int


class Latency(Facts):
    """Of one prediction at a time: the median over examples of all lengths."""

    milliseconds: float
    examples: int


class Export(Facts):
    """A numeric function of the model in a file of another format, next to the original's row.

    reason      why the file is unavailable; then nothing below it is set.
    difference  the largest from the original's numbers, of which tolerance is allowed.
    score, value  the task's first metric on the same examples, where the file predicts.
    """

    format: str
    core: str
    precision: str
    reason: str | None = None
    file: str | None = None
    bytes: int | None = None
    milliseconds: float | None = None
    examples: int | None = None
    difference: float | None = None
    tolerance: float | None = None
    score: str | None = None
    value: float | None = None


class RunMetrics(Facts):
    """All that a run measured. What a stage has not measured yet is null or empty.

    seconds       by stage, and in total.
    padding       share of the positions of a batch that are padding, by split.
    saving        share_of_training: time spent on checkpoints.
    throughput    examples or tokens per second.
    memory        in MB of 10^6 bytes.
    verdict       the comparison in words.
    against       the comparison with another run.
    diagnostics   what the recurrent layers remember, and warnings.
    """

    task: str | None = None
    model: str | None = None
    seed: int | None = None
    command: str | None = None
    data: DataFacts | None = None
    train: Scores = Field(default_factory=dict)
    validation: Scores = Field(default_factory=dict)
    test: Scores = Field(default_factory=dict)
    verdict: str | None = None
    comparison: BaselineComparison | None = None
    baselines: dict[str, dict[str, Baseline]] = Field(default_factory=dict)
    against: RunComparison | None = None
    by_length: dict[str, list[LengthBucket]] = Field(default_factory=dict)
    seconds: dict[str, float] = Field(default_factory=dict)
    latency: Latency | None = None
    throughput: dict[str, float] = Field(default_factory=dict)
    memory: dict[str, float] = Field(default_factory=dict)
    parameters: Parameters | None = None
    epochs: Epochs | None = None
    training: Training | None = None
    padding: dict[str, float] = Field(default_factory=dict)
    saving: dict[str, float] = Field(default_factory=dict)
    diagnostics: JsonObject = Field(default_factory=dict)
    exports: list[Export] = Field(default_factory=list)
    versions: dict[str, str] = Field(default_factory=dict)
    machine: Machine | None = None

    def scores(self, split: str) -> Scores:
        """Of train, validation or test; empty if the split wasn't evaluated."""
        found: Scores = getattr(self, split)
        return found

    def evaluated(self) -> list[str]:
        """Splits that have scores; the one that the baselines were measured on comes first."""
        names = [name for name in reversed(SPLITS) if self.scores(name)]
        return sorted(names, key=lambda name: name not in self.baselines)

    def metric(self, name: str) -> Metric:
        """The metric of that name, as any of the scores describes it."""
        for scores in self._all_scores():
            if name in scores:
                return scores[name].metric(name)
        return Metric(name)

    def _all_scores(self) -> Iterator[Scores]:
        yield from (self.scores(split) for split in SPLITS)
        for systems in self.baselines.values():
            yield from (system.scores for system in systems.values())

    def to_json(self) -> JsonObject:
        """Without what wasn't measured."""
        dumped: JsonObject = self.model_dump(mode="json", exclude_none=True)
        return {key: value for key, value in dumped.items() if value not in ({}, [])}


def numbers(metrics: RunMetrics) -> Iterator[tuple[str, float]]:
    """Scores and costs by their stable names: "test.accuracy", "seconds.train"."""
    for split in ("validation", "test"):
        for name, entry in metrics.scores(split).items():
            yield f"{split}.{name}", entry.value
    costs: dict[str, Mapping[str, float]] = {
        "seconds": metrics.seconds,
        "memory": metrics.memory,
        "parameters": metrics.parameters.model_dump() if metrics.parameters else {},
        "latency": metrics.latency.model_dump() if metrics.latency else {},
        "throughput": metrics.throughput,
    }
    for part, values in costs.items():
        for name, value in values.items():
            yield f"{part}.{name}", float(value)
