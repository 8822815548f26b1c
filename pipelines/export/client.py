"""Asks a SavedModel in a process of its own, with TensorFlow and nothing of this project.

    python pipelines/export/client.py saved_model < rows.jsonl > answers.jsonl

A row is a JSON object with the signature's inputs by name, such as {"text": "I liked it."}; bytes
that are no text are {"b64": "..."}, as TensorFlow Serving has them.
It is also all that another program needs to do to use an export.
"""

import base64
import importlib
import json
import os
import sys
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf

BATCH = 64


def main() -> None:
    model = load(sys.argv[1])
    answer = model.signatures["serving_default"]
    rows = [json.loads(line) for line in sys.stdin]
    for start in range(0, len(rows), BATCH):
        part = rows[start : start + BATCH]
        columns = {name: tf.constant([raw(row[name]) for row in part]) for name in part[0]}
        outputs = {name: value.numpy() for name, value in answer(**columns).items()}
        for index in range(len(part)):
            row = {name: value[index] for name, value in outputs.items()}
            print(
                json.dumps({name: plain(value) for name, value in row.items()}, ensure_ascii=False)
            )


def load(directory: str) -> Any:
    """The SavedModel, after the modules that bring operators which it uses (SentencePiece's).

    Its signatures don't keep it alive.
    """
    with open(f"{directory}/assets.extra/imports.txt", encoding="utf-8") as modules:
        for module in modules.read().split():
            importlib.import_module(module)
    return tf.saved_model.load(directory)


def raw(value: Any) -> Any:
    """What a JSON value stands for."""
    return base64.b64decode(value["b64"]) if isinstance(value, dict) else value


def plain(value: object) -> object:
    """As JSON holds it."""
    if isinstance(value, bytes):
        return value.decode("utf-8")
    listed = value.tolist() if hasattr(value, "tolist") else value
    return [plain(item) for item in listed] if isinstance(listed, list) else listed


if __name__ == "__main__":
    main()
