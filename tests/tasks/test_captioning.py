"""Captions of images: batches, losses and what the task refuses, without a run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from score_checks import LIKELIHOODS, ColumnSplit, check_scores
from tiny_captioning import PLAIN, SMALL, TinyCaptioning
from tiny_runs import MODELS
from tiny_task import configure

from pipelines.config.schema import Config, check
from pipelines.core.contracts import Codec
from pipelines.core.errors import UserError
from pipelines.data.codecs.captions import caption_rows


def configure_captioning(*overrides: str) -> Config:
    return configure(*SMALL, *overrides)


def test_scores_are_the_metrics_that_the_task_declares() -> None:
    captions = {"caption": np.array(["a red cat", "a dog"], object)}
    references = ColumnSplit(captions=["a red cat\nthe cat", "two dogs"])
    check_scores("captioning", captions | LIKELIHOODS, references)


# Batches


def test_captions_of_images_become_rows_with_their_owner() -> None:
    tokens = np.array([[2, 5, 3, 2, 6, 7, 3], [2, 8, 9, 3, 0, 0, 0], [2, 3, 2, 4, 3, 0, 0]])
    ids, owner = caption_rows(tokens)
    assert ids.tolist() == [[2, 5, 3, 0], [2, 6, 7, 3], [2, 8, 9, 3], [2, 3, 0, 0], [2, 4, 3, 0]]
    assert owner.tolist() == [0, 0, 1, 2, 2]
    assert owner.dtype == np.int32


def test_targets_follow_what_is_read_and_padding_weighs_nothing() -> None:
    tiny = TinyCaptioning()
    before = tiny.batch.inputs["caption_before"]
    assert tiny.batch.targets.shape == before.shape == (12, 7)
    assert tiny.batch.inputs["owner"].tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 5, 6, 7]
    np.testing.assert_array_equal(before[:, 1:], tiny.batch.targets[:, :-1])
    np.testing.assert_array_equal(tiny.batch.weights, tiny.batch.targets != 0)


# Learning


@pytest.mark.parametrize("model", MODELS)
def test_every_model_learns_eight_images_by_heart(model: str) -> None:
    tiny = TinyCaptioning(f"model={model}", *PLAIN, "train.learning_rate=0.01", "decode=greedy")
    # Two captions of an image are told apart from their second word on.
    assert tiny.learn_by_heart(150) < 0.2
    captions = [text.decode() for text in tiny.predict()["caption"]]
    for caption, references in zip(captions, tiny.raw["captions"], strict=True):
        assert caption in references.split("\n")


@pytest.mark.parametrize("model", ["gru", "bi_lstm"])
def test_a_batch_answers_what_its_members_answer_alone(model: str) -> None:
    tiny = TinyCaptioning(f"model={model}")
    together = tiny.predict()
    for row in (0, 5):
        alone = tiny.predict(tiny.rows(row))
        assert alone["caption"][0] == together["caption"][row]
        for name in ("score", "log_likelihood", "tokens", "tokens_right"):
            np.testing.assert_allclose(alone[name][0], together[name][row], rtol=1e-4)


def test_several_captions_cost_what_the_image_repeated_costs() -> None:
    tiny = TinyCaptioning(*PLAIN)
    both = tiny.losses(tiny.rows(1))
    tokens = tiny.columns["caption_tokens"][1]
    second = np.flatnonzero(tokens == 2)[1]
    single = [tokens[:second], tokens[second:]]
    for one, expected in zip(single, both, strict=True):
        columns = {"image": tiny.columns["image"][1:2], "caption_tokens": one[None]}
        np.testing.assert_allclose(tiny.losses(columns), [expected], rtol=1e-4)


def test_padding_costs_nothing() -> None:
    tiny = TinyCaptioning(*PLAIN)
    rows = tiny.rows(0, 6)
    longer = rows | {"caption_tokens": np.pad(rows["caption_tokens"], [(0, 0), (0, 5)])}
    np.testing.assert_allclose(tiny.losses(longer), tiny.losses(rows), rtol=1e-5)


def test_attention_that_misses_places_costs_what_the_paper_says() -> None:
    """λ Σ (1 - Σ α)²: one place got 0.5 + 1, the other 0.5 + 0, so 2 (0.25 + 0.25) = 1."""
    task = configure_captioning("task.attention_regularization=2", *PLAIN).task
    from models.token_decoder import OutputWeights

    attention = tf.constant([[[0.5, 0.5], [1.0, 0.0], [0.3, 0.7]]])
    projection = OutputWeights(tf.zeros([4, 1]), tf.zeros(4))
    targets = tf.constant([[1, 3, 0]])
    losses = task.losses((tf.zeros([1, 3, 1]), projection, attention), targets)
    np.testing.assert_allclose(losses, [[np.log(4) + 1, np.log(4), 0]], rtol=1e-6)


def test_mirroring_keeps_captions_true() -> None:
    """All say left or right, so none is mirrored; without these words in the list, half are."""
    plain = [*PLAIN, "task.augmentation.mirror=true"]
    for words, some in (("[left,right]", False), ("[upside]", True)):
        tiny = TinyCaptioning(*plain, f"task.augmentation.mirror_unless={words}")
        made = tiny.task.augment(tiny.columns, tiny.codec, np.random.default_rng(1))
        assert np.any(made["image"] != tiny.columns["image"]) == some


def test_a_frozen_networks_features_are_made_once_and_need_no_file_afterwards(
    tmp_path: Path,
) -> None:
    from models.vision import Backbone

    file = tmp_path / "some.weights.h5"
    Backbone("MobileNetV3Small", 32, 32).network.save_weights(file)
    frozen = [
        "task.image.size=32", "task.vision.network=MobileNetV3Small", "task.vision.train_from=null",
        f"task.vision.weights={file}",
    ]  # fmt: skip
    tiny = TinyCaptioning(*frozen)
    image = tiny.columns["image"]
    assert image.dtype == np.float16
    assert image.shape == (8, 1, 1, 576)
    assert tiny.predict()["caption"].shape == (8,)
    tiny.codec.save(tmp_path / "codec")
    file.unlink()
    again = Codec(tiny.task.codec()).load(tmp_path / "codec")
    seen = again.encode({"image": tf.constant(tiny.raw["image"])})["image"]
    np.testing.assert_array_equal(seen, image)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["task.vision.train_from=null"], "train_from=0"),
        (["task.vision.weights=imagenet"], "name it"),
        (
            ["task.vision.network=VGG16", "task.vision.train_from=9", "task.image.size=32"],
            "goes with task.vision.weights",
        ),
        (
            ["task.vision.network=VGG16", "task.vision.weights=none.h5", "task.image.size=32"],
            "there is no file none.h5",
        ),
        (
            ["task.vision.network=Xception", "task.image.size=64"],
            "task.image.size must be at least 71",
        ),
        (
            ["task.decoder.attention=none", "task.attention_regularization=1"],
            "needs task.decoder.attention",
        ),
        (["task.embedding.vectors=glove"], "task=sentiment"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_mistake_is_an_error_before_anything_is_read(wrong: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        check(configure_captioning(*wrong))


def test_replacing_unknown_words_is_refused_before_training() -> None:
    config = configure_captioning("decode.replace_unknown=true")
    with pytest.raises(UserError, match=r"decode\.replace_unknown"):
        check(config)
    check(configure_captioning("prepare.limit=50"))
