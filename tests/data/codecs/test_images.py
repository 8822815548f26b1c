"""Encoded images become the right pixels, whatever their format, and so do their captions ids."""

from __future__ import annotations

import functools
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from pipelines.core.contracts import Codec
from pipelines.core.errors import UserError
from pipelines.data.codecs.captions import CaptionsCodec, caption_lines, split_captions
from pipelines.data.codecs.images import ImageCodec, ImageSettings
from pipelines.data.codecs.text import BEGIN, END, UNKNOWN, TextSettings

RED, BLUE, WHITE, BLACK = (255, 0, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0)


def save_image(image: Image.Image, form: str = "PNG", **options) -> bytes:
    file = BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def pixels(*contents: bytes, size: int = 8, fit: str = "pad") -> np.ndarray:
    codec = ImageCodec("image", ImageSettings(size=size, fit=fit))
    return codec.encode(tf.constant(list(contents))).numpy()


def make_two_coloured(width: int, height: int) -> Image.Image:
    """Left half red, right half blue."""
    image = Image.new("RGB", (width, height), RED)
    image.paste(BLUE, (width // 2, 0, width, height))
    return image


# Shape


def test_a_wide_image_has_white_above_and_below_in_equal_parts() -> None:
    made = pixels(save_image(make_two_coloured(16, 8)))[0]
    assert made.shape == (8, 8, 3)
    assert (made[:2] == WHITE).all()
    assert (made[6:] == WHITE).all()
    assert (made[2:6, :3] == RED).all()
    assert (made[2:6, 5:] == BLUE).all()


def test_a_high_image_has_white_at_its_left_and_right() -> None:
    made = pixels(save_image(make_two_coloured(8, 16)))[0]
    assert (made[:, :2] == WHITE).all()
    assert (made[:, 6:] == WHITE).all()
    assert (made[:, 2] == RED).all()
    assert (made[:, 5] == BLUE).all()


def test_of_an_odd_margin_the_larger_part_comes_last() -> None:
    made = pixels(save_image(Image.new("RGB", (8, 5), RED)))[0]
    assert [row for row in range(8) if (made[row] == WHITE).all()] == [0, 6, 7]


def test_cropping_takes_the_middle_square() -> None:
    image = Image.new("RGB", (24, 8), BLUE)
    image.paste(RED, (8, 0, 16, 8))
    assert (pixels(save_image(image), fit="crop")[0] == RED).all()


def test_stretching_fills_the_square_with_the_whole_image() -> None:
    made = pixels(save_image(make_two_coloured(32, 4)), fit="stretch")[0]
    assert (made[:, :3] == RED).all()
    assert (made[:, 5:] == BLUE).all()


def test_an_image_of_the_right_size_stays_as_it_is() -> None:
    random = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    assert (pixels(save_image(Image.fromarray(random)))[0] == random).all()


def test_one_pixel_fills_the_square() -> None:
    assert (pixels(save_image(Image.new("RGB", (1, 1), RED)))[0] == RED).all()


def test_a_line_of_pixels_is_still_a_line() -> None:
    made = pixels(save_image(Image.new("RGB", (1000, 1), BLACK)))[0]
    assert sum((row == BLACK).all() for row in made) == 1


def test_making_an_image_small_averages_it() -> None:
    # Without antialiasing, stripes of one pixel would become all black or all white.
    stripes = np.zeros((80, 80), np.uint8)
    stripes[:, ::2] = 255
    made = pixels(save_image(Image.fromarray(stripes)))[0]
    assert np.abs(made.astype(int) - 127).max() <= 12


# Transparency


def test_what_is_transparent_is_white() -> None:
    image = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    image.paste((255, 0, 0, 255), (0, 0, 4, 8))
    made = pixels(save_image(image))[0]
    assert (made[:, 4:] == WHITE).all()
    assert (made[:, :4] == RED).all()


@pytest.mark.parametrize("opacity", [0, 1, 77, 128, 254, 255])
def test_opacity_mixes_a_colour_with_white(opacity: int) -> None:
    made = pixels(save_image(Image.new("RGBA", (8, 8), (0, 100, 255, opacity))))[0]
    share = opacity / 255
    expected = [round(255 * (1 - share) + colour * share) for colour in (0, 100, 255)]
    assert (made == expected).all()


def test_a_transparent_colour_of_a_palette_is_white() -> None:
    image = Image.new("P", (8, 8), 0)
    image.putpalette([0, 0, 0, 255, 0, 0])
    image.paste(1, (0, 0, 8, 4))
    made = pixels(save_image(image, transparency=0))[0]
    assert (made[:4] == RED).all()
    assert (made[4:] == WHITE).all()


@pytest.mark.parametrize("colours", [2, 3, 9, 200])
def test_a_palette_of_any_depth_without_transparency_is_opaque(colours: int) -> None:
    image = Image.new("P", (8, 8), 0)
    image.putpalette([part for number in range(colours) for part in (number, 0, 50)])
    image.paste(colours - 1, (0, 4, 8, 8))
    made = pixels(save_image(image))[0]
    assert (made[:4] == (0, 0, 50)).all()
    assert (made[4:] == (colours - 1, 0, 50)).all()


def test_black_and_white_with_one_bit_a_pixel_is_opaque() -> None:
    image = Image.new("1", (8, 8), 0)
    image.paste(1, (0, 0, 4, 8))
    made = pixels(save_image(image))[0]
    assert (made[:, :4] == WHITE).all()
    assert (made[:, 4:] == BLACK).all()


# Formats

MODES = {
    "PNG": ["RGB", "RGBA", "L", "LA", "P"],
    "JPEG": ["RGB", "L", "CMYK"],
    "GIF": ["P", "L"],
    "WEBP": ["RGB", "RGBA"],
    "BMP": ["RGB", "L"],
}


@pytest.mark.parametrize(
    ("form", "mode"), [(form, mode) for form, modes in MODES.items() for mode in modes]
)
def test_every_format_gives_the_colours_that_other_programs_see(form: str, mode: str) -> None:
    image = make_two_coloured(16, 8).convert(mode)
    options = {"quality": 100} if form in ("JPEG", "WEBP") else {}
    made = pixels(save_image(image, form, **options), size=16)[0].astype(int)
    expected = np.asarray(image.convert("RGB"), int)
    # At the border of two colours, JPEG and WebP mix them.
    assert np.abs(made[4:12] - expected)[:, [0, 1, 2, 13, 14, 15]].max() <= 8


def test_of_16_bits_the_upper_8_count() -> None:
    grey = np.full((8, 8), 40000, np.uint16)
    assert (pixels(save_image(Image.fromarray(grey)))[0] == 40000 >> 8).all()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("order", ["<", ">"])
def test_a_photo_is_turned_as_the_camera_was_held(orientation: int, order: str) -> None:
    exif = Image.Exif()
    exif.endian = order
    exif[0x010F] = "a camera"
    exif[0x0112] = orientation
    quarters = Image.new("RGB", (16, 16), RED)
    quarters.paste(BLUE, (8, 0, 16, 8))
    quarters.paste(BLACK, (0, 8, 8, 16))
    content = save_image(quarters, "JPEG", quality=100, exif=exif.tobytes())
    expected = np.asarray(ImageOps.exif_transpose(Image.open(BytesIO(content))), int)
    assert np.abs(pixels(content, size=16)[0] - expected).max() <= 2


def test_of_an_animated_gif_the_first_frame_counts() -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in (RED, BLUE)]
    animation = save_image(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert (pixels(animation)[0] == RED).all()


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_an_animated_webp_is_refused_before_tensorflow_writes_beyond_its_memory(mode: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour).convert(mode) for colour in (RED, BLUE)]
    animation = save_image(frames[0], "WEBP", save_all=True, append_images=frames[1:])
    with pytest.raises(tf.errors.InvalidArgumentError, match="animated WebP"):
        pixels(animation)


@pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG", b"GIF8", b"RIFF", b"BM"])
def test_what_is_no_image_is_an_error_and_not_the_end_of_the_process(content: bytes) -> None:
    with pytest.raises(tf.errors.InvalidArgumentError):
        pixels(content)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "WEBP", "BMP"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_a_truncated_image_is_an_error_and_not_the_end_of_the_process(
    form: str, share: float
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    content = save_image(Image.fromarray(noise), form)
    with pytest.raises(tf.errors.OpError):
        pixels(content[: int(len(content) * share)])


# Everywhere the same


def test_a_batch_is_what_its_images_are_alone() -> None:
    contents = [
        save_image(make_two_coloured(w, h)) for w, h in [(3, 9), (40, 7), (8, 8), (100, 99)]
    ]
    together = pixels(*contents)
    assert all((pixels(one)[0] == made).all() for one, made in zip(contents, together, strict=True))


def test_a_saved_model_gives_the_bits_that_prepare_gives(tmp_path: Path) -> None:
    codec = ImageCodec("image", ImageSettings(size=8, fit="pad"))
    noise = np.random.default_rng(0).integers(0, 256, (3, 31, 17, 4), np.uint8)
    contents = [save_image(Image.fromarray(one)) for one in noise]
    contents += [save_image(Image.fromarray(one[..., :3]), "JPEG") for one in noise]
    values = tf.constant(contents)
    signature = [tf.TensorSpec([None], tf.string)]
    module = tf.Module()
    module.encode = tf.function(codec.encode, input_signature=signature)
    tf.saved_model.save(module, str(tmp_path / "saved"))
    there = tf.saved_model.load(str(tmp_path / "saved")).encode(values).numpy()
    assert (there == module.encode(values).numpy()).all()


def test_a_decoded_image_encodes_to_itself() -> None:
    codec = ImageCodec("image", ImageSettings(size=8, fit="pad"))
    random = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    assert (pixels(codec.decode(random))[0] == random).all()


def test_the_codec_of_other_settings_is_refused(tmp_path: Path) -> None:
    def codec(size: int) -> Codec:
        return Codec({"image": ImageCodec("image", ImageSettings(size=size, fit="pad"))})

    codec(8).save(tmp_path / "codec")
    codec(8).load(tmp_path / "codec")
    with pytest.raises(UserError, match="size"):
        codec(9).load(tmp_path / "codec")


# Captions

TEXT = TextSettings(
    tokens="word",
    vocabulary_size=100,
    minimum_count=1,
    lowercase=False,
    strip_markup=False,
    punctuation="keep",
    max_tokens=10,
    truncate="head",
    model_type="unigram",
)
LINES = ["a dog runs", "a cat", "the dog sleeps"]


@functools.cache
def fit_captions_codec() -> CaptionsCodec:
    codec = CaptionsCodec("captions", TEXT)
    codec.fit([["\n".join(LINES), "a cat"]])
    return codec


def test_captions_are_one_sequence_each_within_its_markers() -> None:
    codec = fit_captions_codec()
    (ids,) = codec.encode(tf.constant(["\n".join(LINES)])).to_list()
    alone = [codec.text.encode(tf.constant([line])).to_list()[0] for line in LINES]
    assert ids == [number for one in alone for number in one]
    assert [one.tolist() for one in split_captions(np.asarray([*ids, 0, 0]))] == alone
    assert codec.decode(np.asarray(ids)) == "\n".join(LINES)


def test_blank_lines_are_no_captions() -> None:
    codec = fit_captions_codec()
    made = codec.encode(tf.constant(["\na cat\n \n", "a cat"])).to_list()
    assert made[0] == made[1]


def test_no_caption_at_all_is_an_unknown_token() -> None:
    assert fit_captions_codec().encode(tf.constant([""])).to_list() == [[BEGIN, UNKNOWN, END]]


def test_captions_settings_are_those_of_one_caption() -> None:
    # Ten tokens each, not of all captions together.
    codec = fit_captions_codec()
    (ids,) = codec.encode(tf.constant(["a " * 30 + "\n" + "a cat"])).to_list()
    assert [len(one) - 2 for one in split_captions(np.asarray(ids))] == [10, 2]


def test_what_was_learnt_is_restored() -> None:
    codec, other = fit_captions_codec(), CaptionsCodec("captions", TEXT)
    other.restore(codec.state())
    captions = tf.constant(["a dog runs\nthe cat"])
    assert other.encode(captions).to_list() == codec.encode(captions).to_list()
    assert other.size == codec.size == 4 + len({"a", "dog", "runs", "cat", "the", "sleeps"})


@given(st.lists(st.text(max_size=20), min_size=1, max_size=5))
@settings(max_examples=50, deadline=None)
def test_there_are_as_many_captions_as_lines_with_text(lines: list[str]) -> None:
    text = "\n".join(line.replace("\n", " ").replace("\r", " ") for line in lines)
    (ids,) = fit_captions_codec().encode(tf.constant([text])).to_list()
    assert len(split_captions(np.asarray(ids))) == max(1, len(caption_lines(text)))
