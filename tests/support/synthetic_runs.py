"""Run directories as the stages write them, with given scores and without a model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from pipelines.core.errors import UserError
from pipelines.core.scores import Metric, Score
from pipelines.evaluate.metrics.classification import ACCURACY, LOSS
from pipelines.evaluate.predictions import save_predictions
from pipelines.runs.directory import Run
from pipelines.runs.metrics import Latency, Parameters, RunMetrics, ScoreEntry


def score_entry(value: float, metric: Metric = ACCURACY) -> ScoreEntry:
    return ScoreEntry(
        value=value,
        low=value - 0.02,
        high=value + 0.03,
        signature="s",
        label=metric.label,
        scale=metric.scale,
        higher_is_better=metric.higher_is_better,
    )


def write_run(
    directory: Path,
    overrides: Sequence[str],
    *,
    accuracy: float = 0.5,
    seed: int = 1,
    done: bool = True,
    right: Sequence[int] | None = None,
    **costs: float,
) -> Path:
    """Writes a run's directory. right: by test example, 1 if its prediction is right."""
    choices = {"model": "gru", "task": "sentiment", "data": "rotten_tomatoes"}
    given = dict(text.split("=", 1) for text in [*overrides, f"seed={seed}"])
    choices |= {key: value for key, value in given.items() if key in choices}
    (directory / ".hydra").mkdir(parents=True)
    (directory / ".hydra" / "overrides.yaml").write_text(
        yaml.safe_dump([f"{k}={v}" for k, v in given.items()])
    )
    (directory / ".hydra" / "hydra.yaml").write_text(
        yaml.safe_dump({"hydra": {"runtime": {"choices": choices}}})
    )
    config: dict[str, Any] = {
        "task": {"name": "sentiment"}, "data": {"name": "rotten_tomatoes"}, "seed": seed,
        "prepare": {"limit": None}, "train": {"monitor": None, "epochs": 3, "learning_rate": 0.1},
    }  # fmt: skip
    for key, text in given.items():
        *groups, name = key.split(".")
        part = config
        for group in groups:
            part = part.setdefault(group, {})
        if key not in choices:
            part[name] = yaml.safe_load(text) if text[0] not in "<" else text
    (directory / "config.yaml").write_text(yaml.safe_dump(config))
    rows = [{"epoch": e, "validation.accuracy": accuracy * e / 3} for e in (1, 2, 3)]
    (directory / "history.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if done:
        total = int(costs.get("parameters", 1000))
        metrics = RunMetrics(
            task=choices["task"],
            model=choices["model"],
            seed=seed,
            validation={"accuracy": score_entry(accuracy), "loss": score_entry(1 - accuracy, LOSS)},
            test={"accuracy": score_entry(accuracy - 0.1)},
            seconds={"train": costs.get("seconds", 10.0), "report": 1.0},
            parameters=Parameters(total=total, trainable=total),
            latency=Latency(milliseconds=costs.get("milliseconds", 2.0), examples=50),
            memory={"peak_resident_mb": 800.0},
        )
        Run(directory).save_metrics(metrics)
    if right is not None:
        save_predictions(directory / "predictions.npz", "test", {"right": np.array(right, float)})
        lines = [
            {"split": "test", "row": row, "given": {"text": f"t{row}"}, "reference": {"label": "a"}}
            for row in range(len(right))
        ]
        (directory / "predictions.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
    return directory


def fail_to_load_split(run: Run, name: str) -> Any:
    raise UserError("there is no data")


class Split:
    """A split with n examples."""

    def __init__(self, n: int):
        self.n = n

    def __len__(self) -> int:
        return self.n


class Task:
    """A task whose accuracy is the share of predictions that are stored as right."""

    def score(self, predictions: Mapping[str, np.ndarray], split: Split) -> dict[str, Score]:
        right = predictions["right"]
        return {"accuracy": Score(ACCURACY, lambda w: w @ right / w.sum(1), "share")}
