"""A page of examples from tutorials on recurrent networks, worked out by hand and checked.

    python -m pipelines.report.worked_examples [DIRECTORY]

writes worked_examples.html. It is a module, not a mode of main.py, since it has neither data nor
a run; every number on the page is computed by the layers that the models are made of, when the
page is made, and tests hold them.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pipelines.core.sections import Figure, Section, Table
from pipelines.report.page import Chapter, Code, write_page
from pipelines.report.plots import INK, SERIES, set_log_scale

if TYPE_CHECKING:
    import tensorflow as tf
    from matplotlib.axes import Axes

    from models.layers import SimpleRNN


COMMAND = "python -m pipelines.report.worked_examples"


class Forward(NamedTuple):
    """Steps of one unit: x, what goes into tanh, and h, each (T,)."""

    x: np.ndarray
    given: np.ndarray
    h: np.ndarray


def forward(w_x: float, w_h: float, b: float, x: list[float]) -> Forward:
    """h_t = tanh(w_x x_t + w_h h_{t-1} + b), from h_0 = 0, by the layer that models use."""
    layer = _unit_layer(w_x, w_h, b)
    sequence = np.asarray(x, np.float64).reshape(1, -1, 1)
    h = layer(sequence)[0].numpy()[0, :, 0]
    before = np.concatenate([[0.0], h[:-1]])
    return Forward(np.asarray(x), w_x * np.asarray(x) + w_h * before + b, h)


def _unit_layer(w_x: float, w_h: float, b: float) -> SimpleRNN:
    from models.layers import SimpleRNN

    layer = SimpleRNN(1, dtype="float64")
    layer.build((None, None, 1))
    layer.rnn.set_weights([np.array([[w_x]]), np.array([[w_h]]), np.array([b])])
    return layer


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def slopes(x: np.ndarray) -> dict[str, np.ndarray]:
    """Derivatives of the activations: σ(1 - σ) and 1 - tanh²."""
    return {"sigmoid": sigmoid(x) * (1 - sigmoid(x)), "tanh": 1 - np.tanh(x) ** 2}


def unroll(
    x: np.ndarray, target: np.ndarray, kernel: np.ndarray, recurrent: np.ndarray, bias: np.ndarray
) -> dict[str, np.ndarray]:
    """Gradients of ½‖h_T - target‖² by backpropagation through time, written out (Werbos 1990).

    x (T, D), target (W,), kernel (D, W), recurrent (W, W), bias (W,); the same shapes come back,
    and "steps" (T, W): what each step adds to the gradient of the bias.
    """
    states = [np.zeros(len(bias))]
    for step in x:
        states.append(np.tanh(step @ kernel + states[-1] @ recurrent + bias))
    d_kernel, d_recurrent = np.zeros_like(kernel), np.zeros_like(recurrent)
    d_h = states[-1] - target
    added = np.zeros((len(x), len(bias)))
    for t in reversed(range(len(x))):
        given = d_h * (1 - states[t + 1] ** 2)  # through tanh
        added[t] = given
        d_kernel += np.outer(x[t], given)
        d_recurrent += np.outer(states[t], given)
        d_h = given @ recurrent.T  # to the step before
    return {
        "kernel": d_kernel, "recurrent": d_recurrent, "bias": added.sum(0), "steps": added,
    }  # fmt: skip


class Agreement(NamedTuple):
    """by_hand, automatic: gradients by name. difference: the largest, absolute, of any number."""

    by_hand: Mapping[str, np.ndarray]
    automatic: Mapping[str, np.ndarray]
    difference: float


def backpropagation(steps: int = 6, width: int = 3, inputs: int = 2, seed: int = 1) -> Agreement:
    """By hand and by automatic differentiation through the layer, on one random network."""
    import tensorflow as tf

    from models.layers import SimpleRNN

    random = np.random.default_rng(seed)
    x, target = random.normal(size=(steps, inputs)), random.normal(size=width)
    weights = [random.normal(size=shape) for shape in ((inputs, width), (width, width), (width,))]
    by_hand = unroll(x, target, *weights)
    layer = SimpleRNN(width, dtype="float64")
    layer.build((None, None, inputs))
    layer.rnn.set_weights(weights)
    variables = [v.value for v in layer.trainable_variables]
    with tf.GradientTape() as tape:
        y, _ = layer(x[np.newaxis], training=True)
        loss = tf.reduce_sum((y[0, -1] - target) ** 2) / 2
    gradients = tape.gradient(loss, variables)
    names = ("kernel", "recurrent", "bias")
    automatic = {name: gradient.numpy() for name, gradient in zip(names, gradients, strict=True)}
    difference = max(float(np.abs(by_hand[name] - automatic[name]).max()) for name in names)
    return Agreement(by_hand, automatic, difference)


class Counting(NamedTuple):
    """Answers of a trained unit by the numbers that it is given, and its loss at the end."""

    answers: Mapping[tuple[int, ...], float]
    loss: float


def counting(seed: int, *, steps: int = 1000, rate: float = 0.01) -> Counting:
    """One tanh unit and a linear output, trained by Adam on 1, 2, 3, 4 -> 5 alone."""
    import keras
    import tensorflow as tf

    from models.layers import SimpleRNN
    from models.seeds import stream

    layer = SimpleRNN(1, seed=stream(seed, "layer"))
    layer.build((None, None, 1))
    initial = keras.initializers.GlorotUniform(seed=stream(seed, "output"))
    output = keras.layers.Dense(1, kernel_initializer=initial)
    output.build((None, 1))
    optimizer = keras.optimizers.Adam(rate)
    variables = [*layer.trainable_variables, *output.trainable_variables]
    optimizer.build(variables)

    def answer(x: tf.Tensor) -> tf.Tensor:
        y, _ = layer(x, training=True)
        return output(y[:, -1])[:, 0]

    @tf.function(autograph=False)
    def update(x: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum((answer(x) - 5.0) ** 2)
        optimizer.apply(tape.gradient(loss, [v.value for v in variables]), variables)
        return loss

    loss = tf.constant(0.0)
    for _ in range(steps):
        loss = update(_sequence((1, 2, 3, 4)))
    sequences = [(1, 2, 3, 4), (2, 3, 4), (3, 4, 5), (2, 3, 4, 5), (10, 20, 30, 40)]
    return Counting(
        {sequence: float(answer(_sequence(sequence))[0]) for sequence in sequences}, float(loss)
    )


def _sequence(numbers: tuple[int, ...]) -> tf.Tensor:
    import tensorflow as tf

    return tf.constant(numbers, tf.float32, shape=(1, len(numbers), 1))


def cell_chapter() -> Chapter:
    found = forward(0.5, 1.0, 0.0, [1.0, 2.0, 3.0])
    rows = [
        (str(t), f"{x:g}", f"0.5 · {x:g} + 1 · {before:.3f}", f"{given:.3f}", f"{h:.3f}")
        for t, (x, before, given, h) in enumerate(
            zip(found.x, [0.0, *found.h[:-1]], found.given, found.h, strict=True), 1
        )
    ]
    table = Table("Three steps", ("t", "x", "w_x x + w_h h + b", "is", "h = tanh"), rows)
    left = np.cumprod((1 - found.h**2)[::-1])[::-1] * 0.5
    return Chapter(
        "One unit reads 1, 2, 3",
        [
            "A recurrent unit keeps one number, h. At each step it mixes what it reads with what "
            "it kept: h = tanh(w_x x + w_h h + b). With w_x = 0.5, w_h = 1, b = 0, from h = 0:",
            table,
            f"How much of the 1 is left in the last h? A change of it arrives multiplied by "
            f"w_x = 0.5 and by the slope of tanh, 1 − h², at each of the three steps: "
            f"{left[0]:.4f}. Of the 3, which only went through the last step, "
            f"{left[2]:.4f} arrives.",
        ],
    )


def slope_chapter() -> Chapter:
    x = np.linspace(-6, 6, 241)
    curves = slopes(x)

    def draw(axes: Axes) -> None:
        for place, (name, y) in enumerate(curves.items()):
            axes.plot(x, y, color=SERIES[place], ls=("-", "--")[place], label=f"slope of {name}")
            axes.annotate(f"{y.max():g}", (0, y.max()), (6, 2), textcoords="offset points")
        axes.set_xlabel("input")
        axes.set_ylabel("derivative")
        axes.legend()

    def draw_left(axes: Axes) -> None:
        steps = np.arange(0, 31)
        for place, (name, peak) in enumerate((("sigmoid", 0.25), ("tanh", 1.0))):
            axes.plot(steps, peak**steps, color=SERIES[place], ls=("-", "--")[place],
                      label=f"{name}: at most {peak:g} a step")  # fmt: skip
        axes.plot(steps, 0.8**steps, color=INK, ls=":", label="tanh at h = 0.45: 0.8 a step")
        set_log_scale(axes)
        axes.set_xlabel("steps")
        axes.set_ylabel("what is left")
        axes.legend(fontsize=8)

    powers = [(str(k), f"{0.25**k:.2g}", f"{1.0**k:g}") for k in (1, 2, 5, 10, 20)]
    return Chapter(
        "Why gradients vanish",
        [
            "Every step back through time multiplies a gradient by the slope of the activation "
            "(and by the recurrent weight). The slope of the sigmoid peaks at 0.25, that of tanh "
            "at 1, both where the input is 0; everywhere else they are smaller. So with a weight "
            "of 1 a sigmoid unit loses three quarters or more at each step, whatever it reads.",
            Figure("Slopes", draw, "0.25 and 1 are the peaks.", size=(5.0, 3.2)),
            Figure("The best case, step by step", draw_left, size=(5.0, 3.2)),
            Table("What is left at best", ("steps", "sigmoid", "tanh"), powers),
        ],
    )


def backpropagation_chapter() -> Chapter:
    agreement = backpropagation()
    rows = [
        (
            name,
            " ".join(f"{v:+.6f}" for v in agreement.by_hand[name].ravel()),
            " ".join(f"{v:+.6f}" for v in agreement.automatic[name].ravel()),
        )
        for name in ("bias", "recurrent", "kernel")
    ]
    code = """d_h = h[T] - target
for t in reversed(range(T)):
    given = d_h * (1 - h[t] ** 2)        # through tanh
    d_kernel += outer(x[t], given)
    d_recurrent += outer(h[t - 1], given)
    d_bias += given
    d_h = given @ recurrent.T            # to the step before"""
    return Chapter(
        "Backpropagation through time, by hand",
        [
            "The loss is ½‖h_T − target‖². The network is unrolled: one copy of the cell a step, "
            "all with the same weights, so that each weight's gradient is a sum over steps.",
            Code(code),
            "Three units, two inputs, six steps, random weights; in 64 bits:",
            Table("Gradients", ("of", "by hand", "automatic differentiation"), rows),
            f"The largest difference of any two numbers is {agreement.difference:.1e}.",
        ],
    )


def counting_chapter(seeds: tuple[int, ...] = (1, 2, 3, 4, 5)) -> Chapter:
    results = {seed: counting(seed) for seed in seeds}
    sequences = list(next(iter(results.values())).answers)
    header = ("sequence", "expected", *(f"seed {seed}" for seed in seeds))
    rows: list[tuple[str, ...]] = []
    for sequence in sequences:
        expected = f"{sequence[-1] + sequence[-1] - sequence[-2]}"
        answers = [f"{results[seed].answers[sequence]:.2f}" for seed in seeds]
        rows.append((", ".join(map(str, sequence)), expected, *answers))
    sections: list[str | Code | Section] = [
        "One tanh unit with a linear output is trained by Adam (0.01) for 1,000 steps on a single "
        "sequence: 1, 2, 3, 4, and then 5. It learns that.",
        Table("What it answers", header, rows),
        "It has not learnt to count. To 3, 4, 5 it says 5 again where 6 comes next; that 5 is "
        "right after 2, 3, 4 is luck, for 5 is all that it ever had to say. Its tanh is nearly "
        "saturated by any of these numbers, so that they look alike to it, and the output's weight "
        "and bias alone make the 5. A unit that began with other weights may say something else to "
        "them, and is no better. Nor can it go on: with h between −1 and 1, no answer lies further "
        "from the output's bias than its weight. That it answers 5.00 shows that training works, "
        "and nothing about what was understood: for that, ask what it wasn't trained on, as the "
        "test split of every run does.",
    ]
    return Chapter("A unit that learns 1, 2, 3, 4 → 5", sections)


def main(directory: str = ".") -> Path:
    return write_page(
        Path(directory) / "worked_examples.html",
        title="Recurrent networks by hand",
        about="What tutorials work out on paper, computed by the layers that this project's models "
        "are made of. Every number is made anew with the page.",
        chapters=[cell_chapter(), slope_chapter(), backpropagation_chapter(), counting_chapter()],
        command=COMMAND,
    )


if __name__ == "__main__":
    print(main(*sys.argv[1:]))
