"""Readers of what people give: data, images, vectors, weights."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import caption_files
import pyarrow as pa
import pyarrow.parquet
import yaml
from codec_readers import SERIES, TEXTS
from formats import BINARY, GZIP, JSON, JSON_LINES, PNG, TEXT, Format
from PIL import Image
from reader import Reader

from pipelines.config.schema import _build
from pipelines.core.contracts import FieldSpec, RowIssues
from pipelines.core.errors import UserError
from pipelines.core.paths import ROOT
from pipelines.core.settings import PredictSettings
from pipelines.data.codecs.images import ImageCodec, ImageSettings
from pipelines.data.codecs.word_vectors import vectors_for
from pipelines.data.sources._image_files import find_fault
from pipelines.data.sources.parallel_text import ParallelText
from pipelines.data.sources.rows import Columns, read_rows
from pipelines.data.sources.tagged_files import TaggedFiles
from pipelines.predict.prediction_writer import ResumableWriter

# People's data


def of_rows(run: Path, folder: Path) -> Iterator[Reader]:
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


def of_tags(run: Path, folder: Path) -> Iterator[Reader]:
    settings = yaml.safe_load((ROOT / "conf/data/tagged_files.yaml").read_text())
    word = "\t".join(["1", "Ada", "_", "B-PER", *"_" * 6])
    lists = {"tokens": ["Ada", "ran"], "tags": ["B-PER", "O"]}
    files: dict[str, tuple[str, str, Format]] = {
        "tagged words": ("a.conll", "Ada x B-PER\nran y O\n\nAda x B-PER\n", TEXT),
        "CoNLL-U": ("a.conllu", f"# text = Ada\n{word}\n\n{word}\n", TEXT),
        "lists of tags": ("tags.jsonl", JSON_LINES.write([lists] * 3), JSON_LINES),
    }
    for name, (file, content, form) in files.items():
        path = folder / file
        path.write_text(content)
        source = _build(TaggedFiles, {**settings, "path": str(path)}, "data")

        def read(source: Any = source) -> object:
            source.check()
            return list(source.read("all", RowIssues()))

        yield Reader(name, path, form, read)


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
    with ResumableWriter(output, "f", PredictSettings(formulas="keep")) as writer:
        writer.write(["{}"])

    def resume() -> object:
        with ResumableWriter(output, "f", PredictSettings(formulas="keep")) as writer:
            return writer.done

    yield Reader("progress of predictions", writer.progress, JSON, resume)
