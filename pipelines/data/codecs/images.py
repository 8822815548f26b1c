"""Image files (bytes) -> pixels, as TensorFlow graph code."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import Field

from models.settings import settings
from pipelines.core.contracts import FieldCodec, FieldSpec
from pipelines.core.types import JsonObject, RawColumn, Value
from pipelines.data.codecs.restoring import check_same_settings

if TYPE_CHECKING:
    import tensorflow as tf

SIGNATURES = {
    "PNG": b"\x89PNG",
    "JPEG": b"\xff\xd8\xff",
    "GIF": b"GIF8",
    "WebP": b"RIFF",
    "BMP": b"BM",
}
"""The formats that can be decoded, with the first bytes of their files."""

WHITE = 255

EXIF_SEARCH_BYTES = 4096
"""Bytes at the start of a JPEG file that are searched for its orientation."""

PARALLEL_DECODES = 4
"""Images that are decoded concurrently; few, because all of them may be large."""


@settings
class ImageSettings:
    """How an image becomes a square of pixels.

    size  height and width.
    fit   pad: the whole image with its aspect ratio, and white margins; crop: the largest square in
          its middle; stretch: the whole image, without its aspect ratio.
    """

    size: Annotated[int, Field(ge=1, le=16_384)]
    fit: Literal["pad", "crop", "stretch"]


class ImageCodec(FieldCodec):
    """PNG, JPEG, BMP, WebP or the first frame of GIF, of any size, to (size, size, 3) uint8.

    Transparent pixels become white (in GIF black, since TensorFlow decodes no transparency there).
    Photos are rotated upright by their EXIF orientation. There is nothing to learn.
    """

    def __init__(self, column: str, settings: ImageSettings):
        self.column = column
        self.settings = settings

    @property
    def learns_from(self) -> tuple[str, ...]:
        return ()

    def fit(self, batches: Iterable[Sequence[Value]]) -> None:
        pass

    def encode(self, values: RawColumn) -> tf.Tensor:
        """(B,) files' bytes to (B, size, size, 3) uint8. InvalidArgumentError for other bytes."""
        import tensorflow as tf

        size, fit = self.settings.size, self.settings.fit
        return tf.map_fn(
            lambda content: fit_to_square(blend_on_white(decode_image(content)), size, fit),
            values,
            parallel_iterations=PARALLEL_DECODES,
            fn_output_signature=tf.TensorSpec([size, size, 3], tf.uint8),
        )

    def decode(self, numbers: np.ndarray) -> bytes:
        """(size, size, 3) as a PNG file's bytes."""
        import tensorflow as tf

        return tf.io.encode_png(numbers).numpy()

    @property
    def field(self) -> FieldSpec:
        return FieldSpec(shape=(self.settings.size, self.settings.size, 3), dtype="uint8")

    @property
    def size(self) -> None:
        return None

    def state(self) -> JsonObject:
        return {"column": self.column, "settings": dataclasses.asdict(self.settings)}

    def restore(self, state: JsonObject) -> None:
        """UserError if the state is of other settings."""
        check_same_settings("images encoded", state, self.state())

    def summary(self) -> JsonObject:
        return {"size": self.settings.size, "fit": self.settings.fit}


def decode_image(content: tf.Tensor) -> tf.Tensor:
    """Graph code: a file's bytes () to (H, W, C) uint8, with C = 1 grey, 3 RGB or 4 RGBA.

    InvalidArgumentError unless the bytes are a whole image.
    """
    import tensorflow as tf

    branches: dict[str, Callable[[], tf.Tensor]] = {
        "PNG": lambda: _decode_png(content),
        "JPEG": lambda: _rotate_upright(_decode_jpeg(content), _read_orientation(content)),
        "GIF": lambda: tf.io.decode_image(content, channels=3, expand_animations=False),
        "WebP": lambda: _decode_webp(content),
        "BMP": lambda: tf.io.decode_bmp(content),
    }
    starts = [tf.strings.substr(content, 0, len(start)) == start for start in SIGNATURES.values()]
    known = tf.reduce_any(starts)
    message = f"must be one of {', '.join(SIGNATURES)}"
    with tf.control_dependencies([tf.debugging.Assert(known, [message])]):
        which = tf.argmax(tf.stack(starts), output_type=tf.int32)
    return tf.switch_case(which, [branches[name] for name in SIGNATURES])


def _decode_png(content: tf.Tensor) -> tf.Tensor:
    """(H, W, 4)."""
    import tensorflow as tf

    pixels = tf.io.decode_png(content, channels=4)
    # For depths below 8 bits a channel TensorFlow fills in missing opacity by the depth's maximum.
    opaque = 2 ** tf.minimum(_byte_at(content, 24), 8) - 1
    colour, opacity = pixels[..., :3], pixels[..., 3:]
    filled = tf.reduce_all(opacity == tf.cast(opaque, tf.uint8))
    return tf.cond(filled, lambda: colour, lambda: pixels)


def _decode_jpeg(content: tf.Tensor) -> tf.Tensor:
    """(H, W, 3)."""
    import tensorflow as tf

    # The default is no faster, and differs from other programs by up to 10 of 255 levels.
    return tf.io.decode_jpeg(content, channels=3, dct_method="INTEGER_ACCURATE")


def _read_orientation(content: tf.Tensor) -> tf.Tensor:
    """The EXIF orientation of a JPEG file, 1 to 8; 1 if there is none.

    TensorFlow has no EXIF reader, so this searches for the bytes of the entry. In the EXIF block an
    entry is its tag, its type (3: 16 bits), the number of values (1), and the value. The block is
    either little-endian, as in 12 01 | 03 00 | 01 00 00 00 | value 00, or big-endian, as in
    01 12 | 00 03 | 00 00 00 01 | 00 value. Splitting the text at the first three parts leaves the
    value at the start of the rest. The appended bytes are what is read where nothing was found.
    """
    import tensorflow as tf

    def text_after(text: tf.Tensor, mark: bytes) -> tf.Tensor:
        """The text after the mark; empty if it doesn't occur."""
        return tf.concat([tf.strings.split(text, mark, maxsplit=1), ["", ""]], axis=0)[1]

    exif = text_after(tf.strings.substr(content, 0, EXIF_SEARCH_BYTES), b"Exif\0\0")
    little = _byte_at(text_after(exif, b"\x12\x01\x03\0\x01\0\0\0") + b"\x01", 0)
    big = _byte_at(text_after(exif, b"\x01\x12\0\x03\0\0\0\x01") + b"\x01\x01", 1)
    either = tf.maximum(little, big)
    return tf.where(either <= 8, either, 1)


def _rotate_upright(pixels: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Rotates or mirrors (H, W, 3) by the EXIF orientation, so that the photo is upright."""
    import tensorflow as tf

    def rotate() -> tf.Tensor:
        turn = tf.cond(orientation >= 5, lambda: tf.transpose(pixels, [1, 0, 2]), lambda: pixels)
        rows, columns = (
            tf.where(tf.reduce_any(orientation == those), -1, 1)
            for those in ([3, 4, 7, 8], [2, 3, 6, 7])
        )
        return turn[::rows, ::columns]

    return tf.cond(orientation > 1, rotate, lambda: pixels)


def _decode_webp(content: tf.Tensor) -> tf.Tensor:
    """(H, W, 3 or 4). Refuses animations, for which TensorFlow reserves too little memory."""
    import tensorflow as tf

    extended = tf.strings.substr(content, 12, 4) == b"VP8X"
    animated = extended & (_byte_at(content, 20) & 2 > 0)
    with tf.control_dependencies([tf.debugging.Assert(~animated, ["animated WebP"])]):
        return tf.io.decode_webp(content)[0]


def _byte_at(content: tf.Tensor, place: int) -> tf.Tensor:
    import tensorflow as tf

    byte = tf.io.decode_raw(tf.strings.substr(content, place, 1), tf.uint8)
    return tf.cast(byte[0], tf.int32)


def blend_on_white(pixels: tf.Tensor) -> tf.Tensor:
    """Graph code: (H, W, C), C = 1, 3 or 4, to (H, W, 3), with white below transparent pixels."""
    import tensorflow as tf

    def blend() -> tf.Tensor:
        # 16 bits suffice, and save memory with large images.
        colour, share = (tf.cast(part, tf.uint16) for part in tf.split(pixels, [3, 1], axis=2))
        return tf.cast((colour * share + WHITE * (WHITE - share) + WHITE // 2) // WHITE, tf.uint8)

    def to_rgb() -> tf.Tensor:
        return tf.broadcast_to(pixels, tf.concat([tf.shape(pixels)[:2], [3]], axis=0))

    blended = tf.cond(tf.shape(pixels)[2] == 4, blend, to_rgb)
    return tf.ensure_shape(blended, [None, None, 3])


def fit_to_square(pixels: tf.Tensor, size: int, fit: str) -> tf.Tensor:
    """Graph code: (H, W, 3) uint8 to (size, size, 3) uint8; see ImageSettings."""
    import tensorflow as tf

    shape = tf.shape(pixels)[:2]
    target = tf.constant([size, size])
    if fit == "crop":
        side = tf.reduce_min(shape)
        top, left_edge = tf.unstack((shape - side) // 2)
        pixels = pixels[top : top + side, left_edge : left_edge + side]
    elif fit == "pad":
        exact = tf.cast(shape, tf.float64) * size / tf.cast(tf.reduce_max(shape), tf.float64)
        target = tf.maximum(tf.cast(tf.round(exact), tf.int32), 1)
    small = tf.image.resize(pixels, target, antialias=True)
    values = tf.cast(tf.round(tf.clip_by_value(small, 0.0, 255.0)), tf.uint8)
    before = (size - target) // 2
    margins = tf.stack([before, size - target - before], axis=1)
    padded = tf.pad(values, tf.pad(margins, [[0, 1], [0, 0]]), constant_values=WHITE)
    return tf.ensure_shape(padded, [size, size, 3])
