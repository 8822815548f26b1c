"""Milliseconds of one recurrent layer, forward and backward, against Keras' and PyTorch's.

    python benchmarks/layers.py                    about two minutes
    python benchmarks/layers.py --padded           sequences of T/2 to T positions
    python benchmarks/layers.py --full             more shapes and rounds, about ten minutes

Every system gets the same inputs and computes all outputs (B, T, W) and the gradients of the sum of
their squares by the input and all weights. Keras and ours run in tf.function with open batch and
time, as in training, with the same weights, and must give the same outputs. With --padded, Keras
and ours get a mask and PyTorch a packed sequence. PyTorch runs on one thread or on all cores,
whichever a trial finds faster.

A row is a cell at a shape; ms are medians; "Keras / ours" above 1 means that ours is faster.
Expected on two cores: above 1 against Keras for every cell. Against PyTorch, whose lstm is one
fused kernel, about 0.6 for lstm and 1 or more for gru and simple_rnn; with --padded, well above 1.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Callable, Sequence
from typing import Any

from measuring import Call, has_torch, in_turns, machine, on_best_threads, progress, ratio, table

CELLS = ("simple_rnn", "lstm", "gru")
SHAPES = [(64, 200, 64, 64), (32, 100, 128, 128)]
MORE_SHAPES = [(32, 50, 64, 64), (128, 100, 128, 128), (32, 400, 64, 256)]


def keras_and_ours(
    cell: Any, bidirectional: bool, width: int, x: Any, mask: Any
) -> tuple[Call, Call]:
    """Both layers with the same weights, as calls that take one step. They agree to 1e-4."""
    import keras
    import numpy as np

    from models.recurrent import Encoder
    from models.settings import RecurrentSettings

    kind = {
        "simple_rnn": keras.layers.SimpleRNN, "lstm": keras.layers.LSTM, "gru": keras.layers.GRU
    }[cell]  # fmt: skip
    theirs = kind(width, return_sequences=True)
    if bidirectional:
        theirs = keras.layers.Bidirectional(theirs)
    theirs.build(x.shape)
    settings = RecurrentSettings(
        cell=cell, bidirectional=bidirectional, width=width, layers=1, residual=False,
        activation="tanh", dropout=0.0, recurrent_dropout=0.0,
    )  # fmt: skip
    ours = Encoder(settings)
    ours.build(x.shape)
    ours.set_weights(theirs.get_weights())

    def their_outputs(x: Any, mask: Any) -> Any:
        return theirs(x, mask=mask)

    def our_outputs(x: Any, mask: Any) -> Any:
        return ours(x, mask=mask, training=True)[0]

    keep = 1.0 if mask is None else mask[..., None].numpy()
    difference = np.abs((their_outputs(x, mask) - our_outputs(x, mask)).numpy() * keep).max()
    if difference > 1e-4:
        raise ValueError(f"both layers must give the same outputs; they differ by {difference}")
    steps = [(their_outputs, theirs), (our_outputs, ours)]
    their_step, our_step = (_keras_step(call, layer, x, mask) for call, layer in steps)
    return their_step, our_step


def _keras_step(call: Callable[..., Any], layer: Any, x: Any, mask: Any) -> Call:
    import tensorflow as tf

    signature = [tf.TensorSpec([None, None, x.shape[-1]])]
    signature += [] if mask is None else [tf.TensorSpec([None, None], tf.bool)]

    @tf.function(input_signature=signature)
    def step(x: Any, mask: Any = None) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = call(x, mask)
            if mask is not None:
                y *= tf.cast(mask, y.dtype)[..., tf.newaxis]
            loss = tf.reduce_sum(y * y)
        return tape.gradient(loss, [x, *(v.value for v in layer.trainable_variables)])

    arguments = [x] if mask is None else [x, mask]
    return lambda _: step(*arguments)[-1].numpy()


def torch_step(cell: str, bidirectional: bool, width: int, x: Any, lengths: Any) -> Call:
    """The same layer in PyTorch, as a call that takes one step; packed where there are lengths."""
    import torch
    from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

    kind = {"simple_rnn": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[cell]
    layer = kind(x.shape[-1], width, batch_first=True, bidirectional=bidirectional)
    x = torch.tensor(x.numpy(), requires_grad=True)
    lengths = None if lengths is None else torch.tensor(lengths)

    def step(_: int) -> Any:
        layer.zero_grad()
        x.grad = None
        if lengths is None:
            y, _ = layer(x)
        else:
            packed, _ = layer(pack_padded_sequence(x, lengths, batch_first=True))
            y, _ = pad_packed_sequence(packed, batch_first=True)
        (y * y).sum().backward()
        return x.grad

    return step


def systems(
    cell: str, bidirectional: bool, shape: Sequence[int], *, padded: bool, torch: bool
) -> dict[str, Call]:
    """What is timed for a row, warmed up."""
    import numpy as np
    import tensorflow as tf

    batch, time, depth, width = shape
    random = np.random.default_rng(1)
    x = tf.constant(random.normal(size=(batch, time, depth)).astype(np.float32))
    lengths, mask = None, None
    if padded:
        # Longest first, as packing wants; that is the batch's length.
        lengths = np.sort(random.integers(time // 2, time + 1, batch))[::-1].copy()
        lengths[0] = time
        mask = tf.sequence_mask(lengths, time)
    theirs, ours = keras_and_ours(cell, bidirectional, width, x, mask)
    calls = {"Keras": theirs, "ours": ours}
    if torch:
        calls["PyTorch"] = on_best_threads(torch_step(cell, bidirectional, width, x, lengths))
    for call in calls.values():
        call(0)
        call(0)
    return calls


def row(name: str, shape: Sequence[int], seconds: dict[str, list[float]]) -> list[str]:
    ours = seconds["ours"]
    cells = [name, " × ".join(map(str, shape))]
    for system in ("ours", "Keras", "PyTorch"):
        times = seconds.get(system)
        cells.append(f"{statistics.median(times) * 1e3:.1f}" if times else "–")
    for system in ("Keras", "PyTorch"):
        times = seconds.get(system)
        cells.append(f"{ratio(times, ours):.2f}" if times else "–")
    return cells


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--full", action="store_true", help="all shapes, 30 rounds")
    parser.add_argument("--padded", action="store_true", help="lengths from T/2 to T")
    parser.add_argument("--cells", default=",".join(CELLS), help="some of %(default)s")
    parser.add_argument("--rounds", type=int, default=None, help="timings of each system in a row")
    options = parser.parse_args()
    rounds = options.rounds or (30 if options.full else 9)
    torch = has_torch()

    from pipelines.distributed.tensorflow import import_tensorflow

    import_tensorflow()
    rows, ratios = [], []
    for shape in SHAPES + (MORE_SHAPES if options.full else []):
        for cell in options.cells.split(","):
            for bidirectional in (False, True):
                name = f"bi_{cell}" if bidirectional else cell
                progress(f"{name} at {shape}: tracing")
                calls = systems(cell, bidirectional, shape, padded=options.padded, torch=torch)
                seconds = in_turns(calls, rounds, title=f"{name} at {shape}")
                rows.append(row(name, shape, seconds))
                peers = [ratio(t, seconds["ours"]) for k, t in seconds.items() if k != "ours"]
                ratios.append(peers)
    means = [math.exp(statistics.mean(map(math.log, one))) for one in zip(*ratios, strict=True)]
    shown = [f"{mean:.2f}" for mean in means] + ([] if torch else ["–"])
    rows.append(["geometric mean", "", "", "", "", *shown])
    header = ["cell", "B × T × D × W", "ours ms", "Keras ms", "PyTorch ms"]
    what = "padded to T from T/2 or more" if options.padded else "no padding"
    table(
        f"Forward and backward of a layer, {what}, medians of {rounds} rounds\n{machine()}",
        [*header, "Keras / ours", "PyTorch / ours"],
        rows,
    )


if __name__ == "__main__":
    main()
