"""A worker like pipelines.serve.worker that starts at once: its SavedModel is a number in a file.

    python quick_worker.py directory

Its only signature multiplies x (B, 2) by the number in the directory's saved_model.pb.
"""

from __future__ import annotations

import os
import pickle
import sys
import time
from pathlib import Path
from typing import Any

from pipelines.serve.worker import MESSAGE_LENGTH, pack_message


def tensor() -> dict[str, Any]:
    sizes = [{"size": "-1", "name": ""}, {"size": "2", "name": ""}]
    return {"dtype": "DT_FLOAT", "tensor_shape": {"dim": sizes, "unknown_rank": False}}


def main() -> None:
    responses = os.fdopen(os.dup(1), "wb")

    def send(message: object) -> None:
        responses.write(pack_message(message))
        responses.flush()

    factor = float((Path(sys.argv[1]) / "saved_model.pb").read_text())
    signature = {
        "inputs": {"x": tensor()},
        "outputs": {"y": tensor()},
        "method_name": "tensorflow/serving/predict",
    }
    send(("ready", {"serving_default": signature}))
    while header := sys.stdin.buffer.read(MESSAGE_LENGTH.size):
        _, columns = pickle.loads(sys.stdin.buffer.read(*MESSAGE_LENGTH.unpack(header)))
        time.sleep(0.005)  # so that most deaths come amid a batch
        send(("outputs", {"y": factor * columns["x"]}))


if __name__ == "__main__":
    main()
