"""Every reader of files that may come from elsewhere: a valid file of each, and the call."""

from __future__ import annotations

import base64
import functools
import gzip
import io
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import caption_files
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import yaml
from formats import BINARY, GZIP, JSON, JSON_LINES, PNG, TEXT, YAML, ZIP, Format
from hydra import compose, initialize_config_dir
from PIL import Image

from models.settings import NgramSettings, VisionSettings
from pipelines.compare.run_records import find_records
from pipelines.config.hydra_hooks import register_resolvers
from pipelines.config.restore import END, load_run_config, to_plain_values
from pipelines.config.schema import parse
from pipelines.core.contracts import Codec, FieldCodec, FieldSpec, RowIssues
from pipelines.core.errors import UserError
from pipelines.core.paths import ROOT
from pipelines.core.saved_files import read_json_lines
from pipelines.data.arrow import ArrowFile
from pipelines.data.cache import read_meta, write_meta
from pipelines.data.codecs.features import FeatureCodec
from pipelines.data.codecs.images import ImageCodec, ImageSettings
from pipelines.data.codecs.labels import LabelCodec
from pipelines.data.codecs.ngrams import NgramCodec
from pipelines.data.codecs.numbers import AnswerCodec, SequenceCodec
from pipelines.data.codecs.series import NumberCodec, SeriesCodec
from pipelines.data.codecs.text import TextCodec, TextSettings
from pipelines.data.codecs.word_vectors import vectors_for
from pipelines.data.sources._image_files import find_fault
from pipelines.data.sources.rows import Columns, read_rows
from pipelines.evaluate.predictions import load_predictions
from pipelines.export.client import load
from pipelines.predict.prediction_writer import ResumableWriter
from pipelines.runs import checkpoint
from pipelines.runs.directory import Run, load_model
from pipelines.runs.metrics import numbers
from pipelines.runs.overrides import overridden_keys, recorded_overrides
from pipelines.sweep.objectives import resolve_objectives
from pipelines.sweep.overrides import create_lookup
from pipelines.sweep.space_parser import parse_space
from pipelines.sweep.study import Study
from pipelines.sweep.trials import StudyConfig
from pipelines.train.state import TrainingState


class Reader(NamedTuple):
    """One file that a program reads.

    name     as in the table of results.
    path     where the file is, with whatever else must be there beside it.
    format   of the file.
    read     reads it and uses what it got.
    cost     how many times as long as others it takes, about.
    told     errors that are the reader's way of saying that it can't read the file.
    """

    name: str
    path: Path
    format: Format
    read: Callable[[], object]
    cost: int = 1
    told: tuple[type[Exception], ...] = (UserError,)


def all_readers(run: Path, folder: Path) -> list[Reader]:
    """The table. `run` is a finished run; only what is in `folder` is damaged."""
    register_resolvers()
    groups = [of_run, of_codecs, of_caches, of_rows, of_images, of_sweeps, of_others]
    readers: list[Reader] = []
    for group in groups:
        own = folder / group.__name__
        own.mkdir(parents=True)
        readers += group(run, own)
    return readers


def current_values() -> dict[str, Any]:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return to_plain_values(compose("config"))


# A run's directory

CONFIG = YAML._replace(write=lambda tree: yaml.safe_dump(tree) + END)


class _Slot:
    """A variable that only says what fits into it."""

    def __init__(self, shape: tuple[int, ...]):
        self.shape = shape

    def assign(self, value: np.ndarray) -> None:
        assert value.shape == self.shape


def of_run(run: Path, folder: Path) -> Iterator[Reader]:
    copy = Run(shutil.copytree(run, folder / "run"))
    current = current_values()
    with np.load(copy.last) as saved:
        groups: dict[str, list[_Slot]] = {}
        for name in saved.files:
            if name != "state":
                groups.setdefault(name.partition(":")[0], []).append(_Slot(saved[name].shape))

    def read_metrics() -> object:
        metrics = copy.load_metrics()
        return list(numbers(metrics)), metrics.to_json()

    def read_hydra() -> object:
        (record,), _ = find_records(str(copy.directory))
        return record.seed, record.problem, record.setting("model"), record.settings

    yield Reader(
        "config.yaml", copy.config, CONFIG, lambda: load_run_config(copy, current), cost=40
    )
    hydra = copy.directory / ".hydra"
    overrides = hydra / "overrides.yaml"
    yield Reader(
        "overrides.yaml", overrides, YAML, lambda: overridden_keys(recorded_overrides(copy))
    )
    yield Reader("hydra.yaml", hydra / "hydra.yaml", YAML, read_hydra, cost=40)
    yield Reader("metrics.json", copy.metrics, JSON, read_metrics)
    yield Reader("history.jsonl", copy.history, JSON_LINES, copy.read_history)
    yield Reader(
        "predictions.jsonl",
        copy.predictions,
        JSON_LINES,
        lambda: list(read_json_lines(copy.predictions, "measure again")),
    )
    yield Reader(
        "checkpoint",
        copy.last,
        ZIP,
        lambda: checkpoint.restore(copy.last, groups, TrainingState.from_checkpoint),
    )
    yield Reader(
        "predictions.npz",
        copy.prediction_arrays,
        ZIP,
        lambda: load_predictions(copy.prediction_arrays, "test"),
    )
    yield Reader("model.keras", copy.model, ZIP, lambda: load_model(copy), cost=200)
    imports = copy.saved_model / "assets.extra" / "imports.txt"
    imports.write_text("tensorflow_text\n")
    yield Reader(
        "imports.txt",
        imports,
        TEXT,
        lambda: load(str(copy.saved_model)),
        cost=400,
        told=(UserError, ValueError),
    )


# Codecs

TEXTS = ["a fine film", "dull, dull film", "fine", "a"]
TEXT_SETTINGS: dict[str, Any] = {
    "tokens": "word", "vocabulary_size": 40, "minimum_count": 1, "lowercase": True,
    "strip_markup": True, "punctuation": "keep", "max_tokens": 9, "truncate": "head",
    "model_type": "unigram",
}  # fmt: skip
IMAGE = ImageSettings(size=32, fit="pad")
VISION = VisionSettings(
    network="MobileNetV2", channels=[1], blocks=[0], weights=None, train_from=None, dropout=0.0
)


def _text(**changes: Any) -> TextCodec:
    return TextCodec("x", TextSettings(**{**TEXT_SETTINGS, **changes}), markers=True)


def _ngrams() -> NgramCodec:
    return NgramCodec("x", NgramSettings(order=2, minimum_count=1, limit=100), _words())


@functools.cache
def _words() -> TextCodec:
    words = _text()
    words.fit([TEXTS])
    return words


class _SmallFeatures(FeatureCodec):
    """As if the network had few weights."""

    def fit(self, batches: Any) -> None:
        file = io.BytesIO()
        np.savez(file, np.ones((2, 3), np.float32), np.zeros(3, np.float32))
        weights = base64.b64encode(file.getvalue()).decode()
        self._state = {"weights": weights, "grid": [1, 1, 3]}


def _ragged(values: Sequence[Any]) -> Any:
    import tensorflow as tf

    flat = np.concatenate([np.asarray(one, np.float64) for one in values])
    return tf.RaggedTensor.from_row_lengths(flat, [len(one) for one in values])


SERIES = [[[1.0, 2.0], [3.0, 5.0]], [[4.0, 4.0]]]

CODECS: dict[str, tuple[Callable[[], FieldCodec], Sequence[Any]]] = {
    "words": (_text, TEXTS),
    "characters": (lambda: _text(tokens="character"), TEXTS),
    "sentencepiece": (lambda: _text(tokens="sentencepiece"), TEXTS * 9),
    "n-grams": (_ngrams, TEXTS),
    "labels": (lambda: LabelCodec("x"), ["good", "bad", "bad"]),
    "number": (lambda: NumberCodec("x"), [1.0, 2.0, 5.5]),
    "series": (lambda: SeriesCodec("x"), SERIES),
    "steps": (lambda: SequenceCodec("x"), ["0.5,1 0,2", "1,1"]),
    "answers": (lambda: AnswerCodec("x"), ["1 2", "0 3"]),
    "images": (lambda: ImageCodec("x", IMAGE), [caption_files.make_image()]),
    "features": (lambda: _SmallFeatures("x", IMAGE, VISION), [caption_files.make_image()]),
}
"""By kind: an unfitted codec, and values to learn from."""


def of_codecs(run: Path, folder: Path) -> Iterator[Reader]:
    import tensorflow as tf

    for name, (make, values) in CODECS.items():
        fitted = make()
        fitted.fit([values])
        place = folder / name
        Codec({"x": fitted}).save(place)

        def read(
            make: Any = make, values: Any = values, place: Path = place, field: Any = fitted.field
        ) -> object:
            codec = make()
            Codec({"x": codec}).load(place)
            # The network doesn't fit; and what was learnt of other data can't encode these.
            if isinstance(codec, FeatureCodec) or codec.field != field:
                return codec.summary(), codec.field
            if codec.raw.is_sequence:
                encoded = codec.encode(_ragged(values))
            else:
                encoded = codec.encode(tf.constant(values))
            numbers = encoded[0].numpy()
            return codec.decode(numbers), codec.summary(), codec.field, codec.size

        yield Reader(f"codec: {name}", place / "x.json", JSON, read, cost=4)


# Prepared data


def of_caches(run: Path, folder: Path) -> Iterator[Reader]:
    cache = folder / "cache"
    cache.mkdir()
    table = pa.RecordBatch.from_pydict({"ids": pa.array([[1, 2], [3]] * 40), "label": [0, 1] * 40})
    with pa.ipc.new_file(cache / "train.arrow", table.schema) as file:
        file.write_batch(table)
    write_meta(cache, {"splits": {"all": 80}, "report": {"rows": 80}})

    def read_cache() -> object:
        meta = read_meta(cache)
        if meta is None:
            raise UserError("it is made again")
        return meta["splits"], meta["report"], ArrowFile(cache / "train.arrow").scalars("label")

    yield Reader("cache: meta.json", cache / "meta.json", JSON, read_cache)
    yield Reader("cache: arrow", cache / "train.arrow", BINARY, read_cache)


# People's data


def of_rows(run: Path, folder: Path) -> Iterator[Reader]:
    from pipelines.config.schema import _build
    from pipelines.data.sources.parallel_text import ParallelText

    rows = [{"text": f'{text} {n}, "quoted"', "label": n % 2} for n, text in enumerate(TEXTS * 3)]
    csv = "text,label\n" + "".join(
        f'"{row["text"].replace(chr(34), chr(34) * 2)}",{row["label"]}\n' for row in rows
    )
    columns = Columns({"text": "text", "label": "label"}, labels={"label"})
    series = Columns({"text": "x"}, fields={"text": FieldSpec((None, 2), "float64")})
    table = io.BytesIO()
    pa.parquet.write_table(pa.Table.from_pylist(rows), table)
    lists = "".join(json.dumps({"x": steps}) + "\n" for steps in SERIES)
    files: dict[str, tuple[str, bytes, Format, Columns]] = {
        "CSV": ("a.csv", csv.encode(), TEXT, columns),
        "TSV": ("a.tsv", csv.replace(",", "\t").encode(), TEXT, columns),
        "CSV, gzip": ("a.csv.gz", gzip.compress(csv.encode()), GZIP, columns),
        "JSON lines": ("a.jsonl", JSON_LINES.write(rows).encode(), JSON_LINES, columns),
        "JSON lines of series": ("b.jsonl", lists.encode(), JSON_LINES, series),
        "Parquet": ("a.parquet", table.getvalue(), BINARY, columns),
        "text": ("a.txt", "\n".join(TEXTS).encode(), TEXT, Columns({"text": "text"})),
    }
    for name, (file, content, form, kept) in files.items():
        path = folder / file
        path.write_bytes(content)

        def read(path: Path = path, kept: Columns = kept) -> object:
            return list(read_rows(path, kept, RowIssues()))

        yield Reader(name, path, form, read)
    settings = yaml.safe_load((ROOT / "conf/data/parallel_text.yaml").read_text())
    sides = {side: folder / side for side in ("source", "target")}
    for path in sides.values():
        path.write_text("\n".join(TEXTS) + "\n")
    pairs = _build(ParallelText, {**settings, **{k: str(p) for k, p in sides.items()}}, "data")

    def read_pairs() -> object:
        pairs.check()
        return list(pairs.read("all", RowIssues()))

    yield Reader("parallel text", sides["source"], TEXT, read_pairs)


def of_images(run: Path, folder: Path) -> Iterator[Reader]:
    import tensorflow as tf

    codec = ImageCodec("x", ImageSettings(size=8, fit="crop"))

    def read_image(path: Path) -> object:
        content = path.read_bytes()
        if fault := find_fault(content):
            raise UserError(fault)
        return codec.encode(tf.constant([content]))

    for kind in ("PNG", "JPEG", "GIF", "WEBP", "BMP"):
        path = folder / f"a.{kind.lower()}"
        path.write_bytes(caption_files.make_image(1, kind, (24, 16)))
        form = PNG if kind == "PNG" else BINARY
        yield Reader(f"image: {kind}", path, form, lambda path=path: read_image(path), cost=8)
    path = folder / "palette.png"
    Image.effect_noise((24, 16), 90).convert("P").save(path, transparency=3)
    yield Reader("image: PNG, palette", path, PNG, lambda: read_image(path), cost=8)
    for name, file, content, form in (
        ("captions: CSV", "captions.csv", caption_files.CSV, TEXT),
        ("captions: COCO", "captions.json", json.dumps(caption_files.coco()), JSON),
        ("captions: Flickr", "captions.txt", "0.png#0\tzero\n1.png#0\tone\n", TEXT),
    ):
        place = folder / name.replace(": ", "-")
        place.mkdir()
        source = caption_files.build_source(**caption_files.write_folder(place, content, file))

        def read_captions(source: Any = source) -> object:
            source.check()
            return source.fingerprint(), len(list(source.read("all", RowIssues())))

        yield Reader(name, place / file, form, read_captions, cost=8)
    given = folder / "list.jsonl"
    given.write_text('{"image": "a.png"}\na.jpeg\n')
    source = caption_files.build_source()

    def read_list() -> object:
        return list(source.read_inputs(given, {"image": FieldSpec((), "string")}, RowIssues()))

    yield Reader("images to predict for", given, TEXT, read_list, cost=8)


# Sweeps


def of_sweeps(run: Path, folder: Path) -> Iterator[Reader]:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        config = parse(to_plain_values(compose("config", ["sweep=optuna", "sweep.trials=4"])))
    objectives = tuple(resolve_objectives(["quality"], config.task, None))
    study_config = StudyConfig("sentiment/study", folder / "study", objectives, config.sweep, 3)
    space = parse_space({"x": "int(interval(1, 99))", "y": "choice(a, b)"}, [], [])

    def open_study() -> Study:
        return Study(study_config, space, create_lookup({"x": 3, "y": "a"}, {}), seed=1)

    study = open_study()
    for value in (0.5, 0.75):
        trial = study.next_trial()
        assert trial is not None
        study.store.report(trial, [{"validation.accuracy": value}])
        study.store.complete(trial, [value], seconds=1.0)

    def read_study() -> object:
        again = open_study()
        return again.retry_failed(), again.store.finished_trials()

    journal = folder / "study" / "study.journal"
    yield Reader("study.journal", journal, JSON_LINES, read_study, cost=8)
    sweep = folder / "sweep"
    small = sweep / "0000"
    small.mkdir(parents=True)
    (small / "config.yaml").write_text("seed: 1\ntask: {name: sentiment}\n")
    summary = {
        "study": "s", "total": 3, "objectives": ["validation.accuracy"],
        "trials": [
            {"number": 0, "state": "COMPLETE", "values": [0.5], "overrides": ["model=gru"]},
            {"number": 1, "state": "PRUNED", "values": None, "overrides": [], "host": "a"},
            {"number": 2, "state": "FAIL", "reason": "of no luck", "seconds": 1.5},
        ],
    }  # fmt: skip
    (sweep / "sweep.json").write_text(json.dumps(summary))

    def read_summary() -> object:
        records, _ = find_records(str(sweep))
        return [(record.seed, record.reason, record.setting("model")) for record in records]

    yield Reader("sweep.json", sweep / "sweep.json", JSON, read_summary)


# What else is given as a file


def of_others(run: Path, folder: Path) -> Iterator[Reader]:
    from models.vision import Backbone

    vectors = folder / "vectors.txt"
    vectors.write_text("3 2\nfine 0.5 1\nfilm 1e-3 -2\na 0 0.25\n")
    yield Reader("word vectors", vectors, TEXT, lambda: vectors_for(["fine", "a"], str(vectors)))
    network = Backbone("MobileNetV2", 32, 32)
    weights = folder / "network.weights.h5"
    network.network.save_weights(weights)

    def read_weights() -> None:
        network.load_pretrained(str(weights))

    yield Reader(
        "weights of a network",
        weights,
        BINARY,
        read_weights,
        cost=800,
        told=(UserError, ValueError),
    )
    output = folder / "out.jsonl"
    with ResumableWriter(output, "f") as writer:
        writer.write(["{}"])

    def resume() -> object:
        with ResumableWriter(output, "f") as writer:
            return writer.done

    yield Reader("progress of predictions", writer.progress, JSON, resume)


def others(readers: Sequence[Reader]) -> Mapping[str, bytes]:
    """The valid files, by reader; small ones only, since any may take any other's place."""
    return {r.name: r.path.read_bytes() for r in readers if os.path.getsize(r.path) < 200_000}
