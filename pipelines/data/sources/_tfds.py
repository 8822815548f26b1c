"""The base of sources that read data sets of TensorFlow Datasets (TFDS)."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar
from urllib.parse import urlsplit
from urllib.request import getproxies

from models.settings import settings
from pipelines.core.contracts import Provenance, RowIssues
from pipelines.core.errors import UserError, shown, suggest
from pipelines.core.types import Example
from pipelines.data.sources._named import check_columns_differ
from pipelines.data.sources._row_source import RowSource
from pipelines.data.sources._tfds_reading import feature_kind, flatten_features, read_values
from pipelines.data.sources.rows import Columns, usable_rows

if TYPE_CHECKING:
    import tensorflow_datasets as tfds


@settings
class TfdsSet(RowSource):
    """A set by its name there; labels go by TFDS's words for them.

    A subclass says `columns`, and for each a setting <name>_column: the set's feature, such as
    data/stars for one inside another.

    name         as in TFDS, with a configuration where there are several: glue/sst2.
    train_split, validation_split, test_split  TFDS's names, or parts such as train[:90%]; null
                 where there is none, so that we divide another.
    data_dir     where prepared sets are, and new ones go; null for TFDS's own.
    download     false for never, so that what isn't there is an error.
    """

    name: str
    train_split: str
    validation_split: str | None
    test_split: str | None
    data_dir: str | None
    download: bool

    labels: ClassVar[tuple[str, ...]] = ()
    """Those of `columns` that are labels; see `read_rows`."""

    def check(self) -> None:
        check_columns_differ(self._names())
        builder = self._builder()
        self._check_features(flatten_features(builder.info.features))
        if builder.is_prepared():
            self._check_splits(builder)
        elif not self.download:
            raise UserError(
                f"data.name: {self.name} must be prepared in {builder.data_path}; it isn't there: "
                "set data.download=true, or data.data_dir to where it is"
            )
        else:
            with self._download_errors(builder):
                _check_network(builder)

    def parts(self) -> tuple[str, ...]:
        return tuple(self._splits())

    def read(self, part: str, issues: RowIssues) -> Iterator[Example]:
        return self.read_with(part, issues, ())

    def read_with(self, part: str, issues: RowIssues, extra: Sequence[str]) -> Iterator[Example]:
        names, split = self._names() | {name: name for name in extra}, self._splits()[part]
        rows = enumerate(read_values(self._downloaded_builder(), split, list(names.values())), 1)
        where = f"{self.name} {split}"
        return usable_rows(rows, Columns(names, labels=(*self.labels, *extra)), issues, where)

    def check_extra(self, names: Sequence[str]) -> None:
        features = flatten_features(self._builder().info.features)
        for name in names:
            if name not in features:
                raise UserError(
                    f"prepare.group_by or prepare.time_column: {self.name} has no feature "
                    f"{shown(name)}; {suggest(name, features)}"
                )

    def fingerprint(self) -> str:
        builder = self._downloaded_builder()
        rows = {
            part: [
                (piece.filename.rpartition("/")[2], piece.skip, piece.take)
                for piece in builder.info.splits[split].file_instructions
            ]
            for part, split in self._splits().items()
        }
        how = [rows, *self._names().values()]
        digest = hashlib.sha256(json.dumps(how).encode())
        for path in sorted(Path(builder.data_path).iterdir()):
            # Of the JSON files only this one concerns examples; the others describe the download.
            if path.suffix != ".json" or path.name == "features.json":
                with path.open("rb") as file:
                    digest.update(hashlib.file_digest(file, "sha256").digest())
        return digest.hexdigest()

    def provenance(self) -> Provenance:
        info = self._builder().info
        licence = info.redistribution_info.license
        return Provenance(
            name=self.name,
            origin=f"TensorFlow Datasets {info.full_name}, {info.homepage}",
            licence=" ".join(licence.split()) or f"not stated by TFDS; see {info.homepage}",
            citation=" ".join(info.citation.split()) or "not stated",
        )

    def _names(self) -> dict[str, str]:
        return {column: getattr(self, f"{column}_column") for column in self.columns}

    def _splits(self) -> dict[str, str]:
        """TFDS's name of each part; just {"all": ...} where there is one to be divided."""
        names = {"validation": self.validation_split, "test": self.test_split}
        others = {part: split for part, split in names.items() if split is not None}
        return {"train": self.train_split, **others} if others else {"all": self.train_split}

    def _builder(self) -> tfds.core.DatasetBuilder:
        """TFDS's builder. Reads no data."""
        import tensorflow_datasets as tfds

        folder = None if self.data_dir is None else os.path.expanduser(self.data_dir)
        logger = logging.getLogger("absl")
        level = logger.level
        logger.setLevel(logging.ERROR)  # TFDS logs each folder that it searches
        try:
            return tfds.builder(self.name, data_dir=folder)
        except Exception as error:  # TFDS raises whatever its hundreds of builders do
            raise UserError(_loading_error(self.name, error)) from None
        finally:
            logger.setLevel(level)

    def _check_features(self, features: Mapping[str, tfds.features.FeatureConnector]) -> None:
        available = [f"{name} ({feature_kind(feature)})" for name, feature in features.items()]
        has = ", ".join(available[:8]) + (", ..." if len(available) > 8 else "")
        for column, name in self._names().items():
            kinds = _LABELS if column in self.labels else ("text",)
            if name not in features:
                raise UserError(
                    f"data.{column}_column: {self.name} has no feature {shown(name)}; it has {has}"
                    ": give one"
                )
            if feature_kind(features[name]) not in kinds:
                raise UserError(
                    f"data.{column}_column must be a feature that holds a {' or '.join(kinds)}; "
                    f"{self.name} has {has}: choose another, or another set"
                )

    def _check_splits(self, builder: tfds.core.DatasetBuilder) -> None:
        for part, split in self._splits().items():
            try:
                count = builder.info.splits[split].num_examples
            except (KeyError, ValueError, AssertionError):  # TFDS checks its grammar with asserts
                count = 0
            if not count:
                name = "train" if part == "all" else part
                names = ", ".join(builder.info.splits)
                raise UserError(
                    f"data.{name}_split: {self.name} has no examples in {shown(split)}; it has "
                    f"{names}: give one of these, or a part such as train[:90%], or null (not for "
                    "train)"
                )

    def _downloaded_builder(self) -> tfds.core.DatasetBuilder:
        """The builder, after downloading what isn't there."""
        builder = self._builder()
        if not builder.is_prepared():
            self.check()
            with self._download_errors(builder):
                builder.download_and_prepare()
        self._check_splits(builder)
        return builder

    @contextmanager
    def _download_errors(self, builder: tfds.core.DatasetBuilder) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # a builder runs any code: sockets, archives, packages
            raise UserError(
                f"data.name: {self.name} isn't in {builder.data_path} and can't be downloaded "
                f"({_reason(error)}): mend that, or set data.data_dir to a prepared copy"
            ) from None


_LABELS = ("label", "text", "whole number", "truth value")
_CATALOG = "https://www.tensorflow.org/datasets/catalog/overview"


def _loading_error(received: str, error: Exception) -> str:
    """Why TFDS has no builder of that name, and the nearest there is."""
    import tensorflow_datasets as tfds

    sets = set(tfds.list_builders(with_community_datasets=False))
    name, _, config = received.partition(":")[0].partition("/")
    if isinstance(error, tfds.core.DatasetNotFoundError):
        hint, why = suggest(name, sets), f"TFDS has no set {shown(received)}"
    elif (
        name in sets and config and config not in (known := tfds.builder_cls(name).builder_configs)
    ):
        hint, why = suggest(config, known), f"TFDS's {name} has no configuration {shown(config)}"
    else:
        hint, why = "", f"TFDS can't load {shown(received)} ({_reason(error)})"
    return f"data.name: {why}; {hint if 0 < len(hint) < 300 else f'see {_CATALOG}'}"


def _check_network(builder: tfds.core.DatasetBuilder) -> None:
    """Raises ConnectionError if a host can't be found; TFDS itself would try for minutes."""
    if getproxies().keys() - {"no"}:  # then it is the proxy that finds the hosts
        return
    hosts = {urlsplit(url).hostname for url in builder.url_infos}
    for host in sorted(host for host in hosts if host):
        try:
            socket.getaddrinfo(host, None)
        except OSError as error:
            raise ConnectionError(f"{host} can't be found: {error.strerror or error}") from None


def _reason(error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError):
        return f"the package {error.name} is needed: pip install {error.name}"
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200]}"
