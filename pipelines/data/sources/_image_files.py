"""The base of sources of images with captions: reading, and checking that images decode."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, TypeVar

from models.settings import settings
from pipelines.core.contracts import FieldSpec, FileBytes, RowIssues
from pipelines.core.errors import UserError
from pipelines.core.files import is_file, is_within, special_kind
from pipelines.core.types import Example, Json
from pipelines.data.codecs.images import SIGNATURES, decode_image
from pipelines.data.sources._named import expand_home
from pipelines.data.sources._row_source import RowSource
from pipelines.data.sources.rows import extension, read_lines
from pipelines.runs.parallel import map_in_order

if TYPE_CHECKING:
    import tensorflow as tf

COLUMNS = ("image", "captions")
"""Columns: the bytes of an image's file, and its captions, one a line."""

IMAGE_EXTENSIONS = (".png", ".jpg", ".jpeg", ".gif", ".webp", ".bmp")

LIST_EXTENSIONS = (".txt", ".jsonl", ".ndjson")
"""Extensions of files that list one image a line to predict for."""

MAX_BYTES = 100 << 20
MAX_PIXELS = 100_000_000
"""Most pixels of all frames: a file of a few bytes can decode to terabytes of pixels."""


@settings
class CaptionedImages(RowSource):
    """Each example is an image with its captions.

    outside_images  whether a file that comes with images, be it with captions, a list or a link,
                    may name images outside their folder.
    """

    columns: ClassVar[tuple[str, ...]] = COLUMNS
    reads_folders: ClassVar[bool] = True
    outside_images: bool

    def read_inputs(
        self, path: Path, fields: Mapping[str, FieldSpec], issues: RowIssues
    ) -> Iterator[Example]:
        """An image, a folder of images, or a text file with one a line in `parse_input`'s form."""
        if path.is_dir():
            paths = sorted(
                file for file in path.iterdir() if file.suffix.lower() in IMAGE_EXTENSIONS
            )
            if not paths:
                raise UserError(
                    f"{path} must hold images ({', '.join(IMAGE_EXTENSIONS)}); it has none"
                )
            files: Iterable[NamedFile] = (
                (file.name, bytes_reader(file, self._allowed(path))) for file in paths
            )
        elif extension(path) in LIST_EXTENSIONS:
            files = _read_list(path, self._allowed(path.parent, Path()))
        else:
            yield {"image": _read_or_raise(path.name, bytes_reader(path, None))}
            return
        for content in keep_decodable(files, issues):
            yield {"image": content}

    def count_inputs(self, path: Path) -> int | None:
        return sum(1 for _ in path.iterdir()) if path.is_dir() else super().count_inputs(path)

    def parse_input(self, text: str, fields: Mapping[str, FieldSpec]) -> Example:
        """A file's name, or {"image": its name or {"b64": its bytes}} as JSON.

        Whoever gives it may name any file.
        """
        return {"image": _read_or_raise(*_parse_line(text, Path(), None))}

    def _allowed(self, *folders: Path) -> Sequence[Path] | None:
        """Folders in which the named images must be; None for anywhere."""
        return None if self.outside_images else folders


NamedFile = tuple[str, Callable[[], bytes]]
"""The name that is shown for a file, and a function that reads its bytes."""

File = TypeVar("File", bound=tuple[str, Callable[[], bytes], *tuple[object, ...]])
"""A tuple that begins as a NamedFile."""


def bytes_reader(path: Path, allowed: Sequence[Path] | None) -> Callable[[], bytes]:
    """A function that reads a file, up to the first byte beyond MAX_BYTES.

    allowed  folders, of which one must hold the file once all links are followed; None: anywhere.
             Nothing is said of a file elsewhere, not even whether there is one.
    """

    def read() -> bytes:
        if allowed is not None and not any(is_within(path, folder) for folder in allowed):
            raise UserError(OUTSIDE)
        if kind := special_kind(path):
            raise UserError(f"is {kind}, no regular file")
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)

    return read


OUTSIDE = "is outside the images' folder, which takes data.outside_images=true"


def _parse_line(text: str, folder: Path, allowed: Sequence[Path] | None) -> NamedFile:
    """The file of a line; its name is relative to the current folder, or else to `folder`.

    allowed  see `bytes_reader`.
    """
    value: Json = text.strip()
    if not value:
        raise UserError("is empty")
    if value.startswith("{"):
        try:
            value = json.loads(value)["image"]
        except (ValueError, KeyError, TypeError, RecursionError):
            raise UserError('an image must be a file or {"image": …} as JSON') from None
    if isinstance(value, dict):
        try:
            content = base64.b64decode(value["b64"], validate=True)
        except (binascii.Error, ValueError, KeyError, TypeError):
            raise UserError('an image in JSON must be {"b64": "…"} in base64') from None
        return "image in base64", lambda: content
    path = expand_home(str(value))
    return str(value), bytes_reader(path if is_file(path) else folder / path, allowed)


def _read_list(path: Path, allowed: Sequence[Path] | None) -> Iterator[NamedFile]:
    for number, line in enumerate(read_lines(path), 1):
        try:
            yield _parse_line(line, path.parent, allowed)
        except UserError as error:
            yield f"{path.name}:{number}", _raise_when_read(str(error))


def _raise_when_read(reason: str) -> Callable[[], bytes]:
    """A function that raises UserError where it should read a file."""

    def read() -> bytes:
        raise UserError(reason)

    return read


def keep_decodable(files: Iterable[NamedFile], issues: RowIssues) -> Iterator[FileBytes]:
    """The files with an image that can be decoded, in order; others are added to the issues."""
    for (name, _), found in check_images(files):
        if isinstance(found, str):
            issues.add(name, found)
        else:
            yield found


def check_images(files: Iterable[File]) -> Iterator[tuple[File, FileBytes | str]]:
    """Each file with its bytes, or with the reason why it can't be used. Uses several threads.

    files  tuples that begin as a NamedFile; further entries are passed through.
    """
    return map_in_order(lambda file: (file, _read_and_check(file[0], file[1])), files)


def _read_or_raise(name: str, read: Callable[[], bytes]) -> FileBytes:
    content = _read_and_check(name, read)
    if isinstance(content, str):
        raise UserError(
            f"{name}: {content}; give an image ({', '.join(SIGNATURES)}), a folder of them, or a "
            f"file with a name a line ({', '.join(LIST_EXTENSIONS)})"
        )
    return content


def _read_and_check(name: str, read: Callable[[], bytes]) -> FileBytes | str:
    try:
        content = read()
    except UserError as error:
        return str(error)
    except FileNotFoundError:
        return "there is no such file"
    except OSError as error:
        return f"can't be read: {error.strerror or error}"
    except ValueError:  # a NUL, or half a character
        return "no file can have such a name"
    return find_fault(content) or FileBytes(content, name)


def find_fault(content: bytes) -> str | None:
    """The reason why the codec can't decode a file's bytes; None if it can."""
    if not content:
        return "empty file"
    if len(content) > MAX_BYTES:
        return f"more than {MAX_BYTES >> 20} MB"
    if not content.startswith(tuple(SIGNATURES.values())):
        return "no image of a known format"
    return _header_fault(content) or _decoding_fault(content)


def _header_fault(content: bytes) -> str | None:
    """A fault that the header shows: no pixels are decoded."""
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = None  # MAX_PIXELS is stricter, and doesn't warn
    try:
        image = Image.open(BytesIO(content))
        frames = getattr(image, "n_frames", 1)
    except Exception:  # Pillow raises whatever broken bytes lead it to
        return "broken header"
    if image.format == "WEBP" and frames > 1:
        return "animated WebP"
    width, height = image.size
    if width * height * frames > MAX_PIXELS:
        return f"more than {MAX_PIXELS:,} pixels"
    return None


def _decoding_fault(content: bytes) -> str | None:
    import tensorflow as tf

    try:
        _traced_decoder()(tf.constant(content))
    except (tf.errors.OpError, UnicodeDecodeError):  # whose messages may quote bytes of the image
        return "broken image"
    return None


@cache
def _traced_decoder() -> Callable[[tf.Tensor], tf.Tensor]:
    """The codec's own decoding, so that every image that passes can be encoded."""
    import tensorflow as tf

    graph = tf.function(
        decode_image, input_signature=[tf.TensorSpec([], tf.string)], autograph=False
    )
    return graph.get_concrete_function()
