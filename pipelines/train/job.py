"""The inputs of a training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import keras

from pipelines.core.contracts import Codec, Split
from pipelines.core.prediction import Predict
from pipelines.core.settings import TrainSettings
from pipelines.core.task import Task
from pipelines.distributed.workers import SINGLE_WORKER, Workers
from pipelines.runs.directory import Run


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainingJob:
    """The model, data and settings of a training.

    predict            gives predictions for a batch, as in `evaluate`.
    evaluation_tokens  positions in a batch of validation examples, padding included.
    run                the directory that checkpoints, history and the model are written to.
    """

    task: Task
    model: keras.Model
    codec: Codec
    splits: Mapping[str, Split]
    settings: TrainSettings
    predict: Predict
    evaluation_tokens: int
    seed: int
    run: Run
    workers: Workers = SINGLE_WORKER
