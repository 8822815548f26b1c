"""Captioned images of TensorFlow Datasets (TFDS), by their name there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal

from models.settings import settings
from pipelines.core.contracts import RowIssues
from pipelines.core.errors import UserError
from pipelines.core.types import Example, Nest
from pipelines.data.sources._image_files import CaptionedImages, check_images
from pipelines.data.sources._tfds import TfdsSet
from pipelines.data.sources._tfds_reading import feature_kind

if TYPE_CHECKING:
    import tensorflow_datasets as tfds


@settings
class TfdsCaptions(CaptionedImages, TfdsSet):
    """Each example is an image with its captions. Further settings: see TfdsSet.

    captions_column  a text, several, or captions/text for what is within several.
    name_column      a text that is shown in place of the image; null for its number.
    """

    format: Literal["tfds_captions"]
    image_column: str
    captions_column: str
    name_column: str | None

    def read(self, part: str, issues: RowIssues) -> Iterator[Example]:
        split = self._splits()[part]
        for (name, _, captions), result in check_images(self._rows(split)):
            lines = [" ".join(line.split()) for line in captions]
            if isinstance(result, str) or not any(lines):
                issues.add(name, result if isinstance(result, str) else "image without a caption")
            else:
                yield {"image": result, "captions": "\n".join(filter(None, lines))}

    def _rows(self, split: str) -> Iterator[tuple[str, Callable[[], bytes], list[str]]]:
        """Name, how to get the bytes, and captions, always in the same order."""
        import tensorflow_datasets as tfds

        builder = self._downloaded_builder()
        columns = [self.image_column, self.captions_column, *filter(None, [self.name_column])]
        dataset = builder.as_dataset(
            split=split,
            decoders=tfds.decode.PartialDecoding(
                _tree(builder.info.features, columns),
                decoders={self.image_column: tfds.decode.SkipDecoding()},
            ),
            read_config=tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False),
        )
        for number, row in enumerate(dataset.as_numpy_iterator(), 1):
            image = _at(row, self.image_column)
            captions = _at(row, self.captions_column)
            several = [captions] if isinstance(captions, bytes) else captions.tolist()
            name = _at(row, self.name_column).decode() if self.name_column else f"{split}:{number}"
            texts = [caption.decode("utf-8", "replace") for caption in several]
            yield name, _already_read(image), texts

    def _check_features(self, features: Mapping[str, tfds.features.FeatureConnector]) -> None:
        kinds = {name: feature_kind(feature) for name, feature in features.items()}
        has = ", ".join(f"{name} ({what})" for name, what in list(kinds.items())[:8])
        expected = {
            "image": (self.image_column, ("image",)),
            "captions": (self.captions_column.partition("/")[0], ("text", "sequence")),
        }
        if self.name_column is not None:
            expected["name"] = (self.name_column, ("text",))
        for setting, (name, fitting) in expected.items():
            if kinds.get(name) not in fitting:
                raise UserError(
                    f"data.{setting}_column must be a feature that holds a {' or '.join(fitting)}; "
                    f"{self.name} has {has}: choose another, or another set"
                )


def _already_read(image: bytes) -> Callable[[], bytes]:
    return lambda: image


def _tree(features: tfds.features.FeaturesDict, names: list[str]) -> dict[str, Any]:
    """The argument of PartialDecoding; a feature's own name may contain a slash, too."""
    tree: dict[str, Any] = {}
    for name in names:
        outer, _, inner = name.partition("/")
        if name in features or not inner:
            tree[name] = True
        else:
            tree.setdefault(outer, {})[inner] = True
    return tree


def _at(row: Nest, name: str) -> Nest:
    if name in row:
        return row[name]
    outer, _, inner = name.partition("/")
    return row[outer][inner]
