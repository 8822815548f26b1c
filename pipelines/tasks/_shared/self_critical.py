"""Self-critical training of a captioning task (Rennie et al. 2017).

From some training step on, the objective is no longer the next word of a reference but CIDEr-D:
captions are sampled from the model, and each becomes more probable by as much as its score exceeds
that of the model's own greedy caption.
"""

from __future__ import annotations

from typing import Any, Protocol

import keras
import numpy as np
import tensorflow as tf

from models.settings import Greedy, Sample
from pipelines.core.contracts import Split
from pipelines.core.task import Objective
from pipelines.core.types import Nest, Tensors
from pipelines.data.codecs.captions import caption_references, caption_rows
from pipelines.data.codecs.text import BEGIN, END, PAD, TextCodec
from pipelines.evaluate.metrics.captioning import CiderReward
from pipelines.evaluate.metrics.translation import BleuTokenizer
from pipelines.graphs.generation import InputFacts, Start, search_ids

LONGER = 5
"""Tokens by which a sampled caption may be longer than the longest reference of its batch."""

LIMITS: dict[str, Any] = {
    "maximum_ratio": 1.0,
    "maximum_extra": LONGER,
    "minimum_length": 1,
    "no_repeat_ngram": None,
    "replace_unknown": False,
}
GREEDY = Greedy(strategy="greedy", **LIMITS)
SAMPLE = Sample(
    strategy="sample", temperature=1.0, top_k=None, top_p=None, seed=0, answers=1, **LIMITS
)


class CaptioningObjective(Objective, Protocol):
    """A task whose vision network may learn from some training step on only."""

    def vision_trainable(self, step: tf.Tensor) -> tf.Tensor | None: ...


CHUNK = 256
"""Images whose captions are read together."""

ROWS = 2**15
"""More than captions in a batch: each caption of a training step has a random seed of its own."""


class SelfCritical:
    """An Objective: the task's own losses until training step `start`, from then on rewards."""

    def __init__(self, task: CaptioningObjective, start: int, text: TextCodec, rewards: Rewards):
        self.task, self.start, self.text, self.rewards = task, start, text, rewards

    def outputs(self, model: keras.Model, inputs: Tensors, step: tf.Tensor) -> Nest:
        """The arguments: which objective they are for depends on the training step."""
        return model, inputs, step

    def losses(self, outputs: Nest, targets: tf.Tensor) -> tf.Tensor:
        """(N, T); the whole loss of a sampled caption stands at its reference's first token."""
        model, inputs, step = outputs

        def usual() -> tf.Tensor:
            return self.task.losses(self.task.outputs(model, inputs, step), targets)

        def critical() -> tf.Tensor:
            costs = self._costs(model, inputs, targets, step)
            rest = tf.zeros([tf.shape(targets)[0], tf.shape(targets)[1] - 1])
            return tf.concat([costs[:, tf.newaxis], rest], 1)

        return tf.cond(step >= self.start, critical, usual)

    def _costs(
        self, model: keras.Model, inputs: Tensors, targets: tf.Tensor, step: tf.Tensor
    ) -> tf.Tensor:
        """(N,) -(reward of the sampled caption - reward of the greedy one) log P(sampled caption).

        Equation 9 of the paper. Without dropout: the captions are those that the model would
        generate after training.
        """
        owner = inputs["owner"]
        encoded = model.encode(
            inputs["image"], training=False, network_trainable=self.task.vision_trainable(step)
        )
        of_caption = tf.nest.map_structure(lambda x: tf.gather(x, owner), encoded)
        count, longest = tf.shape(targets)[0], tf.shape(targets)[1]
        numbers = (step % (2**31 // ROWS)) * ROWS + tf.range(count)
        sampled = self._search(model, of_caption, SAMPLE, longest, numbers)
        greedy = self._search(model, encoded, GREEDY, longest, None)
        advantage = tf.numpy_function(
            self.rewards.advantages,
            [self.text.text(sampled), self.text.text(greedy), targets, owner],
            tf.float32,
            stateful=False,
        )
        memory, state = of_caption
        length = tf.reduce_sum(tf.cast(sampled != PAD, tf.int32), 1)
        ended = tf.pad(sampled, [[0, 0], [0, 1]])
        ended += END * tf.one_hot(length, tf.shape(ended)[1], dtype=tf.int32)
        before = tf.concat([tf.fill([count, 1], BEGIN), ended[:, :-1]], 1)
        readouts = model.decoder(before, before != PAD, state, memory, training=False)
        logits = model.decoder.logits(readouts)
        nats = tf.nn.sparse_softmax_cross_entropy_with_logits(ended, logits)
        real = tf.sequence_mask(length + 1, tf.shape(ended)[1], nats.dtype)
        return tf.reshape(advantage, [count]) * tf.reduce_sum(nats * real, 1)

    def _search(
        self,
        model: keras.Model,
        encoded: Start,
        decode: Greedy | Sample,
        longest: tf.Tensor,
        numbers: tf.Tensor | None,
    ) -> tf.Tensor:
        """Ids (N, T) of one caption for each row, without markers, 0 after the end."""
        start = tf.nest.map_structure(tf.stop_gradient, encoded)
        rows = tf.shape(tf.nest.flatten(start[1])[0])[0]
        facts = InputFacts(tf.fill([rows], longest), numbers)
        return search_ids(model.decoder, start, decode, facts).ids[:, 0]


class Rewards:
    """CIDEr-D of captions against the references of training images."""

    def __init__(self, references: list[list[str]], ids: list[bytes], tokenize: BleuTokenizer):
        """ids: the token ids of each image's references, which identify the image."""
        self.row = {key: row for row, key in enumerate(ids)}
        self.cider = CiderReward(references, tokenize=tokenize)

    def advantages(
        self, sampled: np.ndarray, greedy: np.ndarray, targets: np.ndarray, owner: np.ndarray
    ) -> np.ndarray:
        """(N,) float32: rewards of sampled captions (N,) minus that of their image's greedy one.

        greedy (B,) texts; targets (N, T) ids and owner (N,) of the references.
        """
        rows = np.array([self.row[key] for key in identify_references(targets, owner)])
        baseline = self.cider.scores(list(greedy), rows)
        return (self.cider.scores(list(sampled), rows[owner]) - baseline[owner]).astype(np.float32)


def identify_references(targets: np.ndarray, owner: np.ndarray) -> list[bytes]:
    """For each image the ids of its references (N, T), as bytes; owner (N,) rises."""
    parts: list[list[bytes]] = [[] for _ in range(int(owner[-1]) + 1)]
    for ids, image in zip(targets.astype(np.int32), owner, strict=True):
        parts[image].append(ids[ids != PAD].tobytes())
    return [b"".join(part) for part in parts]


def build_rewards(train: Split, field: str, column: str, tokenize: BleuTokenizer) -> Rewards:
    """From all captions of the training images: the field of ids, and the column of text."""
    known: list[bytes] = []
    for start in range(0, len(train), CHUNK):
        rows = np.arange(start, min(start + CHUNK, len(train)))
        ids, owner = caption_rows(train.gather(rows)[field])
        known += identify_references(ids[:, 1:], owner)
    return Rewards(caption_references(train, column), known, tokenize)
