"""Translation against a peer: training and decoding of the same attention encoder-decoder.

    python benchmarks/translation_peers.py                       on generated sentences
    python benchmarks/translation_peers.py --data DIRECTORY      on Multi30k
    python benchmarks/translation_peers.py --full                an epoch, all test sentences

Both systems are a bidirectional GRU of 256 a direction, a GRU decoder of 512 with Luong's "general"
attention and no input feeding, and an output layer for some 8,000 pieces. They start from the same
weights and read the same numbers in the same batches, those that the project's own prepare makes.

Training: target pieces a second, </s> included, in the first epoch's own order: losses, gradients
clipped by their norm, Adam. PyTorch's encoder goes over packed sequences, or over padded ones. The
losses of the last update are close, not equal: Keras and PyTorch add Adam's epsilon at different
places. (At the same place, weights agree to 1e-5 after six updates.)

Decoding: test sentences a second, in batches sorted by length, greedily and with a beam of 5.
PyTorch first learns for some updates more, so that answers end as sentences do, and ours takes its
weights. Beam searches differ in when a hypothesis counts as finished, and so in some answers.

The output layer is the same matrix product for all: its share bounds what decoding can gain.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from measuring import Call, has_torch, in_turns, machine, on_best_threads, progress, ratio, table
from translation_data import HOW_TO_GET_IT, Sentences, batches, part_of
from writer_peers import OURS, SEARCHES, System, measure_searches

from pipelines.core.errors import UserError
from pipelines.data.batches import Plan
from pipelines.distributed.tensorflow import import_tensorflow

TURN = 2
"""Updates a turn."""

PACKED, PADDED = "PyTorch packed", "PyTorch padded"


def systems_of(sentences: Sentences) -> dict[str, Any]:
    """All that can be measured here, with the same weights."""
    systems: dict[str, Any] = {OURS: our_system(sentences)}
    if has_torch():
        # The same seed gives both the same weights.
        systems |= {name: torch_system(sentences, name) for name in (PACKED, PADDED)}
        systems[OURS].take(systems[PACKED].weights())
    return systems


def our_system(sentences: Sentences) -> Any:
    from translation_ours import OurTranslation

    return OurTranslation(sentences)


def torch_system(sentences: Sentences, name: str) -> Any:
    from translation_torch import TorchTranslation

    return TorchTranslation(sentences.config, sentences.sizes, packed=name == PACKED)


def training(sentences: Sentences, systems: Mapping[str, System], rounds: int) -> None:
    """Prints target pieces a second of each system."""
    order = sentences.training_plan()
    losses: dict[str, float] = {}
    # Graphs are traced in a first turn, which isn't timed.
    rounds = max(1, min(rounds, len(order) // TURN - 1))
    calls = {
        name: _training_turns(sentences, name, system, order, losses)
        for name, system in systems.items()
    }
    seconds = in_turns(calls, rounds, title="training")
    timed = range(TURN, (rounds + 1) * TURN)
    # <s> is read, not written.
    lengths = sentences.train.lengths()[:, 1] - 1
    pieces = sum(int(lengths[order[k]].sum()) for k in timed)
    rows = []
    for name, times in seconds.items():
        speed = [f"{pieces / sum(times):,.0f}", f"{sum(times) / len(timed):.2f}"]
        rows.append([name, *speed, f"{losses[name]:.3f}", _by_ours(seconds, name)])
    table(
        f"Training on {sentences.name}: {len(timed)} of the {len(order)} updates of an epoch, "
        f"{pieces / len(timed):,.0f} target pieces each\n{machine()}",
        ["system", "target pieces a second", "seconds an update", "last loss", "/ ours"],
        rows,
    )


def _training_turns(
    sentences: Sentences, name: str, system: System, order: Plan, losses: dict[str, float]
) -> Call:
    def turn(number: int) -> None:
        part = part_of(order, number + 1, TURN)
        with batches(sentences.train, part, system.batch) as made:
            losses[name] = system.train(made)

    progress(f"{name}: first updates")
    turn(-1)
    return turn if name == OURS else _on_best_threads(sentences, name, turn)


def _on_best_threads(sentences: Sentences, name: str, call: Call) -> Call:
    """Trials must not teach what is measured."""
    probe = torch_system(sentences, name)
    batch = probe.batch(sentences.train.gather(sentences.training_plan()[0]))
    return on_best_threads(call, trial=lambda: probe.train([batch]))


def teach(sentences: Sentences, systems: Mapping[str, Any], updates: int) -> None:
    """So many updates of PyTorch, or of ours where it is alone; all have its weights then."""
    teacher, epoch = systems.get(PACKED, systems[OURS]), sentences.training_plan()
    turns = len(epoch) // TURN

    def turn(number: int) -> None:
        part = part_of(sentences.training_plan(1 + number // turns), number % turns, TURN)
        with batches(sentences.train, part, teacher.batch) as made:
            loss = teacher.train(made)
        progress(f"before decoding: {(number + 1) * TURN} of {updates} updates, loss {loss:.2f}")

    alone = teacher is systems[OURS]
    call = turn if alone else _on_best_threads(sentences, PACKED, turn)
    for number in range(updates // TURN):
        call(number)
    if not alone:
        systems[OURS].take(teacher.weights())


def decoding(sentences: Sentences, systems: Mapping[str, System], count: int, size: int) -> None:
    """Prints test sentences a second of each system: `count` of them, in batches of `size`."""
    order = sentences.test_plan(size)
    spread = np.linspace(0, len(order) - 1, max(1, min(count // size, len(order))))
    chosen = [order[k] for k in spread.round().astype(int)]
    total = sum(map(len, chosen))
    rows = measure_searches(systems, sentences.test, chosen, sentences.text, decimals=1)
    table(
        f"Decoding {total} test sentences, {size} a batch: {sentences.name}\n{machine()}",
        ["search", "system", "sentences a second", "words each", "as ours", "/ ours"],
        rows,
    )


def output_layer(sentences: Sentences, ours: Any, size: int) -> None:
    """Prints how much of a step of ours is the output layer and the choice of the best pieces."""
    import tensorflow as tf

    from models.top_k import blockwise_top_k

    decoder, rows = ours.model.decoder, []
    columns = sentences.test.gather(sentences.test_plan(size)[0])
    inputs = ours.batch(columns).inputs
    memory, state = ours.model.encode(
        tf.constant(inputs["source_tokens"]), tf.constant(inputs["source_tokens_length"])
    )
    bias = np.zeros(ours.codec.spec.sizes["target_tokens"], np.float32)
    for title, beams in SEARCHES.items():
        ids = tf.ones([len(inputs["source_tokens"]), beams], tf.int32)
        states = tf.nest.map_structure(
            lambda x, beams=beams: tf.repeat(x[:, tf.newaxis], beams, 1), state
        )
        readout = tf.random.stateless_normal([ids.shape[0] * beams, decoder.readout_width], [0, 1])
        whole = tf.function(
            lambda ids, states, beams=beams: blockwise_top_k(
                tf.reshape(decoder.step(ids, states, memory)[0], [-1, len(bias)]), beams, bias
            )
        )
        output = tf.function(
            lambda readout, beams=beams: blockwise_top_k(decoder.logits(readout), beams, bias)
        )
        calls: dict[str, Call] = {
            "step": partial(_call, whole, (ids, states)),
            "output": partial(_call, output, (readout,)),
        }
        for call in calls.values():
            call(0)
        seconds = in_turns(calls, 50, title=title)
        step = 1e3 * float(np.median(seconds["step"]))
        rows.append([title, f"{step:.2f}", f"{1 / ratio(seconds['step'], seconds['output']):.0%}"])
    table(
        f"Of a step of ours, {size} sentences at once, {len(bias):,} pieces\n{machine()}",
        ["search", "ms a step", "output layer and choice"],
        rows,
    )


def _call(graph: Any, given: Sequence[Any], number: int) -> None:
    graph(*given)


def _by_ours(seconds: Mapping[str, Sequence[float]], name: str) -> str:
    return f"{ratio(seconds[name], seconds[OURS]):.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="directory with the files of Multi30k")
    parser.add_argument("--full", action="store_true", help="a whole epoch, all test sentences")
    parser.add_argument("--only", choices=["training", "decoding", "output"])
    parser.add_argument("--updates", type=int, default=40, help="timed, without --full")
    parser.add_argument("--taught", type=int, default=300, help="updates before decoding")
    parser.add_argument("--sentences", type=int, default=320, help="decoded, without --full")
    parser.add_argument("--batch-tokens", type=int, default=4096, help="of source and target")
    parser.add_argument("--batch-sentences", type=int, default=64, help="decoded at a time")
    parser.add_argument("--limit", type=int, help="a quick try on so many pairs")
    options = parser.parse_args()
    if options.data is None:
        print(HOW_TO_GET_IT)
    import_tensorflow()
    progress("preparing")
    try:
        sentences = Sentences(options.data, batch_tokens=options.batch_tokens, limit=options.limit)
    except UserError as error:
        parser.error(str(error))
    systems = systems_of(sentences)
    everything = 10**9
    if options.only in (None, "output"):
        output_layer(sentences, systems[OURS], options.batch_sentences)
    if options.only in (None, "training"):
        training(sentences, systems, everything if options.full else options.updates // TURN)
    if options.only in (None, "decoding"):
        teach(sentences, systems, options.taught)
        searched = {name: system for name, system in systems.items() if name != PADDED}
        count = everything if options.full else options.sentences
        decoding(sentences, searched, count, options.batch_sentences)


if __name__ == "__main__":
    main()
