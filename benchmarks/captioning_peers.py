"""Captioning against a peer: training and captioning with the same network.

    python benchmarks/captioning_peers.py                 on the embedded emoji
    python benchmarks/captioning_peers.py --full          an epoch, all test images
    python benchmarks/captioning_peers.py data=image_captions data.images=... data.captions=...

Both systems are the residual network of models/vision.py, a GRU decoder with Luong's "general"
attention over the image's grid, and an output layer for the captions' words: task=captioning as
it is by default, without dropout, augmentation, label smoothing and averages. They start from the
same weights and read the same numbers in the same batches, those that the project's own prepare
makes. What reading and augmenting images costs is in `input_pipeline.py --data emoji
task=captioning`.

Training: images a second, in the first epoch's own order, with every caption: losses, gradients
clipped by their norm, Adam. Captioning: images a second, greedily and with a beam of 5. PyTorch
first learns for some updates more, so that captions end as captions do, and ours takes its weights.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from contextlib import closing
from functools import partial
from typing import Any

import numpy as np
from measuring import (
    Call,
    configure,
    has_torch,
    in_turns,
    load_data,
    machine,
    on_best_threads,
    progress,
    ratio,
    table,
)
from our_writer import OurWriter
from writer_peers import OURS, System, measure_searches

from models.seeds import stream
from pipelines.core.errors import UserError
from pipelines.data.batches import Plan, assemble, plan
from pipelines.distributed.tensorflow import import_tensorflow

TURN = 2
"""Updates a turn."""

TORCH = "PyTorch"

SAME = [
    "task=captioning",
    "model=gru",
    # What the systems are.
    "task.pooling=mean_max",
    "task.vision.network=residual",
    "task.vision.dropout=0.0",
    "task.embedding.dropout=0.0",
    "task.embedding.word_dropout=0.0",
    "task.decoder.attention=general",
    "task.decoder.tied=false",
    "task.decoder.dropout=0.0",
    # How they learn.
    "task.label_smoothing=0.0",
    "train.learning_rate=0.001",
    "train.schedule=constant",
    "train.warmup=0",
    "train.ema_decay=null",
    # How they search.
    "decode=beam",
    "decode.beam=5",
    "decode.length_penalty=0.6",
    "decode.maximum_ratio=0.0",
]


class CaptionData:
    """The project's own preparation, and the order of its batches."""

    def __init__(self, overrides: list[str]):
        self.config = configure([*SAME, *overrides])
        made = load_data(self.config)
        self.codec = made.codec
        self.train, self.test = made.splits["train"], made.splits["test"]

    def epoch(self, number: int = 0) -> Plan:
        return plan(
            self.train.lengths(),
            tokens=self.config.train.batch_tokens,
            maximum_examples=self.config.train.batch_examples,
            seed=stream(self.config.seed, "order"),
            epoch=number,
        )

    def turn(self, system: System, number: int) -> float:
        """The updates of a turn, counted over epochs; their last loss."""
        epoch = self.epoch()
        turns = len(epoch) // TURN
        order = epoch if number < turns else self.epoch(number // turns)
        first = number % turns * TURN
        part = Plan(order.order, order.bounds[first : first + TURN])
        with closing(assemble(self.train, part, make=system.batch)) as made:
            return system.train(made)

    def text(self, ids: np.ndarray) -> list[str]:
        """Token ids (B, T) as text, up to </s>."""
        codec: Any = self.codec.fields["caption_tokens"]
        return [codec.text.decode(row) for row in ids]


class OurCaptioning(OurWriter):
    """A `System`."""

    def lengths(self, given: Mapping[str, Any]) -> Any:
        import tensorflow as tf

        return tf.fill(tf.shape(given["image"])[:1], self.model.vision.positions)

    def variables(self) -> dict[str, Any]:
        """By the names that `captioning_torch.py` gives them."""
        vision, decoder = self.model.vision, self.model.decoder
        network = vision.network
        parts = list(network.stem)
        for block in network.blocks:
            parts += [block.first, block.second, *([block.shortcut] if block.shortcut else [])]
        return {
            "vision": [value for part in parts for value in part.weights],
            "project": vision.project.weights,
            "places": [vision.rows, vision.columns],
            "norm": vision.norm.weights,
            "bridge": decoder.bridge[0].weights,
            "target": [self.model.embedding.matrix],
            "decoder": decoder.rnn.layers[0][0].weights,
            "key": [decoder.attention.key],
            "combine": decoder.combine.weights,
            "output": [decoder.kernel, decoder.bias],
        }


def systems_of(images: CaptionData) -> dict[str, Any]:
    """All that can be measured here, with the same weights."""
    ours = OurCaptioning(images)
    systems: dict[str, Any] = {OURS: ours}
    if has_torch():
        systems[TORCH] = torch_system(images, ours)
        ours.take(systems[TORCH].weights())
    return systems


def torch_system(images: CaptionData, ours: OurCaptioning) -> Any:
    from captioning_torch import TorchCaptioning

    size = images.codec.spec.sizes["caption_tokens"]
    return TorchCaptioning(images.config, size, ours.model.vision.grid[:2])


def best_threads(images: CaptionData, systems: Mapping[str, Any], call: Call) -> Call:
    """Of PyTorch; trials must not teach what is measured."""
    probe = torch_system(images, systems[OURS])
    batch = probe.batch(images.train.gather(images.epoch()[0]))
    return on_best_threads(call, trial=lambda: probe.train([batch]))


def training(images: CaptionData, systems: Mapping[str, Any], rounds: int) -> None:
    """Prints images a second of each system."""
    order = images.epoch()
    rounds = max(1, min(rounds, len(order) // TURN - 1))
    losses: dict[str, float] = {}
    calls: dict[str, Call] = {}

    def turn(name: str, number: int) -> None:
        losses[name] = images.turn(systems[name], number + 1)

    for name in systems:
        # Graphs are traced in a first turn, which isn't timed.
        progress(f"{name}: first updates")
        turn(name, -1)
        call = partial(turn, name)
        calls[name] = call if name == OURS else best_threads(images, systems, call)
    seconds = in_turns(calls, rounds, title="training")
    count = sum(len(order[k]) for k in range(TURN, (rounds + 1) * TURN))
    rows = [
        [
            name,
            f"{count / sum(times):,.0f}",
            f"{sum(times) / rounds / TURN:.3f}",
            f"{losses[name]:.4f}",
            f"{ratio(times, seconds[OURS]):.2f}",
        ]
        for name, times in seconds.items()
    ]
    table(
        f"Training on {images.config.data.name}: {rounds * TURN} of the {len(order)} updates of "
        f"an epoch\n{machine()}",
        ["system", "images a second", "seconds an update", "last loss", "/ ours"],
        rows,
    )


def teach(images: CaptionData, systems: Mapping[str, Any], updates: int) -> None:
    """So many updates of PyTorch, or of ours where it is alone; all have its weights then."""
    teacher = systems.get(TORCH, systems[OURS])

    def turn(number: int) -> None:
        loss = images.turn(teacher, number)
        progress(f"before captioning: {(number + 1) * TURN} of {updates} updates, loss {loss:.2f}")

    call = best_threads(images, systems, turn) if TORCH in systems else turn
    for number in range(updates // TURN):
        call(number)
    if TORCH in systems:
        systems[OURS].take(teacher.weights())


def captioning(images: CaptionData, systems: Mapping[str, Any], count: int, size: int) -> None:
    """Prints test images a second of each system: `count` of them, in batches of `size`."""
    numbers = np.arange(min(count, len(images.test)))
    chosen = np.split(numbers, range(size, len(numbers), size))
    rows = measure_searches(systems, images.test, chosen, images.text, decimals=0)
    table(
        f"Captioning {len(numbers)} test images, {size} a batch: {images.config.data.name}\n"
        f"{machine()}",
        ["search", "system", "images a second", "words each", "as ours", "/ ours"],
        rows,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--full", action="store_true", help="a whole epoch, all test images")
    parser.add_argument("--only", choices=["training", "captioning"])
    parser.add_argument("--updates", type=int, default=40, help="timed, without --full")
    parser.add_argument("--taught", type=int, default=200, help="updates before captioning")
    parser.add_argument("--images", type=int, default=320, help="captioned, without --full")
    parser.add_argument("--batch-images", type=int, default=64, help="captioned at a time")
    parser.add_argument("overrides", nargs="*", help="as for main.py, such as data=...")
    options = parser.parse_args()
    import_tensorflow()
    progress("preparing")
    try:
        images = CaptionData(options.overrides)
    except UserError as error:
        parser.error(str(error))
    systems = systems_of(images)
    everything = 10**9
    if options.only != "captioning":
        training(images, systems, everything if options.full else options.updates // TURN)
    if options.only != "training":
        teach(images, systems, options.taught)
        count = everything if options.full else options.images
        captioning(images, systems, count, options.batch_images)


if __name__ == "__main__":
    main()
