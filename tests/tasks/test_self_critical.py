"""Self-critical training of captions: rewards, the loss, and when it starts."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from tiny_captioning import PLAIN, TinyCaptioning

from pipelines.evaluate.metrics.captioning import CiderReward
from pipelines.tasks._shared.self_critical import Rewards, SelfCritical, identify_references
from pipelines.train.learner import Learner


def test_self_critical_training_makes_drawn_captions_likelier_by_their_advantage() -> None:
    """The loss is -(r - r greedy) log P; where all captions are as good, nothing is learnt."""

    class Fixed:
        def __init__(self, value: float):
            self.value = value

        def advantages(
            self, drawn: np.ndarray, greedy: np.ndarray, targets: np.ndarray, owner: np.ndarray
        ) -> np.ndarray:
            assert (len(drawn), len(greedy)) == (len(owner), owner[-1] + 1)
            self.drawn = drawn
            return np.full(len(owner), self.value, np.float32)

    tiny = TinyCaptioning(*PLAIN)
    text = tiny.codec.fields["caption_tokens"].text
    found = {}
    for value in (0.0, 1.0, 2.0):
        rewards = Fixed(value)
        task = SelfCritical(tiny.task, 0, text, rewards)
        outputs = task.outputs(tiny.model, tiny.batch.inputs, tf.constant(3))
        losses = task.losses(outputs, tf.constant(tiny.batch.targets))
        assert losses.shape == tiny.batch.targets.shape
        found[value] = losses.numpy().sum(1)
    assert not found[0.0].any()
    np.testing.assert_allclose(found[2.0], 2 * found[1.0], rtol=1e-5)
    # The log-likelihood of what was drawn is what the model says of it as a reference.
    ids = text.encode(tf.constant(rewards.drawn)).to_tensor().numpy()
    before, targets = ids[:, :-1], ids[:, 1:]
    given = {"image": tiny.batch.inputs["image"], "owner": tiny.batch.inputs["owner"]}
    logits = tiny.model({**given, "target": before})
    nats = tf.nn.sparse_softmax_cross_entropy_with_logits(targets, logits) * (targets != 0)
    np.testing.assert_allclose(found[1.0], tf.reduce_sum(nats, 1), rtol=1e-4)


def test_self_critical_training_leaves_a_network_alone_until_it_learns() -> None:
    class Fixed:
        def advantages(self, drawn: np.ndarray, *others: np.ndarray) -> np.ndarray:
            return np.ones(len(drawn), np.float32)

    tiny = TinyCaptioning(*PLAIN, "task.vision.train_from=9")
    task = SelfCritical(tiny.task, 0, tiny.codec.fields["caption_tokens"].text, Fixed())
    network = [one.value for one in tiny.model.vision.network.trainable_variables]
    for step, learns in ((8, False), (9, True)):
        with tf.GradientTape() as tape:
            outputs = task.outputs(tiny.model, tiny.batch.inputs, tf.constant(step))
            loss = tf.reduce_sum(task.losses(outputs, tf.constant(tiny.batch.targets)))
        gradients = tape.gradient(loss, network)
        assert any(one is not None and np.any(one) for one in gradients) == learns


def test_rewards_are_ciders_and_the_greedy_caption_is_the_bar() -> None:
    tiny = TinyCaptioning()
    targets, owner = tiny.batch.targets, tiny.batch.inputs["owner"]
    references = [text.split("\n") for text in tiny.raw["captions"]]
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
    tiny = TinyCaptioning(*PLAIN, "decode=greedy", "train.learning_rate=0.003")
    references = [text.split("\n") for text in tiny.raw["captions"]]
    known = identify_references(tiny.batch.targets, tiny.batch.inputs["owner"])
    rewards = Rewards(references, known, "13a")
    task = SelfCritical(tiny.task, 60, tiny.codec.fields["caption_tokens"].text, rewards)
    learner = Learner(task, tiny.model, tiny.codec, tiny.config.train, 10_000)

    def cider() -> float:
        return rewards.cider.scores(list(tiny.predict()["caption"]), np.arange(8)).mean()

    for step in range(60):
        learner.train_step([tiny.batch], step)
    before = cider()
    for step in range(60, 120):
        learner.train_step([tiny.batch], step)
    assert cider() > before
