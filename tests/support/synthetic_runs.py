"""Run directories as the stages write them, with given scores and without a model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from pipelines.core.errors import UserError
from pipelines.core.scores import Score
from pipelines.evaluate.predictions import keep
from pipelines.runs.directory import Run


def score_entry(value: float, *, higher: bool = True) -> dict[str, Any]:
    return {
        "value": value, "low": value - 0.02, "high": value + 0.03,
        "signature": "s", "higher_is_better": higher,
    }  # fmt: skip


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
        metrics = {
            "validation": {
                "accuracy": score_entry(accuracy),
                "loss": score_entry(1 - accuracy, higher=False),
            },
            "test": {"accuracy": score_entry(accuracy - 0.1)},
            "seconds": {"train": costs.get("seconds", 10.0), "report": 1.0},
            "parameters": {"total": int(costs.get("parameters", 1000))},
            "latency": {"milliseconds": costs.get("milliseconds", 2.0)},
            "memory": {"peak_resident_mb": 800.0},
        }
        (directory / "metrics.json").write_text(json.dumps(metrics))
    if right is not None:
        keep(directory / "predictions.npz", "test", {"right": np.array(right, float)})
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
        return {"accuracy": Score("accuracy", lambda w: w @ right / w.sum(1), "share")}
