"""Stands in for main.py in tests of sweeps: a run in tenths of a second, with outcomes to choose.

Its accuracy is 1 - |log10(train.learning_rate) + 3| / 4 - 1 / model.width, reached over the epochs.
seed=13 fails without LUCK in the environment, seed=14 is killed, seed=15 never ends, seed=16 is
killed the first time only, and seed=17 never ends and takes long to do so when it is asked to.
"""

from __future__ import annotations

import json
import math
import os
import signal
import sys
import time
from pathlib import Path


def main() -> None:
    given = dict(text.lstrip("+").split("=", 1) for text in sys.argv[1:])
    directory = Path(given.get("run") or given["hydra.run.dir"])
    config = directory / "config.yaml"
    if config.exists():
        given = {**json.loads(config.read_text()), **given}
    (directory / "checkpoints").mkdir(parents=True, exist_ok=True)
    config.write_text(json.dumps(given))
    with (directory / "starts.txt").open("a") as starts:
        starts.write(f"{time.time()}\n")

    def end(*_: object) -> None:
        time.sleep(60 if given.get("seed") == "17" else 0)
        sys.exit(143)

    signal.signal(signal.SIGTERM, end)
    accuracy = train(directory, given)
    width = int(given.get("model.width", 64))
    entry = {
        "value": accuracy, "low": accuracy, "high": accuracy, "signature": "share that is right",
        "label": "accuracy", "scale": 1.0, "higher_is_better": True,
    }  # fmt: skip
    metrics = {
        "task": "sentiment",
        "validation": {"accuracy": entry},
        "latency": {"milliseconds": width / 10, "examples": 50},
        "parameters": {"total": 100 * width, "trainable": 100 * width},
        "seconds": {"train": 0.1, "report": 0.1, "total": 0.2},
        "threads": os.environ.get("TF_NUM_INTRAOP_THREADS"),
    }
    (directory / "metrics.json").write_text(json.dumps(metrics))


def train(directory: Path, given: dict[str, str]) -> float:
    seed = int(given.get("seed", 1))
    if seed == 13 and "LUCK" not in os.environ:
        sys.exit("error: this seed brings no luck")
    if seed == 14 or (seed == 16 and len((directory / "starts.txt").read_text().split()) == 1):
        os.kill(os.getpid(), signal.SIGKILL)
    rate, width = float(given.get("train.learning_rate", 1e-3)), int(given.get("model.width", 64))
    accuracy = 1 - abs(math.log10(rate) + 3) / 4 - 1 / width
    epochs = int(given.get("train.epochs", 3))
    history = directory / "history.jsonl"
    rows = history.read_text().splitlines() if history.exists() else []
    for epoch in range(len(rows), epochs):
        time.sleep(
            float(os.environ.get("FAKE_SECONDS", "0.05")) * (1000 if seed in (15, 17) else 1)
        )
        value = accuracy * (epoch + 1) / epochs
        rows.append(json.dumps({"epoch": epoch + 1, "validation.accuracy": value}))
        temporary = history.with_name(".history")
        temporary.write_text("\n".join(rows) + "\n")
        temporary.replace(history)
    return accuracy


if __name__ == "__main__":
    main()
