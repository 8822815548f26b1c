"""Naive captioners."""

import numpy as np
import pytest

from pipelines.evaluate.baselines import captioning as picture_baselines
from pipelines.evaluate.baselines.captioning import caption_baselines, nearest_pictures


class Pictures:
    """A split of pictures (N, ...) and captions, one a line."""

    def __init__(self, pictures, captions):
        self.pictures, self.captions = pictures, captions

    def __len__(self):
        return len(self.pictures)

    def gather(self, rows):
        return {"image": self.pictures[rows]}

    def raw(self, column):
        assert column == "captions"
        yield self.captions[:2]
        yield self.captions[2:]


def noise(count, seed=0, size=24):
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3)).astype(np.uint8)


def nearest(known, asked):
    rows = np.arange(len(known))
    return nearest_pictures(
        known.__getitem__, rows, asked.__getitem__, np.arange(len(asked))
    ).tolist()


def test_the_most_frequent_caption_and_the_nearest_picture_s_first_one():
    pictures = noise(3)
    train = Pictures(pictures, ["a cat\na  dog", "\nred bird\na dog", "猫"])
    blurred = np.clip(pictures[[2, 0, 1]].astype(int) + 9, 0, 255).astype(np.uint8)
    found = caption_baselines(train, Pictures(blurred, []), image="image", captions="captions")
    assert {name: one["caption"].tolist() for name, one in found.items()} == {
        "most frequent training caption": ["a dog"] * 3,
        "nearest training picture": ["猫", "a cat", "red bird"],
    }


def test_of_many_pictures_some_are_looked_at(monkeypatch):
    monkeypatch.setattr(picture_baselines, "PICTURES", 3)
    train = Pictures(noise(5), [f"caption {row}" for row in range(5)])
    found = caption_baselines(train, train, image="image", captions="captions")
    answers = found["nearest of 3 training pictures"]["caption"]
    assert answers[[0, 2, 4]].tolist() == ["caption 0", "caption 2", "caption 4"]
    assert set(answers) == {"caption 0", "caption 2", "caption 4"}


@pytest.mark.parametrize("size", [1, 7, 16, 50])
def test_pictures_of_any_size_are_their_own_nearest(size, monkeypatch):
    monkeypatch.setattr(picture_baselines, "BLOCK", 4)
    pictures = noise(9, size=size)
    assert nearest(pictures, pictures) == list(range(9))


def test_means_are_of_the_pixels():
    """48 pixels to 16 cells: means of 3 by 3, as a loop takes them."""
    picture = noise(1, size=48)
    by_hand = picture.reshape(16, 3, 16, 3, 3).mean((1, 3)).ravel() / 255
    assert picture_baselines._compared(picture)[0] == pytest.approx(by_hand, abs=1e-5)


def test_features_are_compared_by_direction():
    """Means over the grid (2, 2): twice as long is as near; channels are what differs."""
    ways = np.eye(3, dtype=np.float16)[:, None, None, :] * np.ones((1, 2, 2, 1), np.float16)
    assert nearest(ways, (2 * ways[[2, 0, 1]] + np.float16(0.1)).astype(np.float16)) == [2, 0, 1]
