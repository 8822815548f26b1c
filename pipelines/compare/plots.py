"""A leaderboard's figures: intervals, learning curves, what quality costs, what settings do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.compare.importance import is_wide, quantity
from pipelines.compare.ranking import Board, Configuration, front, short_value
from pipelines.compare.run_records import FINISHED, Record
from pipelines.core.formatting import capitalized, label, number, short
from pipelines.core.sections import Figure
from pipelines.report.plots import INK, SERIES, logarithmic, shortened

MOST_RANKED = 20
"""Configurations in the figure of intervals."""

MOST_COLOURED = len(SERIES)

COST_LABELS = {
    "milliseconds": "milliseconds a prediction",
    "parameters": "parameters",
    "seconds": "seconds of training",
    "memory": "peak memory, MB",
}

_DASHES = ("-", "--", ":", "-.", (0, (5, 1)), (0, (1, 1)))


def ranking(board: Board) -> Figure:
    """The best configurations by their score, with their intervals; the winner in colour."""
    shown = board.scored[:MOST_RANKED]

    def draw(axes: Any) -> None:
        for place, one in enumerate(shown):
            found = one.score(board.ranked_on, board.score)
            colour = SERIES[0] if place == 0 else INK
            if found is None:
                continue
            axes.plot([found.low, found.high], [place, place], color=colour, linewidth=3, alpha=0.4)
            axes.plot([found.mean], [place], "o" if place == 0 else "D", color=colour, markersize=6)
            axes.annotate(
                number(found.mean, board.score),
                (found.mean, place),
                (0, 6),
                textcoords="offset points",
                ha="center",
                fontsize=8,
            )
        axes.set_yticks(range(len(shown)), [_ranked(*one) for one in enumerate(shown)])
        axes.set_ylim(len(shown) - 0.5, -0.75)
        axes.margins(x=0.08)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel(f"{board.ranked_on} {label(board.score)}")

    title = "The best configurations" if len(board.scored) > MOST_RANKED else "Scores"
    return Figure(title, draw, size=(6.0, 0.75 + 0.42 * len(shown)))


def curves(board: Board) -> Figure | None:
    """The score over epochs, a line a run: the best configurations in colour, the rest grey."""
    key = f"validation.{board.score}"
    lines = [(record, _curve(record, key)) for record in board.records]
    lines = [(record, points) for record, points in lines if points]
    if not lines:
        return None
    best = board.scored[:MOST_COLOURED]

    def draw(axes: Any) -> None:
        from matplotlib.ticker import MaxNLocator

        coloured = {id(record): place for place, one in enumerate(best) for record in one.records}
        named: set[int] = set()
        for record, points in sorted(lines, key=lambda line: id(line[0]) in coloured):
            place = coloured.get(id(record))
            style: dict[str, Any] = {"color": INK, "alpha": 0.2, "linewidth": 0.9}
            if place is not None:
                style = {"color": SERIES[place], "linestyle": _DASHES[place]}
                if place not in named:
                    named.add(place)
                    style["label"] = _ranked(place, best[place])
            axes.plot(*zip(*points, strict=True), **style)
            if len(points) == 1 or record.state != FINISHED:
                axes.plot(*points[-1], "x" if record.state != FINISHED else "o", **_bare(style))
        axes.set_xlabel("epoch")
        axes.set_ylabel(label(board.score))
        axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1))
        handles = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
        names = [_ranked(place, one) for place, one in enumerate(best)]
        names = [name for name in names if name in handles]
        axes.legend(
            [handles[name] for name in names], names, loc="upper left", bbox_to_anchor=(0, -0.16)
        )

    caption = (
        "On validation, while training. A line is a run; grey ones are of other configurations, "
        "and a cross is where one was stopped."
    )
    return Figure(f"Learning curves: {label(board.score)}", draw, caption, size=(6.0, 4.6))


def _ranked(place: int, one: Configuration) -> str:
    return shortened(f"{place + 1}. {one.name}", 44)


def _bare(style: Mapping[str, Any]) -> dict[str, Any]:
    return {key: style[key] for key in ("color", "alpha") if key in style}


def _curve(record: Record, key: str) -> list[tuple[float, float]]:
    rows = [row for row in record.history if isinstance(row.get(key), int | float)]
    return [(row.get("epoch", place), row[key]) for place, row in enumerate(rows, 1)]


def cost_figures(board: Board) -> list[Figure]:
    """What a score costs, one figure a cost; the line joins what no other configuration beats."""
    found = []
    for cost, title in COST_LABELS.items():
        pairs = [(one, one.cost(cost)) for one in board.scored]
        known = [(one, value) for one, value in pairs if value is not None]
        if len({value for _, value in known}) > 1:
            found.append(_cost_figure(board, cost, title, known))
    return found


def _cost_figure(
    board: Board, cost: str, title: str, known: Sequence[tuple[Configuration, float]]
) -> Figure:
    points = [(value, board.ranked_value(one)) for one, value in known]
    unbeaten = front(points, maximize=board.maximize)

    def draw(axes: Any) -> None:
        others = [point for place, point in enumerate(points) if place not in unbeaten]
        if others:
            axes.plot(*zip(*others, strict=True), "D", color=INK, alpha=0.35, markersize=4)
        edge = [points[place] for place in unbeaten]
        axes.plot(*zip(*edge, strict=True), "o-", color=SERIES[0], drawstyle="steps-post")
        for letter, place in zip(_letters(len(unbeaten)), unbeaten, strict=True):
            axes.annotate(
                letter,
                points[place],
                (4, 5),
                textcoords="offset points",
                fontsize=8,
                color=SERIES[0],
            )
        if is_wide([value for value, _ in points]):
            logarithmic(axes, "x")
        if cost == "parameters":
            axes.xaxis.set_major_formatter(lambda value, _: short(value))
            axes.minorticks_off()
        axes.margins(0.1)
        axes.set_xlabel(title)
        axes.set_ylabel(f"{board.ranked_on} {label(board.score)}")

    names = [
        f"{letter}: {known[place][0].name}"
        for letter, place in zip(_letters(len(unbeaten)), unbeaten, strict=True)
    ]
    caption = f"On the line nothing is both better and cheaper. {'; '.join(names)}."
    return Figure(f"{capitalized(label(board.score))} and {cost}", draw, caption, size=(4.4, 3.0))


def _letters(count: int) -> list[str]:
    return [chr(ord("A") + place) if place < 26 else str(place) for place in range(count)]


def importance_figure(shares: Mapping[str, float]) -> Figure | None:
    if not shares:
        return None
    names = list(shares)

    def draw(axes: Any) -> None:
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
        "By fANOVA over all runs, pruned ones by what they had reached: what each setting alone, "
        "and with others, explains. With few runs, take it as a hint."
    )
    return Figure("Which settings matter", draw, caption, size=(4.8, 0.8 + 0.4 * len(names)))


def slices(board: Board, keys: Sequence[str]) -> list[Figure]:
    """The score by each setting alone, a point a configuration, a cross a pruned run."""
    return [_slice(board, key) for key in keys if key in board.searched]


def _slice(board: Board, key: str) -> Figure:
    count = len(board.scored)
    texts = [one.records[0].setting(key) for one in board.scored]
    texts += [record.setting(key) for record, _ in board.pruned]
    scores = [board.ranked_value(one) for one in board.scored]
    scores += [value for _, value in board.pruned]
    numbers = quantity(texts)
    choices = sorted(set(texts), key=_in_order)

    def draw(axes: Any) -> None:
        places = numbers or [choices.index(text) for text in texts]
        axes.plot(places[count:], scores[count:], "x", color=INK, alpha=0.4)
        axes.plot(places[:count], scores[:count], "o", color=SERIES[0], alpha=0.6)
        axes.plot(places[:1], scores[:1], "o", color=SERIES[1], markersize=7)
        if numbers is None:
            names = [shortened(short_value(text), 14) for text in choices]
            turned = {"rotation": 35, "ha": "right"} if sum(map(len, names)) > 28 else {}
            axes.set_xticks(range(len(choices)), names, **turned)
            axes.set_xlim(-0.5, len(choices) - 0.5)
        elif is_wide(numbers):
            logarithmic(axes, "x")
        axes.set_ylabel(label(board.score))

    return Figure(key, draw, size=(3.4, 2.5))


def _in_order(text: str) -> tuple[bool, float, str]:
    """Numbers by size, then words by the alphabet."""
    try:
        return (False, float(text), text)
    except ValueError:
        return (True, 0.0, text)
