"""What the report shows of captions and their images."""

import re

import numpy as np
import pytest
import tensorflow as tf

from pipelines.core.sections import Figure, Table
from pipelines.data.codecs.images import ImageCodec, ImageSettings
from pipelines.evaluate.sections import captioning as module
from pipelines.evaluate.sections.captioning import (
    AttendedImage,
    dim_unattended,
    downscale,
    image_attention_figures,
    image_reader,
    image_sections,
)
from pipelines.report.plots import svgs, wrap

RIGHT = [["a red cat", "the cat"], ["a blue dog"], ["two birds in a tree"], ["猫が寝ている"]]
SAID = ["a red cat", "a blue cat", "", "犬"]


def look(rows):
    shades = np.asarray(rows, np.uint8)[:, None, None, None]
    return np.broadcast_to(shades, (len(rows), 6, 9, 3))


def drawn(sections):
    return {one.title: svgs(one, "x")[0] for one in sections if isinstance(one, Figure)}


def texts(drawing):
    return re.findall(r"<text[^>]*>([^<]*)</text>", drawing)


@pytest.fixture(scope="module")
def sections():
    return image_sections(SAID, RIGHT, look)


def test_sections_and_their_order(sections):
    assert [one.title for one in sections] == [
        "Images and captions",
        "Best captions",
        "Worst captions",
        "Most frequent captions",
        "Typical mistakes",
        "Length of captions",
    ]


def test_right_and_wrong_are_distinguished_without_colour(sections):
    wall = drawn(sections)["Images and captions"]
    lines = texts(wall)
    assert lines[0] == "✓ a red cat"
    assert "the cat" not in lines  # another reference is not shown next to the right one
    assert lines[1:3] == ["✗ a blue cat", "a blue dog"]
    assert "✗ (nothing)" in lines
    assert lines[-2:] == ["✗ 犬", "猫が寝ている"]
    assert wall.count("<image") == 4
    assert wall.count("stroke-dasharray") == 3


def test_best_and_worst_are_by_cider_without_the_empty_ones(sections):
    found = {name: texts(drawing) for name, drawing in drawn(sections).items()}
    marked = [line for line in found["Best captions"] if line[0] in "✓✗"]
    assert marked == ["✓ a red cat", "✗ a blue cat", "✗ 犬"]
    assert [line for line in found["Worst captions"] if line[0] in "✓✗"] == marked[::-1]
    assert "0.000" in found["Worst captions"]


def test_where_all_captions_score_alike_none_is_the_best_or_the_worst():
    titles = [one.title for one in image_sections(["x", "y"], [["a"], ["b"]], look)]
    assert "Images and captions" in titles
    assert not {"Best captions", "Worst captions"} & set(titles)


def test_all_empty_and_single_captions_are_drawn():
    assert drawn(image_sections(["", ""], [["a"], ["b"]], look))
    assert drawn(image_sections(["a"], [["a"]], look))


def test_frequent_captions_show_that_a_model_says_the_same():
    said = ["a man"] * 3 + ["a dog"]
    sections = image_sections(said, [["a man"], ["a cat"], ["a man", "x"], ["y"]], look)
    (table,) = [one for one in sections if isinstance(one, Table) and "frequent" in one.title]
    assert table.rows[0] == ("a man", "3", "75.0 %", "2")
    assert table.caption == "2 different captions of 4 images."


def test_attention_has_an_image_a_token_and_long_captions_are_cut(monkeypatch):
    monkeypatch.setattr(module, "MAX_WORDS", 3)
    image, even = look([200])[0], np.full((5, 6), 1 / 6)
    figures = image_attention_figures(
        [
            AttendedImage(image, ["▁a", "▁猫", "", ""], even),
            AttendedImage(image, ["", ""], even),
            AttendedImage(image, [b"a", b"b", b"c", b"d"], even),
        ],
        (2, 3),
    )
    assert [one.title for one in figures] == ["Attention 1", "Attention 2"]
    first, second = (svgs(one, "x")[0] for one in figures)
    assert texts(first) == ["a", "猫"]
    assert first.count("<image") == 3
    assert second.count("<image") == 4
    assert figures[1].caption == "The first 3 of 4 tokens."


def test_an_image_is_bright_where_it_is_looked_at():
    """A grid of 1 x 2, all on the left: full there, dimmest at the right, halfway in between."""
    found = dim_unattended(np.full((2, 8, 3), 200, np.uint8), np.array([[0.8, 0.0]]))
    assert found[0, 0, 0] == found[1, 1, 0] == 200
    assert found[0, 7, 0] == round(200 * module.MIN_BRIGHTNESS)
    assert np.all(np.diff(found[0, :, 0].astype(int)) <= 0)
    even = np.full((4, 4, 3), 90, np.uint8)
    assert np.all(dim_unattended(even, np.full((3, 3), 1 / 9)) == 90)


def test_images_are_read_as_they_came():
    class Split:
        def examples(self, rows):
            pixels = [np.full((3, 2, 3), 40 * row, np.uint8) for row in rows]
            return [{"image": tf.io.encode_png(one).numpy()} for one in pixels]

    codec = ImageCodec("image", ImageSettings(size=4, fit="stretch"))
    found = image_reader(Split(), codec)(np.array([5, 0, 2]))
    assert found.shape == (3, 4, 4, 3)
    assert found[:, 0, 0, 0].tolist() == [200, 0, 80]


@pytest.mark.parametrize("shape", [(1, 1), (5, 9), (128, 128), (300, 129), (2, 1000), (257, 300)])
def test_large_images_are_scaled_down(shape):
    found = downscale(np.full((*shape, 3), 77, np.uint8))
    assert max(found.shape[:2]) <= module.MAX_SIDE
    assert np.all(found == 77)


def test_scaling_takes_means():
    image = np.arange(4 * 4 * 3, dtype=np.uint8).reshape(4, 4, 3)
    assert downscale(image, 2)[0, 0, 0] == round(np.mean([0, 3, 12, 15]))


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("", [""]),
        ("a b", ["a b"]),
        ("one two three four", ["one two", "three", "four"]),
        ("one two three four five six", ["one two", "three", "four fi…"]),
        ("abcdefghijkl", ["abcdefgh", "ijkl"]),
        ("猫猫猫猫猫猫", ["猫猫猫猫", "猫猫"]),
        ("  a \n b ", ["a b"]),
    ],
)
def test_lines_break_at_spaces_or_within_long_words(text, lines):
    assert wrap(text, 8, 3) == lines
