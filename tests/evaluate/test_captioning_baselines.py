"""Naive captioners."""

import numpy as np
import pytest

from pipelines.evaluate.baselines import captioning as image_baselines
from pipelines.evaluate.baselines.captioning import caption_baselines, nearest_images


class Images:
    """A split of images (N, ...) and captions, one a line."""

    def __init__(self, images, captions):
        self.images, self.captions = images, captions

    def __len__(self):
        return len(self.images)

    def gather(self, rows):
        return {"image": self.images[rows]}

    def raw(self, column):
        assert column == "captions"
        yield self.captions[:2]
        yield self.captions[2:]


def noise(count, seed=0, size=24):
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3)).astype(np.uint8)


def nearest(known, asked):
    rows = np.arange(len(known))
    return nearest_images(
        known.__getitem__, rows, asked.__getitem__, np.arange(len(asked))
    ).tolist()


def test_the_most_frequent_caption_and_the_nearest_image_s_first_one():
    images = noise(3)
    train = Images(images, ["a cat\na  dog", "\nred bird\na dog", "猫"])
    blurred = np.clip(images[[2, 0, 1]].astype(int) + 9, 0, 255).astype(np.uint8)
    found = caption_baselines(train, Images(blurred, []), image="image", captions="captions")
    assert {name: one["caption"].tolist() for name, one in found.items()} == {
        "most frequent training caption": ["a dog"] * 3,
        "nearest training image": ["猫", "a cat", "red bird"],
    }


def test_of_many_images_some_are_looked_at(monkeypatch):
    monkeypatch.setattr(image_baselines, "MAX_TRAINING_IMAGES", 3)
    train = Images(noise(5), [f"caption {row}" for row in range(5)])
    found = caption_baselines(train, train, image="image", captions="captions")
    answers = found["nearest of 3 training images"]["caption"]
    assert answers[[0, 2, 4]].tolist() == ["caption 0", "caption 2", "caption 4"]
    assert set(answers) == {"caption 0", "caption 2", "caption 4"}


@pytest.mark.parametrize("size", [1, 7, 16, 50])
def test_images_of_any_size_are_their_own_nearest(size, monkeypatch):
    monkeypatch.setattr(image_baselines, "BLOCK", 4)
    images = noise(9, size=size)
    assert nearest(images, images) == list(range(9))


def test_means_are_of_the_pixels():
    """48 pixels to 16 cells: means of 3 by 3, as a loop takes them."""
    image = noise(1, size=48)
    by_hand = image.reshape(16, 3, 16, 3, 3).mean((1, 3)).ravel() / 255
    assert image_baselines._image_vectors(image)[0] == pytest.approx(by_hand, abs=1e-5)


def test_features_are_compared_by_direction():
    """Means over the grid (2, 2): twice as long is as near; channels are what differs."""
    ways = np.eye(3, dtype=np.float16)[:, None, None, :] * np.ones((1, 2, 2, 1), np.float16)
    assert nearest(ways, (2 * ways[[2, 0, 1]] + np.float16(0.1)).astype(np.float16)) == [2, 0, 1]
