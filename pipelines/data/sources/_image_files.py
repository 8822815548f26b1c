"""What sources of images with captions have in common."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar

from pipelines.core.contracts import FieldSpec, FileBytes, RowIssues
from pipelines.core.errors import UserError
from pipelines.core.types import Example
from pipelines.data.codecs.images import SIGNATURES, decoded
from pipelines.data.sources._named import file_named
from pipelines.data.sources._row_source import RowSource
from pipelines.data.sources.rows import extension, read_lines
from pipelines.runs.parallel import map_in_order

COLUMNS = ("image", "captions")
"""An image's file, and its captions, one a line."""

ENDINGS = (".png", ".jpg", ".jpeg", ".gif", ".webp", ".bmp")

LISTS = (".txt", ".jsonl", ".ndjson")
"""Of files with an image a line to predict for."""

MOST_BYTES = 100 << 20
MOST_PIXELS = 100_000_000
"""Of all frames together. More are not decoded: a few bytes can stand for terabytes of pixels."""


class CaptionedImages(RowSource):
    """An image and its captions an example."""

    columns: ClassVar[tuple[str, ...]] = COLUMNS
    reads_folders: ClassVar[bool] = True

    def read_inputs(
        self, path: Path, fields: Mapping[str, FieldSpec], issues: RowIssues
    ) -> Iterator[Example]:
        """An image, a folder of images, or a text file with one a line in `parse_input`'s form."""
        if path.is_dir():
            found = sorted(file for file in path.iterdir() if file.suffix.lower() in ENDINGS)
            if not found:
                raise UserError(f"{path} must hold images ({', '.join(ENDINGS)}); it has none")
            files: Iterable[Named] = ((file.name, reader(file)) for file in found)
        elif extension(path) in LISTS:
            files = _listed(path)
        else:
            yield {"image": _usable(path.name, reader(path))}
            return
        for content in whole(files, issues):
            yield {"image": content}

    def count_inputs(self, path: Path) -> int | None:
        return sum(1 for _ in path.iterdir()) if path.is_dir() else super().count_inputs(path)

    def parse_input(self, text: str, fields: Mapping[str, FieldSpec]) -> Example:
        """A file's name, or {"image": its name or {"b64": its bytes}} as JSON."""
        return {"image": _usable(*_named(text, Path()))}


Named = tuple[str, Callable[[], bytes]]
"""What is shown for a file, and how to get its bytes."""


def reader(path: Path) -> Callable[[], bytes]:
    """How to get a file's bytes; of one that is too large, enough to tell."""

    def read() -> bytes:
        with path.open("rb") as file:
            return file.read(MOST_BYTES + 1)

    return read


def _named(text: str, folder: Path) -> Named:
    """Of a line; names are relative to the current folder, or else to `folder`."""
    value: Any = text.strip()
    if not value:
        raise UserError("is empty")
    if value.startswith("{"):
        try:
            value = json.loads(value)["image"]
        except (ValueError, KeyError, TypeError):
            raise UserError('an image must be a file or {"image": …} as JSON') from None
    if isinstance(value, dict):
        try:
            content = base64.b64decode(value["b64"], validate=True)
        except (binascii.Error, ValueError, KeyError, TypeError):
            raise UserError('an image in JSON must be {"b64": "…"} in base64') from None
        return "image in base64", lambda: content
    path = file_named(str(value))
    return str(value), reader(path if path.exists() else folder / path)


def _listed(path: Path) -> Iterator[Named]:
    for number, line in enumerate(read_lines(path), 1):
        try:
            yield _named(line, path.parent)
        except UserError as error:
            yield f"{path.name}:{number}", _unreadable(str(error))


def _unreadable(reason: str) -> Callable[[], bytes]:
    """In place of how to get a file's bytes."""

    def read() -> bytes:
        raise UserError(reason)

    return read


def whole(files: Iterable[Named], issues: RowIssues) -> Iterator[FileBytes]:
    """The files that hold an image which can be decoded, in order; others are issues."""
    for (name, _), found in checked(files):
        if isinstance(found, str):
            issues.add(name, found)
        else:
            yield found


def checked(files: Iterable[Any]) -> Iterator[tuple[Any, FileBytes | str]]:
    """Each file with its bytes, or why they are of no use. Read and decoded by several threads.

    files  begin with what is in Named; what follows is the caller's.
    """
    return map_in_order(lambda file: (file, _content(file[0], file[1])), files)


def _usable(name: str, read: Callable[[], bytes]) -> FileBytes:
    content = _content(name, read)
    if isinstance(content, str):
        raise UserError(
            f"{name}: {content}; give an image ({', '.join(SIGNATURES)}), a folder of them, or a "
            f"file with a name a line ({', '.join(LISTS)})"
        )
    return content


def _content(name: str, read: Callable[[], bytes]) -> FileBytes | str:
    try:
        content = read()
    except UserError as error:
        return str(error)
    except FileNotFoundError:
        return "there is no such file"
    except OSError as error:
        return f"can't be read: {error.strerror or error}"
    return fault(content) or FileBytes(content, name)


def fault(content: bytes) -> str | None:
    """Why the codec can't decode a file's bytes; None if it can."""
    if not content:
        return "empty file"
    if len(content) > MOST_BYTES:
        return f"more than {MOST_BYTES >> 20} MB"
    if not content.startswith(tuple(SIGNATURES.values())):
        return "no image of a known format"
    return _dimensions_fault(content) or _decoding_fault(content)


def _dimensions_fault(content: bytes) -> str | None:
    """By the header alone."""
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = None  # ours is below, and doesn't warn besides
    try:
        image = Image.open(BytesIO(content))
        frames = getattr(image, "n_frames", 1)
    except Exception:  # Pillow raises whatever broken bytes lead it to
        return "broken header"
    if image.format == "WEBP" and frames > 1:
        return "animated WebP"
    width, height = image.size
    if width * height * frames > MOST_PIXELS:
        return f"more than {MOST_PIXELS:,} pixels"
    return None


def _decoding_fault(content: bytes) -> str | None:
    import tensorflow as tf

    try:
        _decoder()(tf.constant(content))
    except (tf.errors.OpError, UnicodeDecodeError):  # messages may quote the image's bytes
        return "broken image"
    return None


@cache
def _decoder() -> Any:
    """What the codec does, so that what passes here passes there."""
    import tensorflow as tf

    graph = tf.function(decoded, input_signature=[tf.TensorSpec([], tf.string)], autograph=False)
    return graph.get_concrete_function()
