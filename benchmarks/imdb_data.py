"""The embedded IMDB reviews as `imdb_peers.py` gives them to every system, and a race on them."""

from __future__ import annotations

from typing import Any

import numpy as np
from texts import Texts, turn_of

from pipelines.core.task import Trained
from pipelines.evaluate.evaluation import predict_split

TOKENS = 200
SAME = [f"task.text.max_tokens={TOKENS}", "task.text.truncate=tail"]
"""What the recipe keeps of a review, for all systems."""


class Reviews(Texts):
    """The project's own preparation of the reviews; `limit` for a part of them only."""

    def __init__(self, limit: int | None = None):
        super().__init__([*SAME, f"prepare.limit={limit or 'null'}"])

    def left_padded(self, *splits: Any) -> tuple[np.ndarray, np.ndarray]:
        """The splits as the recipe reads them: tokens (N, 200) with 0 on the left, labels (N,)."""
        parts = []
        for split in splits:
            columns = split.gather(np.arange(len(split)))
            missing = TOKENS - columns["tokens_length"][:, None]
            tokens = np.pad(columns["tokens"], [(0, 0), (0, TOKENS - columns["tokens"].shape[1])])
            index = np.arange(TOKENS) - missing
            parts.append(np.where(index < 0, 0, np.take_along_axis(tokens, index.clip(0), axis=1)))
        return np.concatenate(parts), np.concatenate([split.column("label") for split in splits])


class Racer:
    """Our default model through all of its epochs: clock and accuracy every `every` updates."""

    def __init__(self, reviews: Reviews, every: int):
        from pipelines.graphs.prediction import Predictor

        self.reviews, self.config, self.every = reviews, reviews.config, every
        plans = [reviews.plan(epoch) for epoch in range(self.config.train.epochs)]
        self.learner = reviews.learner(self.config, sum(map(len, plans)))
        model, config = self.learner.model, self.config
        self.predict = Predictor(Trained(config.task, model, reviews.codec, config.decode))
        self.parts = [
            turn_of(order, number, every)
            for order in plans
            for number in range(-(-len(order) // every))
        ]
        self.step = 0

    def turn(self, number: int) -> None:
        with self.reviews.batches(self.parts[number], self.reviews.ours) as batches:
            for batch in batches:
                self.learner.train_step([batch], self.step)
                self.learner.mean_loss()
                self.step += 1

    def accuracy(self) -> float:
        """On the reviews held out, with the averaged weights, as the project validates."""
        from pipelines.train.learner import ema_weights

        right, tokens = 0, self.config.evaluate.batch_tokens
        with ema_weights(self.learner):
            for split in self.reviews.held_out:
                outputs = predict_split(self.predict, split, tokens=tokens).outputs
                right += int(np.sum(outputs["probabilities"].argmax(1) == split.column("label")))
        return right / sum(map(len, self.reviews.held_out))
