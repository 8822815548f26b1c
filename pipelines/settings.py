"""Settings of the stages: types and ranges, free of TensorFlow; the values are in conf/."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from models.settings import Count, Rate, settings

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]


@settings
class PrepareSettings:
    """How the data is divided and kept; see pipelines/prepare.py.

    validation, test  shares of the examples, for the splits the source doesn't bring.
    bad_rows          share of rows that may be unreadable before that is an error.
    limit             use only so many examples.
    """

    validation: Annotated[float, Field(gt=0, lt=0.5)]
    test: Annotated[float, Field(gt=0, lt=0.5)]
    bad_rows: Share
    limit: Count | None
    division_seed: int
    cache_dir: str


@settings
class TrainSettings:
    """How a model is fitted; see pipelines/train.py.

    batch_tokens, batch_examples  a batch holds as many examples as fit into both.
    warmup            share of all updates (below 1) or a number of updates.
    final_rate        the last learning rate as a share of the highest.
    clip_norm         bound on the global norm of the gradients.
    accumulate        batches an update.
    average           decay of the moving average of the weights, which is what is kept.
    average_best      so many of the best checkpoints are averaged at the end, if their mean scores
                      better than the best alone.
    monitor           validation score that decides which weights are kept.
    patience          evaluations without improvement before training stops.
    evaluate_every    updates between evaluations; null for the end of each epoch.
    """

    epochs: Count
    max_steps: Count | None
    batch_tokens: Count
    batch_examples: Count | None
    optimizer: Literal["adam", "adamw", "sgd", "rmsprop"]
    learning_rate: Positive
    weight_decay: NotNegative
    momentum: Rate
    schedule: Literal["constant", "linear", "cosine", "exponential"]
    warmup: NotNegative
    final_rate: Share
    clip_norm: Positive | None
    accumulate: Count
    average: Rate | None
    average_best: Count
    monitor: str | None
    patience: Count | None
    evaluate_every: Count | None
    checkpoint_seconds: Positive
    precision: Literal["float32", "mixed_bfloat16"]
    deterministic: bool
    tensorboard: bool


@settings
class EvaluateSettings:
    """What is measured after training; see pipelines/evaluate.py.

    against  directory of another run on the same data, to compare with example by example.
    """

    splits: Annotated[list[Literal["train", "validation", "test"]], Field(min_length=1)]
    batch_tokens: Count
    resamples: Annotated[int, Field(ge=100)]
    diagnostics: bool
    against: str | None


@settings
class ExportSettings:
    """What is made of a trained model for others; see pipelines/export.py and formats.py.

    saved_model  write it.
    verify       test examples that are asked again in a fresh process; 0 for none.
    formats      numeric cores in other formats, each compared with the original.
    sample       test examples that they are compared and scored on.
    """

    saved_model: bool
    verify: Annotated[int, Field(ge=0)]
    formats: list[Literal["litert", "onnx"]]
    sample: Count
