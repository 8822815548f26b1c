"""Images as training sees them this time: shifted, zoomed, lighter or darker, and still true."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated

import numpy as np
from pydantic import Field

from models.settings import settings

Part = Annotated[float, Field(ge=0, lt=1)]

_UNSPACED = re.compile("[\u0e00-\u0eff\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
"""Thai, Lao, Khmer, Japanese, Chinese, Korean: what follows on a word there is often a letter."""


@settings
class AugmentationSettings:
    """How far images are changed, each time anew; 0 for not at all.

    shift         up to this share of a side, in both directions; the border is repeated.
    zoom          larger or smaller by up to this share.
    brightness    added or taken away: up to this share of white.
    contrast      more or less of it, by up to this share. Colours stay what they are.
    mirror        half of the images are mirrored, unless a caption has a word of mirror_unless.
    mirror_unless  words that would no longer be true; letter case doesn't matter. Whole ones, but
                   in scripts that don't part words by spaces also within others.
    """

    shift: Part
    zoom: Part
    brightness: Part
    contrast: Part
    mirror: bool
    mirror_unless: list[str]


def augment_images(
    images: np.ndarray, how: AugmentationSettings, random: np.random.Generator
) -> np.ndarray:
    """(B, H, W, 3) uint8 to as many, but not mirrored: see `mirror_images`."""
    count = len(images)
    zoom = np.exp(random.uniform(-1, 1, count) * np.log1p(how.zoom))
    for axis in (1, 2):
        shift = random.uniform(-how.shift, how.shift, count) * images.shape[axis]
        if how.shift or how.zoom:
            images = _resample(images, axis, zoom, shift)
    light = random.uniform(-how.brightness, how.brightness, count) * 255
    contrast = np.exp(random.uniform(-1, 1, count) * np.log1p(how.contrast))
    if how.brightness or how.contrast:
        images = _relight(images, light, contrast)
    return images


def mirror_images(
    images: np.ndarray,
    captions: Sequence[str],
    unless: Sequence[str],
    random: np.random.Generator,
) -> np.ndarray:
    """Half of the images (B, H, W, 3), chosen at random, from right to left.

    captions  all of each image. One with a word of `unless` keeps its image unchanged.
    """
    is_mirrored = random.random(len(images)) < 0.5
    if unless:
        forbidden = re.compile("|".join(map(_pattern_of, unless)), re.IGNORECASE)
        is_mirrored &= np.array([forbidden.search(text) is None for text in captions], bool)
    return np.where(is_mirrored[:, None, None, None], images[:, :, ::-1], images)


def _pattern_of(word: str) -> str:
    """A pattern for it: as a whole word, or within others where no spaces part them."""
    pattern = re.escape(word)
    return pattern if _UNSPACED.search(word) else rf"(?<!\w){pattern}(?!\w)"


# What follows is in small integers, which are several times as fast as floats: 16 bits hold the
# product of a difference of pixels, at most 255, and a share in 128ths, or of a pixel and a
# contrast below 2 in 64ths.


def _resample(images: np.ndarray, axis: int, zoom: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Along one axis, zoomed about the middle and shifted, (B,) each; linear between pixels."""
    side = images.shape[axis]
    middle = (side - 1) / 2
    places = (np.arange(side) - middle) / zoom[:, None] + middle + shift[:, None]
    places = np.rint(np.clip(places, 0, side - 1) * 128).astype(np.int64)
    first, share = places >> 7, (places & 127).astype(np.int16)
    second = np.minimum(first + 1, side - 1)
    # Pixels of a row stand side by side, so that long rows are multiplied together.
    share = share[:, :, None] if axis == 1 else np.repeat(share, 3, axis=1)[:, None]
    near, far = (_take(images, axis, at).reshape(*images.shape[:2], -1) for at in (first, second))
    step = far.astype(np.int16)
    step -= near
    step *= share
    step >>= 7
    step += near
    return step.astype(np.uint8).reshape(images.shape)


def _take(images: np.ndarray, axis: int, places: np.ndarray) -> np.ndarray:
    """Other rows or columns (B, side) of each image."""
    if axis == 1:
        return images[np.arange(len(images))[:, None], places]
    return np.stack([image.take(at, axis=1) for image, at in zip(images, places, strict=True)])


def _relight(images: np.ndarray, light: np.ndarray, contrast: np.ndarray) -> np.ndarray:
    """Contrast (B,) about each image's own mean, and light (B,) added."""
    mean = images[:, ::4, ::4].mean(axis=(1, 2, 3))
    factor = np.rint(contrast * 64)
    offset = np.rint(mean + light - mean * factor / 64)
    values = images.astype(np.int16)
    values *= factor.astype(np.int16)[:, None, None, None]
    values >>= 6
    values += offset.astype(np.int16)[:, None, None, None]
    return np.clip(values, 0, 255).astype(np.uint8)
