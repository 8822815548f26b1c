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

    value             on the examples as they are.
    low, high         bounds of the interval, by resampling examples.
    signature         exactly what is computed.
    label             the metric's name in words.
    scale             the metric's largest possible value; left out if it has no bound.
    higher_is_better  the metric's direction.
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
    """What a simple system, or a part of the network by itself, scores on the same examples.

    label   the system's name in words.
    scores  its scores, by the metric's name.
    """

    label: str
    scores: Scores


class Comparison(Facts):
    """The network's score minus that of another system, on the same examples.

    difference        in the metric's own units.
    low, high         bounds of the difference's 95% interval (paired bootstrap).
    p                 of no difference, two-sided.
    higher_is_better  the metric's direction.
    outcome           of the network: better or worse if the interval excludes 0.
    """

    difference: float
    low: float
    high: float
    p: float
    higher_is_better: bool
    outcome: Outcome


class BaselineComparison(Comparison):
    """The comparison with the strongest baseline, by the most important metric.

    score     the metric's name.
    baseline  the key of the system in `baselines`.
    """

    score: str
    baseline: str


class OtherScore(Comparison):
    """A score of another run, and the comparison with it.

    value  the other run's score.
    label  the metric's name in words.
    scale  the metric's largest possible value; left out if it has no bound.
    """

    value: float
    label: str
    scale: float | None = None


class RunComparison(Facts):
    """The comparison with the run at evaluate.against.

    run      the other run's directory.
    split    whose examples both were measured on.
    verdict  the comparison in words.
    outcome  by the most important metric; left out if no score could be compared.
    scores   comparisons, by the metric's name.
    """

    run: str
    split: str
    verdict: str
    outcome: Outcome | None = None
    scores: dict[str, OtherScore]


class LengthBucket(Facts):
    """Scores of the examples whose first sequence has a length in a range, both ends included.

    shortest, longest  the range.
    count              examples in it.
    scores             by the metric's name.
    low, high          bounds of the most important score's 95% interval.
    """

    shortest: int
    longest: int
    count: int
    scores: dict[str, float]
    low: float | None = None
    high: float | None = None


class LeakFacts(Facts):
    """Something that makes scores better than they will be on new data.

    kind      what it is: neighbours, near_duplicates, column, word or length.
    strength  how much of the data has it, or how well it tells a label (F1); of 1.
    sentence  what was found, and which setting removes it.
    """

    kind: str
    strength: float
    sentence: str


class DataFacts(Facts):
    """The data and its division.

    fingerprint        digest of the encoded data.
    source             the data's name, origin, licence and citation.
    rows               that the source has, whatever becomes of them.
    bad_rows           rows that could not be read.
    bad_row_reasons    how many these are, by reason.
    bad_row_examples   where the first of these are, and what is wrong.
    rejected           rows that task.cleaning keeps out, by reason.
    duplicates         rows dropped because one that stays is the same.
    conflicts          contents that occur with different labels.
    overlaps           rows dropped from a split because they are in a later one, by split.
    kept_duplicates    duplicates left in validation and test splits that the source brings.
    left_out_by_limit  rows dropped by prepare.limit.
    division           how examples were divided where the source brings no splits.
    groups             sets of rows that went to one split together, where the division has them.
    largest_group      rows in the largest of them.
    splits             examples by split.
    strata             examples by split and by the value that the division balanced.
    leaks              what makes scores better than they will be on new data, as a sample shows.
    codec              what was fitted, by field.
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
    groups: int | None = None
    largest_group: int | None = None
    splits: dict[str, int]
    strata: dict[str, dict[str, int]]
    leaks: list[LeakFacts] = Field(default_factory=list)
    codec: dict[str, JsonObject]


class Machine(Facts):
    """Where a run was made.

    system     the operating system and its version.
    processor  its name.
    cores      that a process can see.
    """

    system: str
    processor: str
    cores: int | None = None


class Training(Facts):
    """How the model was trained, and whether the same command gives the same bits.

    workers        processes that trained together.
    device         CPU or the accelerator's name.
    precision      the dtype policy.
    deterministic  the same command gives the same weights, to the bit.
    """

    workers: int
    device: str
    precision: str
    deterministic: bool


class Epochs(Facts):
    """How far training went.

    trained    epochs that were trained.
    best_step  the training step whose weights were kept.
    """

    trained: int
    best_step: int


class Parameters(Facts):
    """How large the model is.

    total      numbers that it holds.
    trainable  those of them that training changes.
    """

    total: int
    trainable: int


class Latency(Facts):
    """How long one prediction at a time takes.

    milliseconds  median over examples of all lengths.
    examples      how many were timed.
    """

    milliseconds: float
    examples: int


class Export(Facts):
    """A numeric function of the model in a file of another format, next to the original's row.

    format      of the file; the original's is tensorflow.
    function    the function's name.
    precision   of the weights.
    reason      why the file is unavailable; then nothing below it is set.
    file        below exports/.
    bytes       its size.
    milliseconds  of one prediction: the median over examples.
    examples    that were compared.
    difference  the largest from the original's numbers, as a share of them or of 1.
    tolerance   the largest difference that is allowed.
    score, value  the task's first metric on the same examples, where the file predicts.
    """

    format: str
    function: str
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
    """All that a run measured. What a stage has not measured is left out of the file.

    task, model, seed  what a run is called by, together.
    command       the command line that started it.
    data          the data and its division.
    train, validation, test  scores of the splits that were evaluated, by the metric's name.
    verdict       the comparison with the strongest baseline in words.
    comparison    with the strongest baseline.
    baselines     simple systems, by the split that they were measured on and by a key.
    parts         of a network that has several, each by itself, by the same split and by a key.
    against       the comparison with another run.
    by_length     scores by length, by split.
    seconds       that each stage took, and all together.
    latency       how long one prediction takes.
    parameters    how large the model is.
    epochs        how far training went.
    training      how the model was trained.
    padding       share of the positions of a batch that are padding, by split.
    saving        time that checkpoints took, as share_of_training.
    throughput    examples or tokens per second.
    memory        in MB of 10^6 bytes.
    diagnostics   what the recurrent layers remember, and warnings.
    exports       files of other formats, and the original.
    versions      those of Python and of the packages that decide what a run computes.
    machine       where the run was made.
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
    parts: dict[str, dict[str, Baseline]] = Field(default_factory=dict)
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

    def evaluated_splits(self) -> list[str]:
        """Splits that have scores; the one that the baselines were measured on comes first."""
        names = [name for name in reversed(SPLITS) if self.scores(name)]
        return sorted(names, key=lambda name: name not in self.baselines)

    def compared(self, split: str) -> list[Baseline]:
        """What stands next to the network on a split: its parts by themselves, and baselines."""
        return [*self.parts.get(split, {}).values(), *self.baselines.get(split, {}).values()]

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
