"""A leaderboard's figures: intervals, learning curves, costs, importances and slices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pipelines.compare.importance import needs_log_scale, parse_quantity
from pipelines.compare.ranking import Configuration, Ranking, pareto_front, short_value
from pipelines.compare.run_records import FINISHED, Record
from pipelines.core.formatting import abbreviate, capitalize, number
from pipelines.core.sections import Figure
from pipelines.report.plots import INK, SERIES, set_log_scale, shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_RANKED = 20
"""Configurations in the figure of intervals."""

MAX_COLOURED = len(SERIES)

COST_LABELS = {
    "milliseconds": "milliseconds a prediction",
    "parameters": "parameters",
    "seconds": "seconds of training",
    "memory": "peak memory, MB",
}

_DASHES = ("-", "--", ":", "-.", (0, (5, 1)), (0, (1, 1)))


def ranking_figure(ranking: Ranking) -> Figure:
    """Scores of the best configurations with their intervals; the winner in colour."""
    best = ranking.scored[:MAX_RANKED]

    def draw(axes: Axes) -> None:
        for place, configuration in enumerate(best):
            interval = configuration.score(ranking.ranked_on, ranking.score)
            colour = SERIES[0] if place == 0 else INK
            if interval is None:
                continue
            span = [interval.low, interval.high]
            marker = "o" if place == 0 else "D"
            axes.plot(span, [place, place], color=colour, linewidth=3, alpha=0.4)
            axes.plot([interval.mean], [place], marker, color=colour, markersize=6)
            axes.annotate(
                number(interval.mean, ranking.metric),
                (interval.mean, place),
                (0, 6),
                textcoords="offset points",
                ha="center",
                fontsize=8,
            )
        axes.set_yticks(range(len(best)), [_legend_label(*entry) for entry in enumerate(best)])
        axes.set_ylim(len(best) - 0.5, -0.75)
        axes.margins(x=0.08)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel(f"{ranking.ranked_on} {ranking.metric.label}")

    title = "The best configurations" if len(ranking.scored) > MAX_RANKED else "Scores"
    return Figure(title, draw, size=(6.0, 0.75 + 0.42 * len(best)))


def learning_curves_figure(ranking: Ranking) -> Figure | None:
    """The score by epoch, one line per run; the best configurations in colour, others grey."""
    key = f"validation.{ranking.score}"
    lines = [(record, _curve(record, key)) for record in ranking.records]
    lines = [(record, points) for record, points in lines if points]
    if not lines:
        return None
    best = ranking.scored[:MAX_COLOURED]

    def draw(axes: Axes) -> None:
        from matplotlib.ticker import MaxNLocator

        places = {
            id(record): place
            for place, configuration in enumerate(best)
            for record in configuration.records
        }
        labelled: set[int] = set()
        for record, points in sorted(lines, key=lambda line: id(line[0]) in places):
            place = places.get(id(record))
            style: dict[str, Any] = {"color": INK, "alpha": 0.2, "linewidth": 0.9}
            if place is not None:
                style = {"color": SERIES[place], "linestyle": _DASHES[place]}
                if place not in labelled:
                    labelled.add(place)
                    style["label"] = _legend_label(place, best[place])
            axes.plot(*zip(*points, strict=True), **style)
            if len(points) == 1 or record.state != FINISHED:
                axes.plot(
                    *points[-1], "x" if record.state != FINISHED else "o", **_marker_style(style)
                )
        axes.set_xlabel("epoch")
        axes.set_ylabel(ranking.metric.label)
        axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1))
        handles = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
        names = [_legend_label(place, configuration) for place, configuration in enumerate(best)]
        names = [name for name in names if name in handles]
        axes.legend(
            [handles[name] for name in names], names, loc="upper left", bbox_to_anchor=(0, -0.16)
        )

    caption = (
        "On validation, during training. A line is a run; grey lines belong to other "
        "configurations, and a cross marks where a run was stopped."
    )
    return Figure(f"Learning curves: {ranking.metric.label}", draw, caption, size=(6.0, 4.6))


def _legend_label(place: int, configuration: Configuration) -> str:
    return shorten(f"{place + 1}. {configuration.name}", 44)


def _marker_style(style: Mapping[str, Any]) -> dict[str, Any]:
    return {key: style[key] for key in ("color", "alpha") if key in style}


def _curve(record: Record, key: str) -> list[tuple[float, float]]:
    rows = [row for row in record.history if isinstance(row.get(key), int | float)]
    return [(row.get("epoch", place), row[key]) for place, row in enumerate(rows, 1)]


def cost_figures(ranking: Ranking) -> list[Figure]:
    """Scores by cost, one figure per cost; the line is the Pareto front."""
    figures = []
    for cost, title in COST_LABELS.items():
        pairs = [(configuration, configuration.cost(cost)) for configuration in ranking.scored]
        costs = [(configuration, value) for configuration, value in pairs if value is not None]
        if len({value for _, value in costs}) > 1:
            figures.append(_cost_figure(ranking, cost, title, costs))
    return figures


def _cost_figure(
    ranking: Ranking, cost: str, title: str, costs: Sequence[tuple[Configuration, float]]
) -> Figure:
    points = [(value, ranking.ranked_value(configuration)) for configuration, value in costs]
    front = pareto_front(points, maximize=ranking.maximize)

    def draw(axes: Axes) -> None:
        others = [point for place, point in enumerate(points) if place not in front]
        if others:
            axes.plot(*zip(*others, strict=True), "D", color=INK, alpha=0.35, markersize=4)
        x, y = zip(*[points[place] for place in front], strict=True)
        axes.plot(x, y, "o-", color=SERIES[0], drawstyle="steps-post")
        for letter, place in zip(_letters(len(front)), front, strict=True):
            axes.annotate(
                letter,
                points[place],
                (4, 5),
                textcoords="offset points",
                fontsize=8,
                color=SERIES[0],
            )
        if needs_log_scale([value for value, _ in points]):
            set_log_scale(axes, "x")
        if cost == "parameters":
            axes.xaxis.set_major_formatter(lambda value, _: abbreviate(value))
            axes.minorticks_off()
        axes.margins(0.1)
        axes.set_xlabel(title)
        axes.set_ylabel(f"{ranking.ranked_on} {ranking.metric.label}")

    names = [
        f"{letter}: {costs[place][0].name}"
        for letter, place in zip(_letters(len(front)), front, strict=True)
    ]
    front_line = "The line is the Pareto front: nothing is both better and cheaper."
    if len(front) == 1:
        front_line = "One is both the best and the cheapest."
    caption = f"{front_line} {'; '.join(names)}."
    return Figure(f"{capitalize(ranking.metric.label)} and {cost}", draw, caption, size=(4.4, 3.0))


def _letters(count: int) -> list[str]:
    return [chr(ord("A") + place) if place < 26 else str(place) for place in range(count)]


def importance_figure(shares: Mapping[str, float]) -> Figure | None:
    if not shares:
        return None
    names = list(shares)

    def draw(axes: Axes) -> None:
        axes.barh(range(len(names)), [shares[name] for name in names], color=SERIES[0], height=0.55)
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.4, -0.6)
        for place, name in enumerate(names):
            axes.annotate(
                f"{100 * shares[name]:.0f} %",
                (shares[name], place),
                (4, 0),
                textcoords="offset points",
                va="center",
                fontsize=8,
            )
        axes.set_xlim(0, 1.12 * max(shares.values()))
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("share of the variance of the scores")

    caption = (
        "By fANOVA over all runs, pruned ones with the best value that they had reached: the share "
        "that each setting explains alone and with others. With few runs it is only a hint."
    )
    return Figure("Which settings matter", draw, caption, size=(4.8, 0.8 + 0.4 * len(names)))


def slice_figures(ranking: Ranking, keys: Sequence[str]) -> list[Figure]:
    """Scores by each setting alone; a point is a configuration, a cross a pruned run."""
    return [_slice(ranking, key) for key in keys if key in ranking.searched]


def _slice(ranking: Ranking, key: str) -> Figure:
    count = len(ranking.scored)
    texts = [configuration.records[0].setting(key) for configuration in ranking.scored]
    texts += [record.setting(key) for record, _ in ranking.pruned]
    scores = [ranking.ranked_value(configuration) for configuration in ranking.scored]
    scores += [value for _, value in ranking.pruned]
    numbers = parse_quantity(texts)
    choices = sorted(set(texts), key=_sort_key)

    def draw(axes: Axes) -> None:
        places = numbers or [choices.index(text) for text in texts]
        axes.plot(places[count:], scores[count:], "x", color=INK, alpha=0.4)
        axes.plot(places[:count], scores[:count], "o", color=SERIES[0], alpha=0.6)
        axes.plot(places[:1], scores[:1], "o", color=SERIES[1], markersize=7)
        if numbers is None:
            names = [shorten(short_value(text), 14) for text in choices]
            is_long = sum(map(len, names)) > 28
            rotation: dict[str, Any] = {"rotation": 35, "ha": "right"} if is_long else {}
            axes.set_xticks(range(len(choices)), names, **rotation)
            axes.set_xlim(-0.5, len(choices) - 0.5)
        elif needs_log_scale(numbers):
            set_log_scale(axes, "x")
        axes.set_ylabel(ranking.metric.label)

    return Figure(key, draw, size=(3.4, 2.5))


def _sort_key(text: str) -> tuple[bool, float, str]:
    """A sort key: numbers by size, then texts alphabetically."""
    try:
        return (False, float(text), text)
    except ValueError:
        return (True, 0.0, text)
