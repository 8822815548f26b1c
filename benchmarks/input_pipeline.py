"""What the input pipeline costs a training epoch, and how much of the batches is padding.

    python benchmarks/input_pipeline.py            100 batches a round, about three minutes
    python benchmarks/input_pipeline.py --full     whole epochs

The same updates of the same model are made from batches that come as in training (a plan, then
batches assembled by a thread that is ahead) and from the same batches held in memory as tensors, in
turns. Ratio: seconds with the pipeline, planning included, by seconds without; target: at most
1.05. Planning and waiting for batches are shares of the seconds with the pipeline. Padding:
positions of an epoch's batches that are padding; target: below 5%.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterable
from contextlib import closing
from typing import Any

import numpy as np
from measuring import configure, in_turns, load_data, machine, progress, ratio, table

from models.seeds import stream
from pipelines.data.batches import Plan, assemble, costs_of, padding_share, plan
from pipelines.distributed.tensorflow import import_tensorflow

EPOCHS = 3
"""Plans whose padding and time are averaged."""


class Epoch:
    """The first `batches` batches of an epoch: trained on as they come, or as they were kept."""

    def __init__(self, overrides: list[str], batches: int | None):
        import tensorflow as tf

        from pipelines.train.learner import Learner

        config = configure(overrides)
        self.task, self.settings = config.task, config.train
        data = load_data(config)
        self.codec, self.split = data.codec, data.splits["train"]
        self.lengths = costs_of(config.task, self.codec, self.split)
        self.seed = stream(config.seed, "order")
        whole = self.plan(0)
        self.part = Plan(whole.order, whole.bounds[:batches])
        self.share = len(self.part) / len(whole)
        with closing(self.assembled()) as made:
            self.kept = [tf.nest.map_structure(tf.constant, batch) for batch in made]
        model = self.task.build(config.model, self.codec, seed=1)
        self.learner = Learner(self.task, model, self.codec, self.settings, total_steps=10**6)
        self.waiting: list[float] = []
        self.train(self.kept[:3])

    def plan(self, epoch: int) -> Plan:
        return plan(
            self.lengths,
            tokens=self.settings.batch_tokens,
            maximum_examples=self.settings.batch_examples,
            seed=self.seed,
            epoch=epoch,
        )

    def assembled(self) -> Any:
        random = np.random.default_rng(0)

        def make(columns: dict[str, np.ndarray]) -> Any:
            return self.task.batch(self.task.augment(columns, self.codec, random), self.codec)

        return assemble(self.split, self.part, make=make)

    def piped(self, _: int) -> None:
        with closing(self.assembled()) as batches:
            self.waiting.append(self.train(batches))

    def in_memory(self, _: int) -> None:
        self.train(self.kept)

    def train(self, batches: Iterable[Any]) -> float:
        """An update a batch, each waited for as in training; seconds spent waiting for batches."""
        waited, begun = 0.0, time.perf_counter()
        for batch in batches:
            waited += time.perf_counter() - begun
            self.learner.train_step([batch], 0)
            self.learner.mean_loss()
            begun = time.perf_counter()
        return waited

    def planning(self) -> tuple[float, float]:
        """Of an epoch: seconds to plan it, and the share of padding."""
        shares, begun = [], time.perf_counter()
        plans = [self.plan(epoch) for epoch in range(EPOCHS)]
        seconds = (time.perf_counter() - begun) / EPOCHS
        shares = [padding_share(self.lengths, one) for one in plans]
        return seconds, statistics.mean(shares)


def measure(data: str, batches: int | None, rounds: int, overrides: list[str]) -> list[str]:
    """The table's row of a data set."""
    progress(f"{data}: preparing")
    epoch = Epoch([f"data={data}", *overrides], batches)
    planning, padding = epoch.planning()
    calls = {"piped": epoch.piped, "memory": epoch.in_memory}
    seconds = in_turns(calls, rounds, title=data)
    piped = [spent + planning * epoch.share for spent in seconds["piped"]]
    cost = ratio(piped, seconds["memory"])
    middle = statistics.median(piped)
    return [
        data,
        f"{len(epoch.part)}",
        f"{middle:.2f}",
        f"{statistics.median(seconds['memory']):.2f}",
        f"{cost:.3f}",
        "met" if cost <= 1.05 else "missed",
        f"{planning * epoch.share / middle:.2%}",
        f"{statistics.median(epoch.waiting) / middle:.2%}",
        f"{padding:.2%}",
        "met" if padding < 0.05 else "missed",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--full", action="store_true", help="whole epochs")
    parser.add_argument("--data", default="imdb,rotten_tomatoes", help="default: %(default)s")
    parser.add_argument("--batches", type=int, default=100, help="of an epoch, without --full")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("overrides", nargs="*", help="as for main.py, such as model=lstm")
    options = parser.parse_args()
    import_tensorflow()
    batches = None if options.full else options.batches
    rows = [
        measure(data, batches, options.rounds, options.overrides)
        for data in options.data.split(",")
    ]
    header = ["data", "batches", "piped s", "in memory s", "ratio", "≤ 1.05", "planning", "waiting"]
    table(
        f"Training from the pipeline and from memory, medians of {options.rounds} rounds: "
        f"{' '.join(options.overrides) or 'default settings'}\n{machine()}",
        [*header, "padding", "< 5%"],
        rows,
    )


if __name__ == "__main__":
    main()
