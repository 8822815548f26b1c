"""What a run predicted, as files: for people, and for a later run to compare itself with.

predictions.jsonl  every evaluated example with its reference and the answer as people read it
predictions.npz    all that was predicted of the split that is reported, as arrays
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from pipelines.core.contracts import Codec, Split
from pipelines.core.errors import UserError
from pipelines.core.files import atomic_write
from pipelines.core.formatting import to_readable_json
from pipelines.core.plain_text import json_text
from pipelines.core.saved_arrays import open_arrays
from pipelines.core.saved_files import open_regular, reading
from pipelines.core.task import Task
from pipelines.core.types import JsonObject, Nest

log = logging.getLogger(__name__)

Arrays = dict[str, np.ndarray]

MOST_BYTES = 256_000_000
"""More than this is not kept as arrays, such as a million examples with a thousand classes."""

MOST_UNPACKED = MOST_BYTES + (1 << 20)
"""Bytes of a file of arrays that is read, with the arrays' headers."""


def write_predictions(
    path: Path,
    task: Task,
    codec: Codec,
    splits: Mapping[str, Split],
    predictions: Mapping[str, Arrays],
) -> None:
    """A line an example: split, row, what was given, the reference and the answer, by column."""
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for name, split in splits.items():
            for line in prediction_lines(task, codec, split, predictions[name]):
                file.write(json_text({"split": name, **line}) + "\n")


def prediction_lines(
    task: Task, codec: Codec, split: Split, predictions: Arrays, *, chunk: int = 1000
) -> Iterator[JsonObject]:
    """The examples of the split with their decoded predictions, in order; files by name."""
    for start in range(0, len(split), chunk):
        rows = range(start, min(start + chunk, len(split)))
        part: Nest = {name: values[rows.start : rows.stop] for name, values in predictions.items()}
        answers = {
            name: np.asarray(value) for name, value in task.decode_predictions(part, codec).items()
        }
        for position, row in enumerate(rows):
            (raw,) = split.examples([row])  # one by one: a thousand photos would be too many
            example = {
                column: to_readable_json(value) for column, value in task.example(raw).items()
            }
            inputs = task.input_columns
            yield {
                "row": row,
                "given": {name: value for name, value in example.items() if name in inputs},
                "reference": {name: value for name, value in example.items() if name not in inputs},
                "answer": {
                    name: to_readable_json(values[position]) for name, values in answers.items()
                },
            }


def save_predictions(path: Path, split: str, predictions: Mapping[str, np.ndarray]) -> None:
    """Writes one split's predictions for `load_predictions`; nothing if they are too many.

    Text is kept as UTF-8 end to end, and the offsets of texts: without pickles, so that reading
    somebody's file runs none of their code.
    """
    arrays: Arrays = {}
    for name, values in predictions.items():
        if values.dtype.kind in "OSU":
            texts = [_utf8(text) for text in values.ravel()]
            ends = np.cumsum([len(text) for text in texts], dtype=np.int64)
            arrays[f"{split}/{name}/ends"] = ends.reshape(values.shape)
            arrays[f"{split}/{name}/text"] = np.frombuffer(b"".join(texts), np.uint8)
        else:
            arrays[f"{split}/{name}"] = values
    size = sum(values.nbytes for values in arrays.values())
    if size > MOST_BYTES:
        path.unlink(missing_ok=True)
        log.info("predictions: %.0f MB are too much to keep; no run can be set against", size / 1e6)
        return
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def load_predictions(path: Path, split: str) -> Arrays:
    """The predictions of `save_predictions`, text as bytes. UserError if there are none."""
    try:
        with (
            reading(path, "measure that run again"),
            open_regular(path) as content,
            open_arrays(content, most=MOST_UNPACKED) as file,
        ):
            mine = {name: file[name] for name in file.names if name.startswith(f"{split}/")}
            predictions = _unpack(mine, split)
    except FileNotFoundError:
        raise UserError(f"there is no {path}: measure that run again with mode=evaluate") from None
    if not mine:
        raise UserError(f"{path} holds nothing of the {split} split; see evaluate.splits")
    return predictions


def _unpack(mine: Arrays, split: str) -> Arrays:
    """One split's arrays as they were given to `save_predictions`."""
    predictions: Arrays = {}
    for name, values in mine.items():
        _, _, rest = name.partition("/")
        stem, _, part = rest.rpartition("/")
        if part == "ends":
            text, ends = mine[f"{split}/{stem}/text"].tobytes(), values.ravel().tolist()
            texts = np.empty(len(ends), object)
            texts[:] = [text[a:b] for a, b in zip([0, *ends], ends, strict=False)]
            predictions[stem] = texts.reshape(values.shape)
        elif part != "text":
            predictions[rest] = values
    if any(values.ndim == 0 for values in predictions.values()):
        raise ValueError("an array has no axis of examples")
    return predictions


def _utf8(text: object) -> bytes:
    return text if isinstance(text, bytes) else str(text).encode("utf-8", "replace")
