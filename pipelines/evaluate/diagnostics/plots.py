"""Figures and tables of the diagnostics; each shows one thing, in any colour scheme."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.core.formatting import number
from pipelines.core.sections import Figure, Table
from pipelines.evaluate.diagnostics.advice import (
    VANISHED_SHARE,
    Moment,
    place_name,
    steps_until,
    typical_curve,
)
from pipelines.evaluate.diagnostics.horizon import HORIZON_SHARE, Horizon, normalize_rows
from pipelines.evaluate.diagnostics.occlusion import Occlusion, Paths
from pipelines.evaluate.diagnostics.sample import OPEN, SHUT, Layer
from pipelines.report.plots import INK, SERIES, set_log_scale

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIZE = (5.0, 3.3)
MIN_DRAWN_SHARE = 1e-8
"""Smaller shares of a gradient aren't drawn."""


def flow_figure(moments: Sequence[Moment], reader: str, index: int) -> Figure:
    """The share of a gradient that arrives k steps back, one curve a moment of training."""
    layers = [moment.inspection.layers[reader][index] for moment in moments]
    where = place_name(reader, layers[0])

    def draw(axes: Axes) -> None:
        _curves_back(axes, moments, [typical_curve(layer.gradient_flow) for layer in layers])
        low, high = (typical_curve(layers[-1].gradient_flow, q) for q in (0.25, 0.75))
        if len(low) > 1:
            colour = _style(len(moments) - 1, len(moments))["color"]
            axes.fill_between(np.arange(len(low)), low, high, color=colour, alpha=0.15, lw=0)
        axes.axhline(VANISHED_SHARE, color=INK, linestyle=":", lw=1)
        set_log_scale(axes)
        bottom, top = axes.get_ylim()
        axes.set_ylim(max(bottom, MIN_DRAWN_SHARE), max(top, 2))
        axes.annotate(
            "1%: vanished", (0, VANISHED_SHARE), (3, 3), textcoords="offset points",
            xycoords=("axes fraction", "data"), fontsize=8,
        )  # fmt: skip
        axes.set_ylabel("share of the gradient that arrives")

    caption = (
        "The last state's gradient on its way back through the layer's own recurrence. Curves are "
        "medians over examples; the band holds the middle half of them, after training."
    )
    return Figure(f"Gradients through time: {where}", draw, caption, size=SIZE)


def loss_gradient_figure(moments: Sequence[Moment], reader: str, index: int) -> Figure:
    """‖∂L/∂s_t‖ by steps back from the end, through all paths."""
    layers = [moment.inspection.layers[reader][index] for moment in moments]

    def draw(axes: Axes) -> None:
        curves = [typical_curve(layer.loss_gradient) for layer in layers]
        _curves_back(axes, moments, [np.where(curve > 0, curve, np.nan) for curve in curves])
        top = max(np.fmax.reduce(curve, initial=0.0) for curve in curves)
        if top > 0:
            set_log_scale(axes)
            low, high = axes.get_ylim()
            axes.set_ylim(max(low, MIN_DRAWN_SHARE * top), high)
        axes.set_ylabel("norm of ∂L / ∂h")

    caption = (
        "The gradient of an example's loss in nats, with respect to each state, by all paths: "
        "recurrence, pooling, attention and answers. Median over examples."
    )
    title = f"Gradient of the loss by state: {place_name(reader, layers[0])}"
    return Figure(title, draw, caption, size=SIZE)


def _curves_back(axes: Axes, moments: Sequence[Moment], curves: Sequence[np.ndarray]) -> None:
    """Draws one curve for each moment, by steps back from the last state."""
    for place, (moment, curve) in enumerate(zip(moments, curves, strict=True)):
        style = _style(place, len(moments))
        axes.plot(np.arange(len(curve)), curve, label=moment.name, **style)
    axes.set_xlabel("steps back from the last state")
    axes.legend(fontsize=8)


def gain_figure(moments: Sequence[Moment]) -> Figure:
    """The largest singular value of the Jacobian of one step, at steps of real sequences."""
    rows = [
        (f"{place_name(reader, layer)}\n{moment.name}", layer.gain, place, len(moments))
        for reader in moments[0].inspection.layers
        for index in range(len(moments[0].inspection.layers[reader]))
        for place, moment in enumerate(moments)
        if place in (0, len(moments) - 1)
        for layer in [moment.inspection.layers[reader][index]]
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
        "How much one step can stretch a change of the state. Below 1 every change shrinks, so "
        "gradients must vanish; above 1 some changes may grow. The state of an LSTM is h and c. "
        "Point, thick and thin line: median, middle half, and 5% to 95% of the steps."
    )
    return Figure("Step Jacobian", draw, caption, size=(5.0, 0.9 + 0.5 * len(rows)))


def horizon_figure(reader: str, horizons: Mapping[str, Horizon]) -> Figure:
    """The share of the influence that the last k steps hold."""
    answer = horizons["answer"]
    curves = {"on the answer": answer}
    for name, horizon in horizons.items():
        if name != "answer":
            way = "backward " if name.startswith("backward") else ""
            curves[f"through the last {way}state alone"] = horizon

    def draw(axes: Axes) -> None:
        for place, (name, horizon) in enumerate(curves.items()):
            x = np.arange(len(horizon.within)) + 1
            colour = SERIES[place % len(SERIES)]
            axes.plot(x, horizon.within, color=colour, label=name, ls=("-", "--", "-.")[place % 3])
            axes.axvspan(horizon.low, horizon.high, color=colour, alpha=0.13, lw=0)
            axes.plot([horizon.value], [HORIZON_SHARE], "o", color=colour)
        axes.axhline(HORIZON_SHARE, color=INK, linestyle=":", lw=1)
        axes.set_xscale("log")
        ticks = [k for k in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000) if k <= len(answer.within)]
        axes.set_xticks(ticks, [str(k) for k in ticks])
        axes.minorticks_off()
        axes.set_ylim(0, 1.02)
        axes.set_xlabel("last steps of the input")
        axes.set_ylabel("share of the influence")
        axes.legend(fontsize=8, loc="lower right")

    caption = (
        f"{_horizon_words(answer)} Dots show where curves reach 90%, bands are 95% intervals. With "
        f"equal influence of all steps, 90% would lie within the last {answer.even:.1f} steps."
    )
    return Figure(f"Memory horizon: {reader}", draw, caption, size=SIZE)


def _horizon_words(horizon: Horizon) -> str:
    low, high = f"{horizon.low:.1f}", f"{horizon.high:.1f}"
    return (
        f"90% of an answer's dependence on the input lies within the last {horizon.value:.1f} "
        f"steps ({low} to {high}), and half of it within {horizon.half:.1f}, by gradients on "
        f"{horizon.examples} examples."
    )


def influence_figure(reader: str, influence: np.ndarray, occlusion: Occlusion) -> Figure:
    """Influence by steps back, by gradient and by occlusion, each relative to its maximum."""
    there = np.nansum(influence, axis=1) > 0
    shares = np.where(np.isfinite(influence), 1.0, np.nan)[there] * normalize_rows(influence[there])
    by_gradient = mean_curve(shares)
    change = mean_curve(occlusion.change)

    def draw(axes: Axes) -> None:
        if len(by_gradient):
            x = np.arange(len(by_gradient)) + 1
            axes.plot(x, by_gradient / max(by_gradient.max(), 1e-30), label="gradient ‖∂y/∂x‖")
        if len(change):
            x = occlusion.distances[: len(change)] + 1
            axes.plot(x, change / max(change.max(), 1e-30), "s--", label="occlusion")
        axes.set_xscale("log")
        last = max(len(by_gradient), 2)
        ticks = [k for k in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000) if k <= last]
        axes.set_xticks(ticks, [str(k) for k in ticks])
        axes.minorticks_off()
        axes.set_ylim(bottom=0)
        axes.set_xlabel("step, counted back from the last one (1)")
        axes.set_ylabel("influence, largest = 1")
        axes.legend(fontsize=8)

    caption = (
        "How much one step matters, by its distance from the end. The gradient measures the effect "
        "of a small change; occlusion replaces the step by an unknown token or by zero. Means over "
        "examples."
    )
    return Figure(f"Influence by distance: {reader}", draw, caption, size=SIZE)


def mean_curve(values: np.ndarray) -> np.ndarray:
    """Mean over examples of (B, K), at each distance that a twentieth of them reach: (K,)."""
    rows = np.isfinite(values).sum(0)
    reach = int((rows >= max(1, len(values) // 20)).sum())
    return np.nanmean(values[:, :reach], axis=0) if reach else np.zeros(0)


def paths_sections(paths: Paths) -> list[Figure | Table]:
    """Shares of attention and the state in the influence of the input, and losses without them."""
    middle = np.nanmean(paths.attention, axis=0)

    def draw(axes: Axes) -> None:
        x = np.arange(len(middle))
        axes.bar(x, middle, width=0.55, color=SERIES[0], label="through attention")
        axes.bar(x, 1 - middle, width=0.55, bottom=middle, color=SERIES[1], alpha=0.55,
                 label="through the first state")  # fmt: skip
        for place, share in enumerate(middle):
            axes.text(place, 1.02, f"{share:.0%} attention", ha="center", fontsize=8)
        axes.set_xticks(x, [f"after {steps:.0f}" for steps in paths.written])
        axes.set_ylim(0, 1.35)
        axes.set_yticks([0, 0.25, 0.5, 0.75, 1])
        axes.set_xlabel("tokens generated before the answer (mean)")
        axes.set_ylabel("share of the influence")
        axes.legend(ncols=2, loc="upper center", fontsize=8)
        axes.grid(axis="x", visible=False)

    figure = Figure(
        "Attention or state: the path of the input",
        draw,
        "Gradients of the output with respect to the input through each of the two paths alone, "
        "early and late in the output.",
        size=SIZE,
    )
    names = {"attention": "attention", "state": "the first state", "both": "both"}
    rows = [(names[name], number(value)) for name, value in paths.nats.items()]
    header = ("without", "rise of the loss, nats a token")
    caption = "The attended memory, or the first state, is set to 0 in a network trained with both."
    return [figure, Table("Decoder without attention or state", header, rows, caption)]


def layers_table(moments: Sequence[Moment]) -> Table:
    """One row for each layer and moment."""
    header = (
        "layer", "when", "gradient vanishes after", "step Jacobian", "saturated", "dead units",
        "gates",
    )  # fmt: skip
    rows = []
    for reader, layers in moments[0].inspection.layers.items():
        for index in range(len(layers)):
            for moment in moments:
                layer = moment.inspection.layers[reader][index]
                gone, _ = steps_until(layer.gradient_flow)
                reach = len(typical_curve(layer.gradient_flow))
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
        "Vanished: 1% is left. Saturated: activations whose slope is below a tenth of its maximum; "
        f"dead: units saturated at every step. Gates: shares of values above {OPEN} (open) and "
        f"below {SHUT} (shut). An open update gate of a GRU, and an open forget gate of an LSTM, "
        "keeps the state."
    )
    return Table("Layers", header, rows, caption)


def _gates(layer: Layer) -> str:
    parts = [f"{name} {o:.0%} open, {s:.0%} shut" for name, (o, s) in layer.gates.items()]
    return "; ".join(parts) or "none"


def _style(place: int, count: int) -> dict[str, Any]:
    """Line style: dashed before training, thin in between, full after training."""
    if place == 0 and count > 1:
        return {"color": SERIES[1], "linestyle": "--"}
    if place == count - 1:
        return {"color": SERIES[0], "linestyle": "-"}
    return {"color": SERIES[2 + (place - 1) % 4], "linestyle": ":", "linewidth": 1.2}
