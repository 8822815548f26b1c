"""Plots and tables of what was measured, to be projected: one thought each, labelled, for any
colour scheme.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.core.formatting import number
from pipelines.core.sections import Figure, Table
from pipelines.evaluate.diagnostics.advice import VANISHED, Moment, place_name, steps_until, typical
from pipelines.evaluate.diagnostics.horizon import WITHIN, Horizon, relative
from pipelines.evaluate.diagnostics.occlusion import Paths, Taken
from pipelines.evaluate.diagnostics.sample import OPEN, SHUT, Layer
from pipelines.report.plots import INK, SERIES, logarithmic

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIZE = (5.0, 3.3)
FAINTEST = 1e-8
"""Of a gradient, the share below which it isn't drawn."""


def flow_figure(moments: Sequence[Moment], reader: str, index: int) -> Figure:
    """How much of a gradient arrives so many steps back, at each moment of training."""
    layers = [moment.look.layers[reader][index] for moment in moments]
    where = place_name(reader, layers[0])

    def draw(axes: Axes) -> None:
        _curves_back(axes, moments, [typical(layer.arriving) for layer in layers])
        low, high = (typical(layers[-1].arriving, q) for q in (0.25, 0.75))
        if len(low) > 1:
            colour = _style(len(moments) - 1, len(moments))["color"]
            axes.fill_between(np.arange(len(low)), low, high, color=colour, alpha=0.15, lw=0)
        axes.axhline(VANISHED, color=INK, linestyle=":", lw=1)
        logarithmic(axes)
        bottom, top = axes.get_ylim()
        axes.set_ylim(max(bottom, FAINTEST), max(top, 2))
        axes.annotate(
            "1%: as good as gone", (0, VANISHED), (3, 3), textcoords="offset points",
            xycoords=("axes fraction", "data"), fontsize=8,
        )  # fmt: skip
        axes.set_ylabel("share of the gradient that arrives")

    caption = (
        "What the loss tells the last state, followed back through the layer's own recurrence: "
        "median over examples; the band holds the middle half of them, after training."
    )
    return Figure(f"Gradients through time: {where}", draw, caption, size=SIZE)


def told_figure(moments: Sequence[Moment], reader: str, index: int) -> Figure:
    """‖∂L/∂s_t‖ by distance from the end, by all ways."""
    layers = [moment.look.layers[reader][index] for moment in moments]

    def draw(axes: Axes) -> None:
        curves = [typical(layer.told) for layer in layers]
        _curves_back(axes, moments, [np.where(curve > 0, curve, np.nan) for curve in curves])
        top = max(np.fmax.reduce(curve, initial=0.0) for curve in curves)
        if top > 0:
            logarithmic(axes)
            low, high = axes.get_ylim()
            axes.set_ylim(max(low, FAINTEST * top), high)
        axes.set_ylabel("norm of ∂L / ∂h")

    caption = (
        "What an example's loss, in nats, tells each state, by every way there is: also straight "
        "from poolings, attention or answers that look at it. Median over examples."
    )
    title = f"What the loss tells each state: {place_name(reader, layers[0])}"
    return Figure(title, draw, caption, size=SIZE)


def _curves_back(axes: Axes, moments: Sequence[Moment], curves: Sequence[np.ndarray]) -> None:
    """A curve a moment, by the distance from the last state."""
    for place, (moment, curve) in enumerate(zip(moments, curves, strict=True)):
        style = _style(place, len(moments))
        axes.plot(np.arange(len(curve)), curve, label=moment.name, **style)
    axes.set_xlabel("steps back from the last state")
    axes.legend(fontsize=8)


def gain_figure(moments: Sequence[Moment]) -> Figure:
    """The largest singular value of the step Jacobian along real sequences."""
    rows = [
        (f"{place_name(reader, layer)}\n{moment.name}", layer.gain, place, len(moments))
        for reader in moments[0].look.layers
        for index in range(len(moments[0].look.layers[reader]))
        for place, moment in enumerate(moments)
        if place in (0, len(moments) - 1)
        for layer in [moment.look.layers[reader][index]]
    ]

    def draw(axes: Axes) -> None:
        for row, (_, gain, place, count) in enumerate(rows):
            low, first, middle, third, high = np.quantile(gain, [0.05, 0.25, 0.5, 0.75, 0.95])
            colour = _style(place, count)["color"]
            axes.plot([low, high], [row, row], color=colour, lw=1.2)
            axes.plot([first, third], [row, row], color=colour, lw=6, alpha=0.5)
            axes.plot([middle], [row], "o", color=colour)
            axes.annotate(
                number(middle), (middle, row), (0, 7), textcoords="offset points", ha="center",
                fontsize=8,
            )  # fmt: skip
        axes.axvline(1, color=INK, linestyle=":", lw=1)
        axes.set_yticks(range(len(rows)), [name for name, *_ in rows])
        axes.set_ylim(len(rows) - 0.5, -0.7)
        axes.set_xlabel("largest singular value of ∂h(t) / ∂h(t−1)")
        axes.grid(axis="y", visible=False)

    caption = (
        "How much one step can stretch a change of the state: below 1 every change shrinks, so "
        "that gradients must vanish; above 1 some may grow. Of lstm the state is h and c. Point, "
        "thick and thin line: median, middle half and 5% to 95% of steps."
    )
    return Figure("Step Jacobian", draw, caption, size=(5.0, 0.9 + 0.5 * len(rows)))


def within_figure(reader: str, horizons: Mapping[str, Horizon]) -> Figure:
    """Share of the influence that lies within so many steps."""
    answer = horizons["answer"]
    drawn = {"on the answer": answer}
    for name, found in horizons.items():
        if name != "answer":
            way = "backward " if name.startswith("backward") else ""
            drawn[f"through the last {way}state alone"] = found

    def draw(axes: Axes) -> None:
        for place, (name, found) in enumerate(drawn.items()):
            x = np.arange(len(found.within)) + 1
            colour = SERIES[place % len(SERIES)]
            axes.plot(x, found.within, color=colour, label=name, ls=("-", "--", "-.")[place % 3])
            axes.axvspan(found.low, found.high, color=colour, alpha=0.13, lw=0)
            axes.plot([found.value], [WITHIN], "o", color=colour)
        axes.axhline(WITHIN, color=INK, linestyle=":", lw=1)
        axes.set_xscale("log")
        ticks = [k for k in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000) if k <= len(answer.within)]
        axes.set_xticks(ticks, [str(k) for k in ticks])
        axes.minorticks_off()
        axes.set_ylim(0, 1.02)
        axes.set_xlabel("last steps that were read")
        axes.set_ylabel("share of the influence")
        axes.legend(fontsize=8, loc="lower right")

    caption = (
        f"{_horizon_words(answer)} Dots: where the curves reach 90%; bands: 95% intervals. If all "
        f"steps counted alike, 90% would lie within the last {answer.even:.1f}."
    )
    return Figure(f"Memory horizon: {reader}", draw, caption, size=SIZE)


def _horizon_words(found: Horizon) -> str:
    low, high = f"{found.low:.1f}", f"{found.high:.1f}"
    return (
        f"90% of an answer's dependence on what was read lies within the last "
        f"{found.value:.1f} steps ({low} to {high}), half within "
        f"{found.half:.1f}; gradients, {found.examples} examples."
    )


def influence_figure(reader: str, influence: np.ndarray, taken: Taken) -> Figure:
    """By distance, by gradient and by taking a step away; each as a share of its largest."""
    there = np.nansum(influence, axis=1) > 0
    shares = np.where(np.isfinite(influence), 1.0, np.nan)[there] * relative(influence[there])
    by_gradient = typical_mean(shares)
    moved = typical_mean(taken.moved)

    def draw(axes: Axes) -> None:
        if len(by_gradient):
            x = np.arange(len(by_gradient)) + 1
            axes.plot(x, by_gradient / max(by_gradient.max(), 1e-30), label="gradient ‖∂y/∂x‖")
        if len(moved):
            x = taken.distances[: len(moved)] + 1
            axes.plot(x, moved / max(moved.max(), 1e-30), "s--", label="taken away (occlusion)")
        axes.set_xscale("log")
        last = max(len(by_gradient), 2)
        ticks = [k for k in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000) if k <= last]
        axes.set_xticks(ticks, [str(k) for k in ticks])
        axes.minorticks_off()
        axes.set_ylim(bottom=0)
        axes.set_xlabel("step, counted back from the last one read (1)")
        axes.set_ylabel("influence, largest = 1")
        axes.legend(fontsize=8)

    caption = (
        "How much one step matters, by where it stands: the gradient says what a small change "
        "would do, occlusion what happens if the step is replaced by an unknown or by zero. Means "
        "over examples."
    )
    return Figure(f"Influence by distance: {reader}", draw, caption, size=SIZE)


def typical_mean(values: np.ndarray) -> np.ndarray:
    """(K,) mean over examples at each distance that a twentieth of them reach."""
    rows = np.isfinite(values).sum(0)
    reach = int((rows >= max(1, len(values) // 20)).sum())
    return np.nanmean(values[:, :reach], axis=0) if reach else np.zeros(0)


def paths_sections(found: Paths) -> list[Figure | Table]:
    """How much comes through attention, and how much through the state."""
    middle = np.nanmean(found.attention, axis=0)

    def draw(axes: Axes) -> None:
        x = np.arange(len(middle))
        axes.bar(x, middle, width=0.55, color=SERIES[0], label="through attention")
        axes.bar(x, 1 - middle, width=0.55, bottom=middle, color=SERIES[1], alpha=0.55,
                 label="through the first state")  # fmt: skip
        for place, share in enumerate(middle):
            axes.text(place, 1.02, f"{share:.0%} attention", ha="center", fontsize=8)
        axes.set_xticks(x, [f"after {steps:.0f}" for steps in found.written])
        axes.set_ylim(0, 1.35)
        axes.set_yticks([0, 0.25, 0.5, 0.75, 1])
        axes.set_xlabel("tokens written before the answer (mean)")
        axes.set_ylabel("share of the influence")
        axes.legend(ncols=2, loc="upper center", fontsize=8)
        axes.grid(axis="x", visible=False)

    figure = Figure(
        "Attention or state: the way of what was read",
        draw,
        "Gradients of what is written with respect to what was read, with the other way held "
        "still: early and late in what is written.",
        size=SIZE,
    )
    names = {"attention": "attention", "state": "the first state", "both": "both"}
    rows = [(names[name], number(value)) for name, value in found.nats.items()]
    header = ("without", "more nats a token of the reference")
    caption = "What is attended to, or the first state, set to 0 in a network trained with both."
    return [figure, Table("Taken away from the decoder", header, rows, caption)]


def layers_table(moments: Sequence[Moment]) -> Table:
    """Each layer at each moment, in numbers."""
    header = (
        "layer", "when", "gradient gone after", "step Jacobian", "saturated", "dead units", "gates",
    )  # fmt: skip
    rows = []
    for reader, layers in moments[0].look.layers.items():
        for index in range(len(layers)):
            for moment in moments:
                layer = moment.look.layers[reader][index]
                gone, _ = steps_until(layer.arriving)
                reach = len(typical(layer.arriving))
                rows.append(
                    (
                        place_name(reader, layer),
                        moment.name,
                        f"{gone} steps" if gone is not None else f"more than {max(reach - 1, 0)}",
                        number(float(np.median(layer.gain))),
                        f"{layer.saturated:.1%}",
                        f"{layer.dead:.1%}",
                        _gates(layer),
                    )
                )
    caption = (
        "Gone: 1% is left. Saturated: activations whose slope is below a tenth of its peak; dead: "
        f"units that are so at every step. Gates: shares of values above {OPEN} (open) and below "
        f"{SHUT} (shut); of a GRU an open update gate keeps the state, of an LSTM an open forget "
        "gate."
    )
    return Table("Layers", header, rows, caption)


def _gates(layer: Layer) -> str:
    parts = [f"{name} {o:.0%} open, {s:.0%} shut" for name, (o, s) in layer.gates.items()]
    return "; ".join(parts) or "none"


def _style(place: int, count: int) -> dict[str, Any]:
    """Before training, dashed; in between, thin; after training, full."""
    if place == 0 and count > 1:
        return {"color": SERIES[1], "linestyle": "--"}
    if place == count - 1:
        return {"color": SERIES[0], "linestyle": "-"}
    return {"color": SERIES[2 + (place - 1) % 4], "linestyle": ":", "linewidth": 1.2}
