"""A SavedModel in a process of its own, asked over standard input, answering on standard output.

    python -m pipelines.serve.worker saved_model

Nothing of any task is used: what the SavedModel brings is enough. Messages are
pickled, each after its length in eight bytes; both ends are the same user's processes. The first
one says ("ready", signatures), or ("failed", reason). Then for every (signature, columns) comes
("answer", outputs), ("refused", reason) if the values are at fault, or ("failed", reason).
"""

from __future__ import annotations

import os
import pickle
import re
import signal
import struct
import sys
from pathlib import Path
from typing import IO, Any

LENGTH = struct.Struct(">Q")

WHERE = re.compile(r"Graph execution error|Detected at node|<stack traces|  File |    ")
"""Begins lines of TensorFlow's messages that say where an error arose, not what it is."""


def packed(message: Any) -> bytes:
    content = pickle.dumps(message, protocol=5)
    return LENGTH.pack(len(content)) + content


def main() -> None:
    """Serves the SavedModel until standard input ends, as it does when the parent is gone."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # a whole group gets them; the parent ends us
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print must not come between the messages
    try:
        directory = sys.argv[1]
        model = _load(directory)
        from pipelines.export.signature_definitions import signature_definitions

        _say(answers, ("ready", signature_definitions(Path(directory))))
    except Exception as error:
        _say(answers, ("failed", _line(error)))
        return
    while header := sys.stdin.buffer.read(LENGTH.size):
        question = pickle.loads(sys.stdin.buffer.read(*LENGTH.unpack(header)))
        _say(answers, _answered(model, *question))


def _say(answers: IO[bytes], message: Any) -> None:
    answers.write(packed(message))
    answers.flush()


def _load(directory: str) -> Any:
    """The SavedModel, each signature called once: the first call takes seconds, and no client's."""
    import numpy as np

    from pipelines.runs.native_output import suppressed_native_stderr

    with suppressed_native_stderr():
        from pipelines.export.client import load

    model = load(directory)
    for name, function in model.signatures.items():
        specs = function.structured_input_signature[1]
        columns = {
            key: np.full([size or 1 for size in spec.shape], b"a", object)
            if spec.dtype.name == "string"
            else np.zeros([size or 1 for size in spec.shape], spec.dtype.as_numpy_dtype)
            for key, spec in specs.items()
            if spec.shape.rank is not None
        }
        _answered(model, name, columns)  # made-up values may well be refused
    return model


def _answered(model: Any, signature: str, columns: dict[str, Any]) -> tuple[str, Any]:
    import tensorflow as tf

    try:
        given = {name: tf.constant(values) for name, values in columns.items()}
        outputs = model.signatures[signature](**given)
        return "answer", {name: outputs[name].numpy() for name in sorted(outputs)}
    except (tf.errors.InvalidArgumentError, ValueError, TypeError) as error:
        return "refused", _line(error)
    except Exception as error:
        return "failed", _line(error)


def _line(error: Exception) -> str:
    """The reason in one line, without TensorFlow's account of where in the graph it arose."""
    text = str(getattr(error, "message", "") or error)
    text = re.sub(r"\{\{.*?\}\}|\[Op:.*?\]|\[\[[^\d\]]*\]\]", "", text)
    told = [line for line in text.splitlines() if line.strip() and not WHERE.match(line)]
    return " ".join(" ".join(told or [type(error).__name__]).split())[:300]


if __name__ == "__main__":
    main()
