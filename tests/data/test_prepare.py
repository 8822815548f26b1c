"""Prepare, end to end on a source in memory: what is kept, reused, mended and reported."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from only_data import OnlyData
from prepared_rows import Memory, left, prepare_options, rows, run

from pipelines.core.contracts import FieldCodec, FieldSpec
from pipelines.core.errors import UserError
from pipelines.core.settings import PrepareSettings
from pipelines.core.types import Example
from pipelines.data import arrow as arrow_module
from pipelines.data import prepare as prepare_module
from pipelines.data.codecs.labels import LabelCodec
from pipelines.data.prepare import prepare


class PixelCodec(FieldCodec):
    """Bytes as (2, 3) float32: a fixed shape that is no scalar."""

    def __init__(self, column: str):
        self.column = column

    def fit(self, batches: Iterable[Sequence[Any]]) -> None: ...

    def encode(self, values: tf.Tensor) -> tf.Tensor:
        pixels = tf.io.decode_raw(values, tf.uint8, fixed_length=6)
        return tf.reshape(tf.cast(pixels, tf.float32), [-1, 2, 3])

    def decode(self, numbers: np.ndarray) -> bytes:
        return numbers.astype(np.uint8).tobytes()

    @property
    def field(self) -> FieldSpec:
        return FieldSpec((2, 3), "float32")

    size = None

    def state(self) -> dict[str, Any]:
        return {}

    def restore(self, state: Mapping[str, Any]) -> None: ...

    def summary(self) -> dict[str, Any]:
        return {}


class FramesCodec(PixelCodec):
    """Bytes as (T, 2) float32 frames: time with features."""

    def encode(self, values: tf.Tensor) -> tf.RaggedTensor:
        flat = tf.cast(tf.io.decode_raw(tf.strings.reduce_join(values), tf.uint8), tf.float32)
        lengths = tf.strings.length(values) // 2
        return tf.RaggedTensor.from_row_lengths(tf.reshape(flat, [-1, 2]), lengths)

    @property
    def field(self) -> FieldSpec:
        return FieldSpec((None, 2), "float32")


@pytest.fixture
def options(tmp_path: Path) -> dict[str, Any]:
    return prepare_options(tmp_path / "cache")


def test_splits_hold_every_row_once_encoded(options: dict[str, Any]) -> None:
    data = run(Memory({"all": rows(100)}), options)
    assert list(data.splits) == ["train", "validation", "test"]
    assert [len(split) for split in data.splits.values()] == [70, 10, 20]
    codec = data.codec.fields["tokens"]
    seen = []
    for name, split in data.splits.items():
        examples = split.examples(range(len(split)))
        seen += [example["text"] for example in examples]
        assert [e["text"] for e in examples] == [t for batch in split.raw("text") for t in batch]
        expected = codec.encode(tf.constant([e["text"] for e in examples])).to_list()
        columns = split.gather(np.arange(len(split)))
        for row, length, ids in zip(
            columns["tokens"], columns["tokens_length"], expected, strict=True
        ):
            assert row.tolist() == ids + [0] * (len(row) - len(ids))
            assert length == len(ids)
        assert columns["tokens"].dtype == columns["tokens_length"].dtype == np.int32
        assert np.array_equal(split.lengths()[:, 0], columns["tokens_length"])
        labels = data.codec.fields["label"].encode(tf.constant([e["label"] for e in examples]))
        assert np.array_equal(split.column("label"), labels)
        assert split.name == name
    assert sorted(seen) == sorted(row["text"] for row in rows(100))
    assert data.report["splits"] == {"train": 70, "validation": 10, "test": 20}
    assert data.report["strata"]["test"] == {"n": 10, "p": 10}
    assert data.report["codec"]["label"] == {"classes": {"n": 35, "p": 35}}


def test_gather_equals_naive_padding_across_record_batches(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrow_module.RawWriter, "ROWS", 7)
    split = run(Memory({"all": rows(200)}), options).splits["train"]
    every = [split.gather(np.array([row])) for row in range(len(split))]
    random = np.random.default_rng(0)
    for size in (1, 3, 50):
        chosen = random.integers(0, len(split), size)
        columns = split.gather(chosen)
        longest = max(every[row]["tokens_length"][0] for row in chosen)
        assert columns["tokens"].shape == (size, longest)
        for place, row in enumerate(chosen):
            ids = every[row]["tokens"][0]
            assert columns["tokens"][place, : len(ids)].tolist() == ids.tolist()
            assert not columns["tokens"][place, len(ids) :].any()
            assert columns["label"][place] == every[row]["label"][0]


def test_fields_of_any_shape(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrow_module.RawWriter, "ROWS", 7)
    examples = [
        {"pixels": bytes(range(i, i + 6)), "frames": bytes([i] * 2 * (1 + i % 4))}
        for i in range(30)
    ]
    codec = {"pixels": PixelCodec("pixels"), "frames": FramesCodec("frames")}
    task = OnlyData(codec, dedupe_by=("pixels",))
    data = prepare(Memory({"all": examples}), task, PrepareSettings(**options))
    split = data.splits["train"]
    raw = split.examples(range(len(split)))
    columns = split.gather(np.arange(len(split)))
    assert columns["pixels"].shape == (len(split), 2, 3)
    assert columns["frames"].shape == (len(split), 4, 2)
    for example, pixels, frames, length in zip(
        raw, columns["pixels"], columns["frames"], columns["frames_length"], strict=True
    ):
        assert pixels.ravel().tolist() == list(example["pixels"])
        assert frames[:length].ravel().tolist() == list(example["frames"])
        assert not frames[length:].any()
    assert np.array_equal(split.column("pixels"), columns["pixels"])
    assert data.report["strata"] == {}


def test_codec_learns_from_train_only(options: dict[str, Any]) -> None:
    source = Memory({"train": rows(60), "test": [{"text": "onlyhere word1", "label": "n"}] * 2})
    data = run(source, options)
    codec = data.codec.fields["tokens"]
    trained = {t for e in data.splits["train"].examples(range(54)) for t in e["text"].split()}
    assert set(codec.vocabulary[2:]) == trained
    ids = data.splits["test"].gather(np.array([0]))["tokens"][0]
    assert ids[0] == 1
    assert ids[1] > 1
    assert [len(split) for split in data.splits.values()] == [54, 6, 2]


def test_order_of_rows_does_not_matter(options: dict[str, Any]) -> None:
    def members(examples: list[Example]) -> dict[str, set[str]]:
        data = run(Memory({"all": examples}), options)
        return {
            name: {e["text"] for e in split.examples(range(len(split)))}
            for name, split in data.splits.items()
        }

    assert members(rows(80)) == members(rows(80)[::-1])


def test_bad_rows_are_counted_or_too_many(options: dict[str, Any]) -> None:
    some = Memory({"all": [*rows(30), None, None]})
    data = run(some, options)
    assert data.report["rows"] == 32
    assert data.report["bad_row_reasons"] == {"empty text": 2}
    with pytest.raises(
        UserError,
        match=r"2 of 32 rows of x.csv can't be read \(6.2%, allowed 1.0%\): x.csv:32: empty text; "
        r"x.csv:33: empty text. Mend them or raise prepare.bad_rows",
    ):
        run(some, {**options, "bad_rows": 0.01})
    assert left(options) == [data.directory.name]


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"all": []}, "has no rows"),
        ({"all": rows(3)}, "validation split is empty"),
        ({"all": [{"text": f"t{i}", "label": "n"} for i in range(40)]}, "two different values"),
        ({"all": [{"text": f"t{i}", "label": str(i)} for i in range(40)]}, "right label column"),
        (
            {"train": rows(40), "test": [{"text": "z", "label": "odd"}]},
            r"in the test split: label 'odd'",
        ),
        ({"all": [*rows(40), {"text": 3, "label": "n"}]}, "different kinds"),
        ({"all": [*rows(40), {"text": "a", "label": None}]}, "empty values"),
    ],
)
def test_mistakes_in_the_data(
    options: dict[str, Any], parts: dict[str, list[Example]], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        run(Memory(parts), options)
    assert left(options) == []


def test_limit(options: dict[str, Any]) -> None:
    data = run(Memory({"all": rows(100)}), {**options, "limit": 50})
    assert data.report["splits"] == {"train": 35, "validation": 5, "test": 10}
    assert data.report["left_out_by_limit"] == 50


def test_progress_is_reported(options: dict[str, Any]) -> None:
    bars: dict[str, list[int | None]] = {}

    class Told:
        def __init__(self, what: str, total: int | None, unit: str):
            self.done = bars.setdefault(f"{what} {unit}", [total, 0])

        def __enter__(self) -> Any:
            return self

        def advance(self, more: int) -> None:
            self.done[1] = (self.done[1] or 0) + more

        def __exit__(self, *_: object) -> None: ...

    prepare_module.prepare(
        Memory({"all": rows(50)}),
        OnlyData({"label": LabelCodec("label")}, dedupe_by=("text",), stratify_by="label"),
        PrepareSettings(**options),
        progress=Told,
    )
    assert bars == {
        "read x.csv rows": [None, 50],
        "fit label rows": [35, 35],
        "encode rows": [50, 50],
    }
