"""Encoded images (files' bytes) -> pixels, as TensorFlow graph code."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from models.settings import Count, settings
from pipelines.core.contracts import FieldCodec, FieldSpec
from pipelines.core.errors import UserError
from pipelines.core.types import RawColumn

if TYPE_CHECKING:
    import tensorflow as tf

SIGNATURES = {
    "PNG": b"\x89PNG",
    "JPEG": b"\xff\xd8\xff",
    "GIF": b"GIF8",
    "WebP": b"RIFF",
    "BMP": b"BM",
}
"""The first bytes of the files that can be read."""

WHITE = 255

EXIF_WITHIN = 4096
"""Bytes from a JPEG's start in which its orientation stands, if anywhere."""

AT_ONCE = 4
"""Images of a batch that are decoded at once: all of them may be large."""


@settings
class ImageSettings:
    """How an image becomes a square of pixels.

    size  height and width.
    fit   pad: the whole image, its sides' ratio kept, white at both sides of the shorter one;
          crop: the largest square in its middle; stretch: the whole image, its ratio lost.
    """

    size: Count
    fit: Literal["pad", "crop", "stretch"]


class ImageCodec(FieldCodec):
    """PNG, JPEG, the first frame of GIF and WebP, BMP, of any size, to (size, size, 3) uint8.

    What is transparent becomes white (in GIF black: TensorFlow doesn't tell), and photos are turned
    as their EXIF says. Learns nothing.
    """

    def __init__(self, column: str, settings: ImageSettings):
        self.column = column
        self.settings = settings

    @property
    def learns_from(self) -> tuple[str, ...]:
        return ()

    def fit(self, batches: Iterable[Sequence[Any]]) -> None:
        pass

    def encode(self, values: RawColumn) -> tf.Tensor:
        """(B,) files' bytes to (B, size, size, 3) uint8. InvalidArgumentError for other bytes."""
        import tensorflow as tf

        size, fit = self.settings.size, self.settings.fit
        return tf.map_fn(
            lambda content: fitted(on_white(decoded(content)), size, fit),
            values,
            parallel_iterations=AT_ONCE,
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

    def state(self) -> dict[str, Any]:
        return {"column": self.column, "settings": dataclasses.asdict(self.settings)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """UserError if the state is of other settings."""
        if dict(state) != self.state():
            raise UserError(f"images made with {dict(state)} can't be used with {self.state()}")

    def summary(self) -> dict[str, Any]:
        return {"size": self.settings.size, "fit": self.settings.fit}


def decoded(content: tf.Tensor) -> tf.Tensor:
    """Graph code: a file's bytes () to (H, W, 1, 3 or 4) uint8: grey, colour, with opacity.

    InvalidArgumentError unless the bytes are a whole image.
    """
    import tensorflow as tf

    branches: dict[str, Callable[[], tf.Tensor]] = {
        "PNG": lambda: _png(content),
        "JPEG": lambda: _upright(_jpeg(content), _orientation(content)),
        "GIF": lambda: tf.io.decode_image(content, channels=3, expand_animations=False),
        "WebP": lambda: _still_webp(content),
        "BMP": lambda: tf.io.decode_bmp(content),
    }
    starts = [tf.strings.substr(content, 0, len(start)) == start for start in SIGNATURES.values()]
    known = tf.reduce_any(starts)
    message = f"must be one of {', '.join(SIGNATURES)}"
    with tf.control_dependencies([tf.debugging.Assert(known, [message])]):
        which = tf.argmax(tf.stack(starts), output_type=tf.int32)
    return tf.switch_case(which, [branches[name] for name in SIGNATURES])


def _png(content: tf.Tensor) -> tf.Tensor:
    """(H, W, 4)."""
    import tensorflow as tf

    pixels = tf.io.decode_png(content, channels=4)
    # TensorFlow fills in the opacity of less than 8 bits a channel by its largest value there.
    opaque = 2 ** tf.minimum(_byte(content, 24), 8) - 1
    colour, opacity = pixels[..., :3], pixels[..., 3:]
    filled = tf.reduce_all(opacity == tf.cast(opaque, tf.uint8))
    return tf.cond(filled, lambda: colour, lambda: pixels)


def _jpeg(content: tf.Tensor) -> tf.Tensor:
    """(H, W, 3)."""
    import tensorflow as tf

    # The default is no faster, and up to 10 levels beside what other programs show.
    return tf.io.decode_jpeg(content, channels=3, dct_method="INTEGER_ACCURATE")


def _orientation(content: tf.Tensor) -> tf.Tensor:
    """How the camera was held: 1 to 8 as in EXIF, which stands near a JPEG's start; 1 if unsaid."""
    import tensorflow as tf

    def after(text: tf.Tensor, mark: bytes) -> tf.Tensor:
        """What follows on the bytes; nothing if they don't occur."""
        return tf.concat([tf.strings.split(text, mark, maxsplit=1), ["", ""]], axis=0)[1]

    exif = after(tf.strings.substr(content, 0, EXIF_WITHIN), b"Exif\0\0")
    # Tag 0x0112, one number of 16 bits, in either order of bytes.
    little = _byte(after(exif, b"\x12\x01\x03\0\x01\0\0\0") + b"\x01", 0)
    big = _byte(after(exif, b"\x01\x12\0\x03\0\0\0\x01") + b"\x01\x01", 1)
    either = tf.maximum(little, big)
    return tf.where(either <= 8, either, 1)


def _upright(pixels: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """(H, W, 3) as it was seen."""
    import tensorflow as tf

    def turned() -> tf.Tensor:
        turn = tf.cond(orientation >= 5, lambda: tf.transpose(pixels, [1, 0, 2]), lambda: pixels)
        rows, columns = (
            tf.where(tf.reduce_any(orientation == those), -1, 1)
            for those in ([3, 4, 7, 8], [2, 3, 6, 7])
        )
        return turn[::rows, ::columns]

    return tf.cond(orientation > 1, turned, lambda: pixels)


def _still_webp(content: tf.Tensor) -> tf.Tensor:
    """(H, W, 3 or 4). An animation would be decoded into too little memory."""
    import tensorflow as tf

    extended = tf.strings.substr(content, 12, 4) == b"VP8X"
    animated = extended & (_byte(content, 20) & 2 > 0)
    with tf.control_dependencies([tf.debugging.Assert(~animated, ["animated WebP"])]):
        return tf.io.decode_webp(content)[0]


def _byte(content: tf.Tensor, place: int) -> tf.Tensor:
    import tensorflow as tf

    one = tf.io.decode_raw(tf.strings.substr(content, place, 1), tf.uint8)
    return tf.cast(one[0], tf.int32)


def on_white(pixels: tf.Tensor) -> tf.Tensor:
    """Graph code: (H, W, 1, 3 or 4) to (H, W, 3)."""
    import tensorflow as tf

    def composed() -> tf.Tensor:
        # 16 bits suffice, and of a large image there is little room for more.
        colour, share = (tf.cast(part, tf.uint16) for part in tf.split(pixels, [3, 1], axis=2))
        return tf.cast((colour * share + WHITE * (WHITE - share) + WHITE // 2) // WHITE, tf.uint8)

    def opaque() -> tf.Tensor:
        return tf.broadcast_to(pixels, tf.concat([tf.shape(pixels)[:2], [3]], axis=0))

    made = tf.cond(tf.shape(pixels)[2] == 4, composed, opaque)
    return tf.ensure_shape(made, [None, None, 3])


def fitted(pixels: tf.Tensor, size: int, fit: str) -> tf.Tensor:
    """Graph code: (H, W, 3) uint8 to (size, size, 3) uint8; see ImageSettings."""
    import tensorflow as tf

    shape = tf.shape(pixels)[:2]
    wanted = tf.constant([size, size])
    if fit == "crop":
        side = tf.reduce_min(shape)
        top, left = tf.unstack((shape - side) // 2)
        pixels = pixels[top : top + side, left : left + side]
    elif fit == "pad":
        exact = tf.cast(shape, tf.float64) * size / tf.cast(tf.reduce_max(shape), tf.float64)
        wanted = tf.maximum(tf.cast(tf.round(exact), tf.int32), 1)
    small = tf.image.resize(pixels, wanted, antialias=True)
    values = tf.cast(tf.round(tf.clip_by_value(small, 0.0, 255.0)), tf.uint8)
    before = (size - wanted) // 2
    margins = tf.stack([before, size - wanted - before], axis=1)
    padded = tf.pad(values, tf.pad(margins, [[0, 1], [0, 0]]), constant_values=WHITE)
    return tf.ensure_shape(padded, [size, size, 3])
