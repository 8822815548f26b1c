"""Augmentation: images change a little, and their captions stay true."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipelines.data.augmentation import AugmentationSettings, augment_images, mirror_images

NONE = AugmentationSettings(
    shift=0.0, zoom=0.0, brightness=0.0, contrast=0.0, mirror=False, mirror_unless=[]
)
ALL = replace(NONE, shift=0.1, zoom=0.1, brightness=0.05, contrast=0.1)


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (6, 16, 16, 3)).astype(np.uint8)


def test_without_settings_images_stay_as_they_are(images: np.ndarray) -> None:
    np.testing.assert_array_equal(augment_images(images, NONE, np.random.default_rng(1)), images)


@pytest.mark.parametrize("name", ["shift", "zoom", "brightness", "contrast"])
def test_each_setting_changes_images_by_the_generator_alone(name: str, images: np.ndarray) -> None:
    how, given = replace(NONE, **{name: 0.2}), images.copy()
    made = augment_images(images, how, np.random.default_rng(1))
    assert made.dtype == np.uint8
    assert made.shape == images.shape
    assert (made != images).any()
    np.testing.assert_array_equal(images, given)
    np.testing.assert_array_equal(made, augment_images(images, how, np.random.default_rng(1)))
    assert (made != augment_images(images, how, np.random.default_rng(2))).any()


@pytest.mark.parametrize("shade", [0, 120, 255])
def test_an_even_image_moves_to_itself(shade: int) -> None:
    even = np.full((3, 9, 7, 3), shade, np.uint8)
    how = replace(NONE, shift=0.3, zoom=0.3, contrast=0.3)
    np.testing.assert_allclose(augment_images(even, how, np.random.default_rng(1)), even, atol=1)


def test_black_and_white_stay_in_range() -> None:
    """What is brighter than white is white, not dark."""
    halves = np.zeros((50, 8, 8, 3), np.uint8)
    halves[:, :4] = 255
    how = replace(NONE, brightness=0.3, contrast=0.9)
    made = augment_images(halves, how, np.random.default_rng(1))
    assert (made[:, :4] > made[:, 4:]).all()


def test_colours_stay_what_they_are(images: np.ndarray) -> None:
    """The same is added to red, green and blue: differences only scale."""
    how = replace(NONE, brightness=0.1, contrast=0.1)
    grey = np.repeat(images[..., :1], 3, axis=-1)
    made = augment_images(grey, how, np.random.default_rng(1))
    np.testing.assert_array_equal(made[..., 0], made[..., 1])
    np.testing.assert_array_equal(made[..., 0], made[..., 2])


def test_shifts_are_in_both_directions_and_at_most_as_far_as_said() -> None:
    dot = np.zeros((200, 20, 20, 3), np.uint8)
    dot[:, 10, 10] = 255
    made = augment_images(dot, replace(NONE, shift=0.1), np.random.default_rng(1)).astype(float)[
        ..., 0
    ]
    weight = made.sum(axis=(1, 2))
    rows = (made.sum(2) * np.arange(20)).sum(1) / weight - 10
    columns = (made.sum(1) * np.arange(20)).sum(1) / weight - 10
    for moved in (rows, columns):
        assert moved.min() < -1
        assert moved.max() > 1
        assert np.abs(moved).max() < 2.1


def test_words_that_no_spaces_part_are_found_within_captions(images: np.ndarray) -> None:
    captions = ["左を向いた猫", "猫", "向右走的狗", "狗", "왼쪽으로 가는 개", "개"]
    times = np.zeros(6, int)
    random = np.random.default_rng(3)
    for _ in range(100):
        made = mirror_images(images, captions, ["左", "右", "왼쪽"], random)
        times += (made == images[:, :, ::-1]).all(axis=(1, 2, 3))
    assert (times[[0, 2, 4]] == 0).all()
    assert (times[[1, 3, 5]] > 30).all()


def test_images_whose_caption_says_left_or_right_are_never_mirrored(images: np.ndarray) -> None:
    captions = ["arrow to the Left", "a cat", "left-hand side", "leftover", "right", "bright"]
    times = np.zeros(6, int)
    random = np.random.default_rng(3)
    for _ in range(100):
        made = mirror_images(images, captions, ["left", "right"], random)
        back = (made == images[:, :, ::-1]).all(axis=(1, 2, 3))
        np.testing.assert_array_equal(made[~back], images[~back])
        times += back
    assert (times[[0, 2, 4]] == 0).all()
    assert ((times[[1, 3, 5]] > 30) & (times[[1, 3, 5]] < 70)).all()
