"""Prepare, end to end on a source in memory: what is kept, reused, mended and reported."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from only_data import OnlyData

from pipelines.core.contracts import FieldCodec, FieldSpec, Provenance, RowIssues, Source
from pipelines.core.errors import UserError
from pipelines.core.paths import ROOT
from pipelines.core.settings import PrepareSettings
from pipelines.core.types import Example
from pipelines.data import arrow as arrow_module
from pipelines.data import prepare as prepare_module
from pipelines.data.codecs.labels import LabelCodec
from pipelines.data.codecs.text import TextCodec, TextSettings
from pipelines.data.prepare import Prepared, prepare


class Memory(Source):
    """Rows by part; None is a bad row."""

    columns = ("text", "label")

    def __init__(self, parts: Mapping[str, Sequence[Example | None]]):
        self.by_part = parts
        self.reads = 0

    def check(self) -> None: ...

    def parts(self) -> tuple[str, ...]:
        return tuple(self.by_part)

    def read(self, part: str, issues: RowIssues) -> Iterator[Example]:
        self.reads += 1
        for number, row in enumerate(self.by_part[part], start=2):
            if row is None:
                issues.add(f"x.csv:{number}", "empty text")
            else:
                yield row

    def fingerprint(self) -> str:
        return repr(self.by_part)

    def provenance(self) -> Provenance:
        return Provenance("x.csv", "a file", "none", "")


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


def rows(count: int, offset: int = 0) -> list[Example]:
    return [
        {
            "text": f"word{i % 7} and {'good' if i % 2 else 'bad'} no{i} " * (1 + i % 5),
            "label": "np"[i % 2],
        }
        for i in range(offset, offset + count)
    ]


TEXT: dict[str, Any] = {
    "tokens": "word",
    "vocabulary_size": 100,
    "minimum_count": 1,
    "lowercase": True,
    "strip_markup": True,
    "punctuation": "keep",
    "max_tokens": 12,
    "truncate": "both",
    "model_type": "unigram",
}


@pytest.fixture
def options(tmp_path: Path) -> dict[str, Any]:
    return {
        "validation": 0.1,
        "test": 0.2,
        "bad_rows": 0.1,
        "limit": None,
        "division": "hash",
        "group_by": None,
        "block_rows": 10,
        "time_column": None,
        "split_seed": 0,
        "cache_dir": str(tmp_path / "cache"),
    }


def run(source: Source, options: dict[str, Any], *, text: dict[str, Any] | None = None) -> Prepared:
    settings = TextSettings(**{**TEXT, **(text or {})})
    codec = {"tokens": TextCodec("text", settings), "label": LabelCodec("label")}
    task = OnlyData(codec, dedupe_by=("text",), stratify_by="label")
    return prepare(source, task, PrepareSettings(**options))


def left(options: dict[str, Any]) -> list[str]:
    return sorted(p.name for p in Path(options["cache_dir"]).iterdir() if p.suffix != ".lock")


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


def test_second_call_reuses_without_reading(options: dict[str, Any]) -> None:
    first, again, other = (Memory({"all": rows(40)}) for _ in range(3))
    made = run(first, options)
    data = run(again, options)
    assert (made.reused, data.reused, again.reads) == (False, True, 0)
    assert data.directory.name == made.directory.name
    assert data.report == made.report
    assert data.codec.spec == made.codec.spec
    assert run(other, options, text={"max_tokens": 5}).directory.name != made.directory.name
    assert other.reads == 1
    assert run(Memory({"all": rows(41)}), options).directory.name != made.directory.name


def test_reuse_needs_no_tensorflow(options: dict[str, Any]) -> None:
    run(Memory({"all": rows(40)}), options)
    script = (
        "import sys; sys.path[:0] = sys.argv[2:]; sys.modules['tensorflow'] = None\n"
        "from pipelines.data.codecs.text import *; from pipelines.data.codecs.labels import *\n"
        "from pipelines.data.batches import *; from pipelines.data import prepare, splits\n"
        "import json, pathlib\n"
        "from pipelines.core.contracts import Codec\n"
        "d = pathlib.Path(sys.argv[1]); state = json.loads((d / 'codec/tokens.json').read_text())\n"
        "c = Codec({'tokens': TextCodec('text', TextSettings(**state['settings'])),"
        " 'label': LabelCodec('label')}).load(d / 'codec')\n"
        "s = splits.open_splits(d, ['train'], c.spec)['train']\n"
        "print(len(s), s.gather(s.rows[:3] * 0)['tokens'].shape[0])\n"
    )
    directory = run(Memory({"all": rows(40)}), options).directory
    result = subprocess.run(
        [sys.executable, "-c", script, str(directory), str(ROOT)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.split() == ["28", "3"]


def flip_a_bit(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


DAMAGE: dict[str, tuple[str, Callable[[bytes], bytes | None]]] = {
    "missing": ("train.arrow", lambda _: None),
    "truncated": ("train.arrow", lambda content: content[:-40]),
    "a label changed": ("test.arrow", lambda content: flip_a_bit(content, len(content) // 2)),
    "a footer changed": ("raw.arrow", lambda content: flip_a_bit(content, len(content) - 12)),
    "a codec changed": ("codec/label.json", lambda content: content.swapcase()),
    "meta truncated": ("meta.json", lambda content: content[:-40]),
    "meta with other numbers": ("meta.json", lambda content: content.replace(b"28", b"29")),
    "meta of another kind": ("meta.json", lambda _: b"[]"),
    "meta too deep": ("meta.json", lambda _: b"[" * 100_000),
    "meta with other files": ("meta.json", lambda _: b'{"files": {"train.arrow": 3}}'),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_cache_is_made_again(
    options: dict[str, Any], damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    made = run(Memory({"all": rows(40)}), options)
    name, change = DAMAGE[damage]
    changed = change((made.directory / name).read_bytes())
    (made.directory / name).unlink()
    if changed is not None:
        (made.directory / name).write_bytes(changed)
    source = Memory({"all": rows(40)})
    data = run(source, options)
    assert (data.reused, source.reads) == (False, 1)
    assert len(data.splits["train"]) == 28
    assert data.content == made.content
    assert left(options) == [made.directory.name]
    assert f"the cache {made.directory} is damaged" in caplog.text


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


def test_full_disk(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(arrow_module.ArrowWriter, "write", full)
        with pytest.raises(UserError, match=r"No space left on device.*prepare\.cache_dir"):
            run(Memory({"all": rows(40)}), options)
    assert left(options) == []
    assert not run(Memory({"all": rows(40)}), options).reused


def test_cache_that_cannot_be_made(options: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"can't write the cache .*: Not a directory"):
        run(Memory({"all": rows(40)}), {**options, "cache_dir": str(tmp_path / "file" / "cache")})


def test_source_errors_are_not_blamed_on_the_cache(options: dict[str, Any]) -> None:
    class Gone(Memory):
        def read(self, part: str, issues: RowIssues) -> Iterator[Example]:
            yield from rows(3)
            raise FileNotFoundError("reviews.csv")

    with pytest.raises(FileNotFoundError):
        run(Gone({"all": []}), options)
    assert left(options) == []


def test_killed_in_the_middle(options: dict[str, Any]) -> None:
    """A killed process leaves a temporary directory, which the next one removes."""
    cache = Path(options["cache_dir"])
    script = (
        "import sys, time; from pathlib import Path; from pipelines.data import cache\n"
        "d = Path(sys.argv[1])\n"
        "with cache.lock_directory(d), cache.atomic_directory(d) as t:\n"
        "    (t / 'half').write_text('x'); print('ready', flush=True); time.sleep(60)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(cache / "other")],
        stdout=subprocess.PIPE,
        cwd=ROOT,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    alive = left(options)
    assert len(alive) == 1
    assert ".tmp-" in alive[0]
    data = run(Memory({"all": rows(40)}), options)
    assert left(options) == sorted([*alive, data.directory.name])
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    again = run(Memory({"all": rows(41)}), options)
    assert left(options) == sorted([data.directory.name, again.directory.name])


def test_two_at_once_prepare_once(options: dict[str, Any]) -> None:
    sources = [Memory({"all": rows(60)}) for _ in range(3)]
    made: list[Prepared] = []
    workers = [threading.Thread(target=lambda s=s: made.append(run(s, options))) for s in sources]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sum(source.reads for source in sources) == 1
    assert sorted(data.reused for data in made) == [False, True, True]


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
