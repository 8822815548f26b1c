"""Emoji in 14 languages: what they are called, and what is held out."""

from __future__ import annotations

import pytest
from caption_files import read_settings
from source_errors import error_of

from pipelines.config.schema import _build
from pipelines.core.contracts import RowIssues
from pipelines.data.sources.emoji import Emoji, base_emoji, split_words


def emoji(**changes) -> Emoji:
    return _build(Emoji, {**read_settings("emoji"), **changes}, "data")


def captions_of(source: Emoji) -> dict[str, dict[str, str]]:
    """By part: captions by image."""
    issues = RowIssues()
    found = {
        part: {row["image"].name: row["captions"] for row in source.read(part, issues)}
        for part in source.parts()
    }
    assert not issues.count
    return found


def test_there_are_3953_emoji_with_names_in_14_languages() -> None:
    assert len(emoji().names.sha256) == 14
    for language in emoji().names.sha256:
        source = emoji(language=language, split="image")
        source.check()
        (captions,) = captions_of(source).values()
        assert len(captions) == len(set(captions.values())) == 3953
        assert not any(":" in text or "_" in text for text in captions.values())


def test_names_are_as_people_write_them() -> None:
    assert captions_of(emoji(split="image"))["all"]["1f44b-1f3fd.png"] == (
        "waving hand medium skin tone"
    )
    german = captions_of(emoji(language="de", split="image"))["all"]
    assert german["1f44b-1f3fd.png"] == "winkende hand mittlere hautfarbe"


@pytest.mark.parametrize("language", ["en", "de", "ja", "zh", "ar"])
def test_what_is_held_out_by_composition_is_made_of_what_training_shows(language: str) -> None:
    parts = captions_of(emoji(language=language))
    assert {part: len(rows) for part, rows in parts.items()} == {
        "train": 3163,
        "validation": 316,
        "test": 474,
    }
    known = set().union(*map(split_words, parts["train"].values()))
    bases = {_base(file) for file in parts["train"]}
    for part in ("validation", "test"):
        assert all(split_words(caption) <= known for caption in parts[part].values())
        assert all(_base(file) in bases for file in parts[part])


def _base(file: str) -> str:
    return base_emoji("".join(chr(int(part, 16)) for part in file.removesuffix(".png").split("-")))


def test_no_image_and_no_caption_is_in_two_splits() -> None:
    issues, seen = RowIssues(), set()
    for part in ("train", "validation", "test"):
        here = {value for row in emoji().read(part, issues) for value in row.values()}
        assert not here & seen
        seen |= here


def test_the_same_images_are_held_out_each_time() -> None:
    assert captions_of(emoji()) == captions_of(emoji())
    assert emoji().fingerprint() == emoji().fingerprint()
    assert emoji().fingerprint() != emoji(split="image").fingerprint()
    assert emoji().fingerprint() != emoji(language="de").fingerprint()


def test_variations_of_an_emoji_have_the_same_base() -> None:
    assert base_emoji("👋🏽") == base_emoji("👋")
    assert base_emoji("👩🏽‍🚒") == base_emoji("👨‍🚒") == base_emoji("🧑🏿‍🚒")
    assert base_emoji("🏃🏽‍♀️‍➡️") == base_emoji("🏃")
    assert base_emoji("👋") != base_emoji("👍")


def test_an_unknown_language_is_reported_with_those_there_are() -> None:
    assert "choices: ar, de, en" in error_of(emoji(language="xx"))


def test_other_images_in_the_package_are_reported() -> None:
    changed = {**read_settings("emoji")["images"], "sha256": "0" * 64}
    assert "holds other files" in error_of(emoji(images=changed))
