"""A SavedModel in a process of its own. Requests come on standard input, responses on output.

    python -m pipelines.serve.worker saved_model

It needs no code of any task: what the SavedModel contains is enough. Messages are pickled, each
after its length in eight bytes; both ends are processes of the same user. The first message is
("ready", signatures) or ("failed", reason). Each request (signature, columns) gets one response:
("outputs", columns), ("invalid", reason) if the values are at fault, or ("failed", reason).
"""

from __future__ import annotations

import os
import pickle
import re
import signal
import struct
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from pipelines.export.client import LENGTH_SUFFIX, as_tensors, load, sequence_names

MESSAGE_LENGTH = struct.Struct(">Q")

TRACE_LINE = re.compile(r"Graph execution error|Detected at node|<stack traces|  File |    ")
"""Beginnings of lines in TensorFlow's messages that say where an error arose, not what it is."""


def pack_message(message: object) -> bytes:
    content = pickle.dumps(message, protocol=5)
    return MESSAGE_LENGTH.pack(len(content)) + content


def main() -> None:
    """Predicts until standard input ends, as it does when the parent process is gone."""
    for number in (signal.SIGINT, signal.SIGTERM):
        # Ctrl-C goes to all processes of a terminal. The parent drains first, then ends this one.
        signal.signal(number, signal.SIG_IGN)
    responses = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print must not come between the messages
    try:
        directory = sys.argv[1]
        model = _load_and_warm_up(directory)
        from pipelines.export.signature_definitions import signature_definitions

        _send(responses, ("ready", signature_definitions(Path(directory))))
    except Exception as error:
        _send(responses, ("failed", _one_line(error)))
        return
    while header := sys.stdin.buffer.read(MESSAGE_LENGTH.size):
        request = pickle.loads(sys.stdin.buffer.read(*MESSAGE_LENGTH.unpack(header)))
        _send(responses, _predict(model, *request))


def _send(responses: IO[bytes], message: object) -> None:
    responses.write(pack_message(message))
    responses.flush()


def _load_and_warm_up(directory: str) -> Any:
    """The SavedModel, with each signature called once.

    The first call takes seconds, in which no client shall wait.
    """
    from pipelines.runs.native_output import suppress_native_stderr

    with suppress_native_stderr():
        import tensorflow  # noqa: F401 - its messages at import are the ones to suppress
    model = load(directory)
    for name, function in model.signatures.items():
        _predict(model, name, _warm_up_columns(function))  # the model may well call them invalid
    return model


def _warm_up_columns(function: Any) -> dict[str, np.ndarray]:
    """One row of text "a", zeros, and sequences of one step."""
    specs = {
        name: spec
        for name, spec in function.structured_input_signature[1].items()
        if spec.shape.rank is not None
    }
    sequences = sequence_names({name: tuple(spec.shape) for name, spec in specs.items()})
    lengths = {f"{name}{LENGTH_SUFFIX}" for name in sequences}
    columns = {}
    for name, spec in specs.items():
        value = b"a" if spec.dtype.name == "string" else int(name in lengths)
        sizes = [size or 1 for size in spec.shape]
        columns[name] = np.full(sizes, value, spec.dtype.as_numpy_dtype)
    return columns


def _predict(model: Any, signature: str, columns: Mapping[str, np.ndarray]) -> tuple[str, object]:
    import tensorflow as tf

    try:
        outputs = model.signatures[signature](**as_tensors(columns))
        return "outputs", {name: outputs[name].numpy() for name in sorted(outputs)}
    except (tf.errors.InvalidArgumentError, ValueError, TypeError) as error:
        return "invalid", _one_line(error)
    except Exception as error:
        return "failed", _one_line(error)


def _one_line(error: Exception) -> str:
    """The reason in one line, without TensorFlow's account of where in the graph it arose."""
    text = str(getattr(error, "message", "") or error)
    text = re.sub(r"\{\{.*?\}\}|\[Op:.*?\]|\[\[[^\d\]]*\]\]", "", text)
    lines = [line for line in text.splitlines() if line.strip() and not TRACE_LINE.match(line)]
    return " ".join(" ".join(lines or [type(error).__name__]).split())[:300]


if __name__ == "__main__":
    main()
