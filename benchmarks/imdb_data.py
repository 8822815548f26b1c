"""The embedded IMDB reviews as `imdb_peers.py` gives them to every system, and steps on them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import Any

import numpy as np
from measuring import Call, configured, on_best_threads, prepared
from peer_models import TorchLearner, torch_batch

from models.seeds import stream
from pipelines.batches import Plan, assemble, plan
from pipelines.evaluate import predict_split

TOKENS = 200
SAME = [f"task.text.max_tokens={TOKENS}", "task.text.truncate=tail"]
"""What the recipe keeps of a review, for all systems."""


class Reviews:
    """The project's own preparation and batches of them; `limit` for a part of them only."""

    def __init__(self, limit: int | None = None):
        self.config = configured([*SAME, f"prepare.limit={limit or 'null'}"])
        data = prepared(self.config)
        self.codec, self.sizes = data.codec, data.codec.spec.sizes
        self.train = data.splits["train"]
        self.held_out = [data.splits["validation"], data.splits["test"]]
        self.lengths = self.train.lengths()

    def plan(self, epoch: int) -> Plan:
        settings = self.config.train
        return plan(
            self.lengths,
            tokens=settings.batch_tokens,
            maximum_examples=settings.batch_examples,
            seed=stream(self.config.seed, "order"),
            epoch=epoch,
        )

    def batches(self, order: Plan, make: Callable[[dict[str, np.ndarray]], Any]) -> Any:
        """Made by a thread that is ahead, for our models and for PyTorch's alike."""
        return closing(assemble(self.train, order, make=make))

    def ours(self, columns: dict[str, np.ndarray]) -> Any:
        return self.config.task.batch(columns, self.codec)

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

    def learner(self, config: Any, total: int) -> Any:
        """Our classifier of a configuration, before its first update."""
        from pipelines.optimization import Learner

        model = config.task.build(config.model, self.codec, stream(config.seed, "weights"))
        return Learner(config.task, model, self.codec, config.train, total)


def turn_of(order: Plan, number: int, size: int) -> Plan:
    return Plan(order.order, order.bounds[number * size : (number + 1) * size])


def our_turns(reviews: Reviews, cell: str, order: Plan, size: int) -> Call:
    """Our classifier: the plan's steps of a turn, `size` of them."""
    learner = reviews.learner(configured([*SAME, f"model={cell}"]), 10**6)

    def turn(number: int) -> None:
        with reviews.batches(turn_of(order, number, size), reviews.ours) as batches:
            for batch in batches:
                learner.update([batch], 0)
                learner.mean_loss()

    turn(0)
    return turn


def torch_turns(reviews: Reviews, cell: str, order: Plan, size: int, *, packed: bool) -> Call:
    """PyTorch's: the same steps."""
    config, sizes = configured([*SAME, f"model={cell}"]), reviews.sizes
    learner = TorchLearner(config, sizes["tokens"], sizes["label"], packed=packed)

    def turn(number: int) -> None:
        with reviews.batches(turn_of(order, number, size), torch_batch) as batches:
            learner.train(batches)

    with reviews.batches(turn_of(order, 0, 2), torch_batch) as batches:
        two = list(batches)
    return on_best_threads(turn, trial=lambda: learner.train(two))


class Racer:
    """Our default model through all of its epochs: clock and accuracy every `every` updates."""

    def __init__(self, reviews: Reviews, every: int):
        from pipelines.graphs import Predictor

        self.reviews, self.config, self.every = reviews, reviews.config, every
        plans = [reviews.plan(epoch) for epoch in range(self.config.train.epochs)]
        self.learner = reviews.learner(self.config, sum(map(len, plans)))
        self.predict = Predictor(
            self.config.task, self.learner.model, reviews.codec, self.config.decode
        )
        self.parts = [
            turn_of(order, number, every)
            for order in plans
            for number in range(-(-len(order) // every))
        ]
        self.step = 0

    def turn(self, number: int) -> None:
        with self.reviews.batches(self.parts[number], self.reviews.ours) as batches:
            for batch in batches:
                self.learner.update([batch], self.step)
                self.learner.mean_loss()
                self.step += 1

    def accuracy(self) -> float:
        """On the reviews held out, with the averaged weights, as the project validates."""
        from pipelines.optimization import Averaged

        right, tokens = 0, self.config.evaluate.batch_tokens
        with Averaged(self.learner):
            for split in self.reviews.held_out:
                outputs = predict_split(
                    self.predict, split, self.config.task, self.reviews.codec, tokens=tokens
                ).outputs
                right += int(np.sum(outputs["probabilities"].argmax(1) == split.column("label")))
        return right / sum(map(len, self.reviews.held_out))
