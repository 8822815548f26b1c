"""Texts as benchmarks give them to every system, and classifiers that take turns on them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

import numpy as np
from measuring import Call, configure, load_data, on_best_threads
from peer_models import TorchLearner, torch_batch

from models.seeds import stream
from pipelines.data.batches import Plan, assemble, costs_of, plan

if TYPE_CHECKING:
    from pipelines.train.lazy_adam import LazySettings


class Texts:
    """What the project's own preparation makes of a configuration, and batches of it."""

    def __init__(self, overrides: Sequence[str]):
        self.overrides = list(overrides)
        self.config = configure(self.overrides)
        data = load_data(self.config)
        self.codec, self.sizes = data.codec, data.codec.spec.sizes
        self.train = data.splits["train"]
        self.held_out = [data.splits["validation"], data.splits["test"]]
        self.lengths = costs_of(self.config.task, self.codec, self.train)

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

    def learner(self, config: Any, total: int, lazy: LazySettings | None = None) -> Any:
        """Our classifier of a configuration, before its first update."""
        from pipelines.train.lazy_adam import LazySettings
        from pipelines.train.learner import Learner

        model = config.task.build(config.model, self.codec, stream(config.seed, "weights"))
        return Learner(
            config.task,
            model,
            self.codec,
            config.train,
            total,
            lazy_settings=lazy or LazySettings(),
        )


def turn_of(order: Plan, number: int, size: int) -> Plan:
    return Plan(order.order, order.bounds[number * size : (number + 1) * size])


def our_turns(texts: Texts, cell: str, order: Plan, size: int) -> Call:
    """Our classifier: the plan's steps of a turn, `size` of them."""
    learner = texts.learner(configure([*texts.overrides, f"model={cell}"]), 10**6)

    def turn(number: int) -> None:
        with texts.batches(turn_of(order, number, size), texts.ours) as batches:
            for batch in batches:
                learner.train_step([batch], 0)
                learner.mean_loss()

    turn(0)
    return turn


def torch_turns(texts: Texts, cell: str, order: Plan, size: int, *, packed: bool) -> Call:
    """PyTorch's: the same steps."""
    config, sizes = configure([*texts.overrides, f"model={cell}"]), texts.sizes
    learner = TorchLearner(config, sizes["tokens"], sizes["label"], packed=packed)

    def turn(number: int) -> None:
        with texts.batches(turn_of(order, number, size), torch_batch) as batches:
            learner.train(batches)

    with texts.batches(turn_of(order, 0, 2), torch_batch) as batches:
        two = list(batches)
    return on_best_threads(turn, trial=lambda: learner.train(two))
