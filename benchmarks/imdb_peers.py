"""IMDB reviews against peers: seconds an epoch of every cell, and seconds to the recipe's accuracy.

    python benchmarks/imdb_peers.py                 60 steps of each system, about five minutes
    python benchmarks/imdb_peers.py --full          whole epochs and the race, about an hour
    python benchmarks/imdb_peers.py --only race     the race alone, about ten minutes

All systems read the same token numbers, those that the project's own prepare makes of the embedded
reviews: 20,000 words, the last 200 of a review.

Speed: our default classifier, and the same one in PyTorch, on the same batches out of the same
pipeline; and the bidirectional LSTM recipe of the Keras documentation, in batches of 32. PyTorch
goes over packed sequences, as its documentation has it, and over padded ones, which is faster where
there is little padding, but reads padding before the text in the backward direction. All take a few
steps each, in turns. Seconds an epoch are those of the steps taken, scaled to an epoch's steps.
Expected: no cell of ours takes longer than PyTorch's packed one.

Race: the recipe trains its two epochs, our default model its own, in turns, and both are asked how
well they do on the reviews held out (validation and test). Only training counts as time, tracing
the graph included. Ratio: the recipe's seconds for its training, by ours until we first reach the
accuracy that the recipe ends with; target: at least 5.
"""

from __future__ import annotations

import argparse
import time

from imdb_data import Racer, Reviews
from measuring import Call, has_torch, in_turns, machine, progress, ratio, table
from peer_models import Recipe
from texts import our_turns, torch_turns

from pipelines.distributed.tensorflow import import_tensorflow

CELLS = ("simple_rnn", "lstm", "gru", "bi_simple_rnn", "bi_lstm", "bi_gru")
TURN = 10
"""Steps a turn of our models and PyTorch's; the recipe takes as large a part of an epoch."""

RECIPE_EPOCHS = 2


def speed(reviews: Reviews, steps: int | None, cells: list[str]) -> None:
    """Prints seconds an epoch of each system."""
    order = reviews.plan(0)
    rounds = max(1, min(steps or len(order), len(order)) // TURN)
    recipe = Recipe(*reviews.left_padded(reviews.train), reviews.sizes["tokens"], seed=1)
    recipe_turn = round(TURN * recipe.steps_per_epoch / len(order))
    progress("recipe: tracing")
    recipe.steps(3)
    calls: dict[str, Call] = {"recipe": lambda _: recipe.steps(recipe_turn)}
    peers = ["packed", "padded"] if has_torch() else []
    for cell in cells:
        progress(f"{cell}: tracing")
        calls[f"ours {cell}"] = our_turns(reviews, cell, order, TURN)
        for how in peers:
            packed = how == "packed"
            calls[f"{how} {cell}"] = torch_turns(reviews, cell, order, TURN, packed=packed)
    seconds = in_turns(calls, rounds, title="an epoch of every cell")
    scale = len(order) / (rounds * TURN)
    recipe_epoch = sum(seconds["recipe"]) * recipe.steps_per_epoch / (rounds * recipe_turn)
    rows = []
    for cell in cells:
        ours = seconds[f"ours {cell}"]
        row = [cell, f"{sum(ours) * scale:.1f}"]
        for how in ("packed", "padded"):
            theirs = seconds.get(f"{how} {cell}")
            row.append(f"{sum(theirs) * scale:.1f}" if theirs else "–")
            row.append(f"{ratio(theirs, ours):.2f}" if theirs else "–")
        rows.append([*row, f"{recipe_epoch / (sum(ours) * scale):.1f}"])
    peer = ["PyTorch packed s", "/ ours", "PyTorch padded s", "/ ours"]
    table(
        f"Seconds an epoch of {len(reviews.train):,} reviews: {rounds * TURN} steps of "
        f"{len(order)} were timed. Keras' recipe takes {recipe_epoch:.1f} s\n{machine()}",
        ["model", "ours s", *peer, "recipe / ours"],
        rows,
    )


def race(reviews: Reviews, every: int) -> None:
    """Prints how far the recipe and our default model came, and after how many seconds."""
    recipe = Recipe(*reviews.left_padded(reviews.train), reviews.sizes["tokens"], seed=1)
    racer, held_out = Racer(reviews, every), reviews.left_padded(*reviews.held_out)
    half, turns = recipe.steps_per_epoch, len(racer.parts)
    # The recipe stops at each epoch's end to be asked; both reach their ends together.
    share = RECIPE_EPOCHS * half / turns
    stops = sorted({round(share * (k + 1)) for k in range(turns)} | {half, RECIPE_EPOCHS * half})
    recipe_seconds, our_seconds, done, number = 0.0, 0.0, 0, 0
    theirs, ours = [], []
    for stop in stops:
        begun = time.perf_counter()
        recipe.steps(stop - done)
        recipe_seconds, done = recipe_seconds + time.perf_counter() - begun, stop
        if done % half == 0:
            theirs.append((recipe_seconds, recipe.accuracy(*held_out)))
        if number < turns and stop >= share * (number + 0.5):
            begun = time.perf_counter()
            racer.turn(number)
            our_seconds, number = our_seconds + time.perf_counter() - begun, number + 1
            ours.append((racer.step, our_seconds, racer.accuracy()))
            progress(
                f"race: {number} of {turns}; ours {ours[-1][2]:.4f} after {our_seconds:.0f} s; "
                f"recipe at step {done} after {recipe_seconds:.0f} s"
            )
    show(theirs, ours, racer, sum(map(len, reviews.held_out)))


def show(
    theirs: list[tuple[float, float]],
    ours: list[tuple[int, float, float]],
    racer: Racer,
    examples: int,
) -> None:
    rows = [
        [f"Keras' recipe, epoch {epoch}", f"{seconds:.1f}", f"{accuracy:.4f}", ""]
        for epoch, (seconds, accuracy) in enumerate(theirs, start=1)
    ]
    seconds, target = theirs[-1]
    reached = next((one for one in ours if one[2] >= target), None)
    if reached is None:
        rows.append(["ours: never reached it", "–", "–", "–"])
    else:
        step, ours_seconds, accuracy = reached
        speedup = seconds / ours_seconds
        verdict = "met" if speedup >= 5 else "missed"
        shown = f"{speedup:.1f} (target 5: {verdict})"
        rows.append([f"ours, update {step}", f"{ours_seconds:.1f}", f"{accuracy:.4f}", shown])
    step, ours_seconds, accuracy = ours[-1]
    rows.append([f"ours, at its end, update {step}", f"{ours_seconds:.1f}", f"{accuracy:.4f}", ""])
    config = racer.config
    model = f"{'bi_' if config.model.bidirectional else ''}{config.model.cell}"
    table(
        f"Accuracy on {examples:,} reviews held out by seconds of training; ours: model={model}, "
        f"asked every {racer.every} updates\n{machine()}",
        ["system", "seconds", "accuracy", "times as fast"],
        rows,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--full", action="store_true", help="whole epochs, and the race")
    parser.add_argument("--only", choices=["speed", "race"])
    parser.add_argument("--steps", type=int, default=60, help="of each system, without --full")
    parser.add_argument("--cells", default=",".join(CELLS), help="some of %(default)s")
    parser.add_argument("--every", type=int, default=25, help="updates between two questions")
    parser.add_argument("--limit", type=int, help="a quick try on so many reviews")
    options = parser.parse_args()
    import_tensorflow()
    progress("preparing")
    reviews = Reviews(options.limit)
    if options.only != "race":
        steps = None if options.full else options.steps
        speed(reviews, steps, options.cells.split(","))
    if options.only == "race" or (options.full and options.only is None):
        race(reviews, options.every)


if __name__ == "__main__":
    main()
