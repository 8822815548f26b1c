"""Pictures that are small to send and huge to decode are refused before any model sees them."""

from __future__ import annotations

import re
import warnings
from io import BytesIO

from PIL import Image, UnidentifiedImageError

from pipelines.serve.errors import RequestError

FORMATS = ("PNG", "JPEG", "GIF", "BMP", "WEBP")
"""What TensorFlow decodes."""


def pixels(content: bytes) -> int:
    """Width times height times frames, as the headers say; 0 for what is no picture.

    Nothing is decoded. Raises RequestError (400) for an animation whose frames can't be counted.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(BytesIO(content), formats=FORMATS)
    except Image.DecompressionBombError as error:
        return int(re.findall(r"\d+", str(error))[0])  # it says "Image size (400 pixels) ..."
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, EOFError):
        return 0
    with image:
        # TensorFlow decodes all frames of a GIF, even where it keeps only the first.
        frames = _frames(image) if image.format == "GIF" else 1
        return image.width * image.height * frames


def _frames(image: Image.Image) -> int:
    try:
        return int(getattr(image, "n_frames", 1))
    except Exception:  # each way of being damaged has an exception of its own
        raise RequestError(400, "the frames of a GIF can't be counted: it is damaged") from None
