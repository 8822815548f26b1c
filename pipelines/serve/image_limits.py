"""The number of pixels in an image, read before any model decodes it.

A file of a few kilobytes can decode to gigabytes. Such a request is refused by the file's header.
"""

from __future__ import annotations

import re
import warnings
from io import BytesIO

from PIL import Image, UnidentifiedImageError

from pipelines.serve.errors import RequestError

IMAGE_FORMATS = ("PNG", "JPEG", "GIF", "BMP", "WEBP")
"""The formats that TensorFlow decodes."""

FIRST_BYTES = (b"\x89PNG", b"\xff\xd8", b"GIF8", b"BM", b"RIFF")
"""First bytes of files of these formats: most values are text, and need no closer look."""


def count_pixels(content: bytes) -> int:
    """Width times height times frames, as the headers say; 0 if the bytes are no image.

    Nothing is decoded. Raises RequestError (400) for an animation whose frames can't be counted.
    """
    if not content.startswith(FIRST_BYTES):
        return 0
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(BytesIO(content), formats=IMAGE_FORMATS)
    except Image.DecompressionBombError as error:
        # Pillow refuses the largest itself, and says "Image size (400 pixels) exceeds ...".
        return int(re.findall(r"\d+", str(error))[0])
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, EOFError):
        return 0
    with image:
        # TensorFlow decodes all frames of a GIF, even where it keeps only the first.
        frames = _count_frames(image) if image.format == "GIF" else 1
        return image.width * image.height * frames


def _count_frames(image: Image.Image) -> int:
    try:
        return int(getattr(image, "n_frames", 1))
    except Exception:  # each kind of damage raises another exception
        raise RequestError(400, "the frames of a GIF can't be counted: it is damaged") from None
