"""A fake main.py for tests of sweeps: a run takes tenths of a second, and its outcome is chosen.

Its accuracy is 1 - |log10(train.learning_rate) + 3| / 4 - 1 / model.width, reached over the epochs.
seed=13 fails unless LUCK is set in the environment, seed=14 is killed, seed=15 never ends, seed=16
is killed the first time only, and seed=17 never ends and takes long to react to SIGTERM.
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
    settings = dict(text.lstrip("+").split("=", 1) for text in sys.argv[1:])
    directory = Path(settings.get("run") or settings["hydra.run.dir"])
    config = directory / "config.yaml"
    if config.exists():
        settings = {**json.loads(config.read_text()), **settings}
    (directory / "checkpoints").mkdir(parents=True, exist_ok=True)
    config.write_text(json.dumps(settings))
    with (directory / "starts.txt").open("a") as starts:
        starts.write(f"{time.time()}\n")

    def end(*_: object) -> None:
        time.sleep(60 if settings.get("seed") == "17" else 0)
        sys.exit(143)

    signal.signal(signal.SIGTERM, end)
    accuracy = train(directory, settings)
    width = int(settings.get("model.width", 64))
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


def train(directory: Path, settings: dict[str, str]) -> float:
    seed = int(settings.get("seed", 1))
    if seed == 13 and "LUCK" not in os.environ:
        sys.exit("error: this seed brings no luck")
    if seed == 14 or (seed == 16 and len((directory / "starts.txt").read_text().split()) == 1):
        os.kill(os.getpid(), signal.SIGKILL)
    rate = float(settings.get("train.learning_rate", 1e-3))
    width = int(settings.get("model.width", 64))
    accuracy = 1 - abs(math.log10(rate) + 3) / 4 - 1 / width
    epochs = int(settings.get("train.epochs", 3))
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
