"""Features of TFDS's sets, and their values, read in batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from pipelines.core.errors import UserError
from pipelines.core.types import Nest, Value

if TYPE_CHECKING:
    import tensorflow_datasets as tfds

_BATCH = 1024


def flatten_features(
    features: tfds.features.FeaturesDict, prefix: str = ""
) -> dict[str, tfds.features.FeatureConnector]:
    """Features by path: one inside another is "outer/inner", unless it is in a list."""
    import tensorflow_datasets as tfds

    flat = {}
    for name, feature in features.items():
        # A sequence of features has their `items`, too.
        if isinstance(feature, tfds.features.FeaturesDict):
            flat.update(flatten_features(feature, f"{prefix}{name}/"))
        else:
            flat[f"{prefix}{name}"] = feature
    return flat


def feature_kind(feature: tfds.features.FeatureConnector) -> str:
    """The kind of a feature in words: label, text, whole number, truth value, or another."""
    import numpy as np

    if hasattr(feature, "num_classes") and feature.shape == ():
        return "label"
    if not hasattr(feature, "np_dtype") or feature.shape != ():
        return type(feature).__name__.lower()
    dtype = np.dtype(feature.np_dtype)
    if dtype.kind in "OSU":
        return "text"
    return {"i": "whole number", "u": "whole number", "b": "truth value"}.get(
        dtype.kind, dtype.name
    )


def read_values(
    builder: tfds.core.DatasetBuilder, split: str, columns: list[str]
) -> Iterator[tuple[Value, ...]]:
    """The columns of each example, always in the same order.

    A label is its name, or None where it isn't known (-1).
    """
    features = flatten_features(builder.info.features)
    plain = [_reader(features[name]) for name in columns]
    for batch in read_batches(builder, split, columns):
        lists = [map(read, column) for read, column in zip(plain, batch, strict=True)]
        yield from zip(*lists, strict=True)


def _reader(feature: tfds.features.FeatureConnector) -> Callable[[Value], Value]:
    """A function from TFDS's value of a feature to a plain Python value."""
    if feature_kind(feature) == "label":
        names = feature.names
        return lambda value: names[value] if 0 <= value < len(names) else None
    if feature_kind(feature) == "truth value":
        return bool
    if feature_kind(feature) == "text":
        return lambda value: value.decode("utf-8", "surrogateescape")
    return int


def read_batches(
    builder: tfds.core.DatasetBuilder, split: str, columns: list[str]
) -> Iterator[list[list[Value]]]:
    """The columns' values, as lists of the same length."""
    import tensorflow_datasets as tfds

    if builder.info.file_format == tfds.core.FileFormat.TFRECORD:
        return parse_in_batches(builder, split, columns)
    return parse_with_tfds(builder, split, columns)


def parse_in_batches(
    builder: tfds.core.DatasetBuilder, split: str, columns: list[str]
) -> Iterator[list[list[Value]]]:
    """Like `parse_with_tfds`, which parses single examples and takes twenty times as long."""
    import tensorflow as tf

    features = flatten_features(builder.info.features)
    types = {
        name: tf.string if feature_kind(features[name]) == "text" else tf.int64 for name in columns
    }
    form = {name: tf.io.FixedLenFeature((), dtype) for name, dtype in types.items()}
    for piece in builder.info.splits[split].file_instructions:
        file = tf.data.TFRecordDataset(piece.filename).skip(piece.skip).take(piece.take)
        try:
            for serialized in file.batch(_BATCH):
                parsed = tf.io.parse_example(serialized, form)
                yield [parsed[name].numpy().tolist() for name in columns]
        except tf.errors.OpError:
            raise UserError(
                f"{piece.filename} must be as TFDS wrote it; it is damaged or missing: "
                f"delete {builder.data_path}, so that it is prepared again"
            ) from None


def parse_with_tfds(
    builder: tfds.core.DatasetBuilder, split: str, columns: list[str]
) -> Iterator[list[list[Value]]]:
    """Examples of any of TFDS's file formats."""
    import tensorflow_datasets as tfds

    dataset = builder.as_dataset(
        split=split,
        batch_size=_BATCH,
        decoders=tfds.decode.PartialDecoding(_nest(columns)),
        read_config=tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False),
    )
    for batch in dataset.as_numpy_iterator():
        yield [_at(batch, name).tolist() for name in columns]


def _nest(paths: list[str]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for path in paths:
        *outer, last = path.split("/")
        node = tree
        for name in outer:
            node = node.setdefault(name, {})
        node[last] = True
    return tree


def _at(batch: Nest, path: str) -> Nest:
    for name in path.split("/"):
        batch = batch[name]
    return batch
