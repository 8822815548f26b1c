"""Self-critical training of a task that writes captions (Rennie et al. 2017).

From some update on what is learnt is no longer the next word of a reference but CIDEr-D: captions
are drawn from the model, and become likelier by as much as they are better than its own greedy one.
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
"""Tokens by which a drawn caption may be longer than the longest reference of its batch."""

LIMITS: dict[str, Any] = {
    "maximum_ratio": 1.0,
    "maximum_extra": LONGER,
    "minimum_length": 1,
    "no_repeat_ngram": None,
    "replace_unknown": False,
}
GREEDY = Greedy(strategy="greedy", **LIMITS)
DRAWN = Sample(
    strategy="sample", temperature=1.0, top_k=None, top_p=None, seed=0, answers=1, **LIMITS
)


class WritesCaptions(Objective, Protocol):
    """A task whose vision network may learn from some training step on only."""

    def learns(self, step: tf.Tensor) -> tf.Tensor | None: ...


CHUNK = 256
"""Images that are read at a time."""

ROWS = 2**15
"""More than captions in a batch: each of an update draws by a number of its own."""


class SelfCritical:
    """An Objective: the task's own losses until training step `start`, from then on rewards."""

    def __init__(self, task: WritesCaptions, start: int, text: TextCodec, rewards: Rewards):
        self.task, self.start, self.text, self.rewards = task, start, text, rewards

    def outputs(self, model: keras.Model, inputs: Tensors, step: tf.Tensor) -> Nest:
        """What `losses` decides by: which of the two depends on the update."""
        return model, inputs, step

    def losses(self, outputs: Nest, targets: tf.Tensor) -> tf.Tensor:
        """(N, T); of drawn captions all that one costs stands at its reference's first token."""
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
        """(N,) - (reward of a drawn caption - reward of the greedy one) log P(the drawn one).

        Without dropout: what is judged is what the model would say (equation 9 of the paper).
        """
        owner = inputs["owner"]
        seen = model.encode(
            inputs["image"], training=False, network_trainable=self.task.learns(step)
        )
        of_caption = tf.nest.map_structure(lambda x: tf.gather(x, owner), seen)
        count, longest = tf.shape(targets)[0], tf.shape(targets)[1]
        numbers = (step % (2**31 // ROWS)) * ROWS + tf.range(count)
        drawn = self._said(model, of_caption, DRAWN, longest, numbers)
        greedy = self._said(model, seen, GREEDY, longest, None)
        advantage = tf.numpy_function(
            self.rewards.advantages,
            [self.text.text(drawn), self.text.text(greedy), targets, owner],
            tf.float32,
            stateful=False,
        )
        memory, state = of_caption
        length = tf.reduce_sum(tf.cast(drawn != PAD, tf.int32), 1)
        ended = tf.pad(drawn, [[0, 0], [0, 1]])
        ended += END * tf.one_hot(length, tf.shape(ended)[1], dtype=tf.int32)
        before = tf.concat([tf.fill([count, 1], BEGIN), ended[:, :-1]], 1)
        readouts = model.decoder(before, before != PAD, state, memory, training=False)
        logits = model.decoder.logits(readouts)
        nats = tf.nn.sparse_softmax_cross_entropy_with_logits(ended, logits)
        real = tf.sequence_mask(length + 1, tf.shape(ended)[1], nats.dtype)
        return tf.reshape(advantage, [count]) * tf.reduce_sum(nats * real, 1)

    def _said(
        self,
        model: keras.Model,
        seen: Start,
        how: Greedy | Sample,
        longest: tf.Tensor,
        numbers: tf.Tensor | None,
    ) -> tf.Tensor:
        """Ids (N, T) of a caption of each, without markers, 0 after the end."""
        start = tf.nest.map_structure(tf.stop_gradient, seen)
        rows = tf.shape(tf.nest.flatten(start[1])[0])[0]
        facts = InputFacts(tf.fill([rows], longest), numbers)
        return search_ids(model.decoder, start, how, facts).ids[:, 0]


class Rewards:
    """CIDEr-D of captions beside the references of training images."""

    def __init__(self, references: list[list[str]], ids: list[bytes], tokenize: BleuTokenizer):
        """ids: of each image's references together, by which they are known again."""
        self.row = {key: row for row, key in enumerate(ids)}
        self.cider = CiderReward(references, tokenize=tokenize)

    def advantages(
        self, drawn: np.ndarray, greedy: np.ndarray, targets: np.ndarray, owner: np.ndarray
    ) -> np.ndarray:
        """(N,) float32: rewards of drawn captions (N,) less that of their image's greedy one.

        greedy (B,) texts; targets (N, T) ids and owner (N,) of the references.
        """
        rows = np.array([self.row[key] for key in keys(targets, owner)])
        baseline = self.cider.scores(list(greedy), rows)
        return (self.cider.scores(list(drawn), rows[owner]) - baseline[owner]).astype(np.float32)


def keys(targets: np.ndarray, owner: np.ndarray) -> list[bytes]:
    """What tells images' references (N, T) apart, for each image; owner (N,) rises."""
    parts: list[list[bytes]] = [[] for _ in range(int(owner[-1]) + 1)]
    for ids, image in zip(targets.astype(np.int32), owner, strict=True):
        parts[image].append(ids[ids != PAD].tobytes())
    return [b"".join(part) for part in parts]


def rewards_of(train: Split, field: str, column: str, tokenize: BleuTokenizer) -> Rewards:
    """From all captions of the training images: the field of ids, and the column of text."""
    known: list[bytes] = []
    for start in range(0, len(train), CHUNK):
        rows = np.arange(start, min(start + CHUNK, len(train)))
        ids, owner = caption_rows(train.gather(rows)[field])
        known += keys(ids[:, 1:], owner)
    return Rewards(caption_references(train, column), known, tokenize)
