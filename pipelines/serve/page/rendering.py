"""Outputs as HTML.

Explanations are drawn where outputs of known names and numbers of axes are all there: see VIEWS.
All others are shown by their type and axes: texts, sequences side by side, curves, numbers. So a
new task needs nothing here. Everything that a model or a person wrote is escaped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from pipelines.serve.page.attention import render_attended_image, render_heat_map
from pipelines.serve.page.tokens import (
    decode,
    escape_text,
    format_percent,
    has_gaps,
    show_token,
    starts_word,
    strip_padding,
)
from pipelines.serve.page.values import render_sequences, render_values

MAX_BARS = 10
"""Labels with a bar of their own; a model may have hundreds."""

STRONG_WEIGHT = 0.25
"""Share of the largest weight from which a token is marked as important."""


@dataclass(frozen=True)
class View:
    """A way to draw some outputs together. axes: of each output by name, without the rows."""

    render: Callable[..., str]
    axes: Mapping[str, int]

    def matches(self, outputs: Mapping[str, np.ndarray]) -> bool:
        return all(name in outputs and outputs[name].ndim == n for name, n in self.axes.items())


def render_outputs(columns: Mapping[str, np.ndarray]) -> str:
    """The outputs for one row, as HTML.

    columns  by name; with the rows on the first axis, where there is one.
    """
    outputs = {name: _first_row(values) for name, values in columns.items()}
    rendered: set[str] = {"tokens", "source_tokens"} if "attention" in outputs else set()
    parts: list[str] = []
    for view in VIEWS:
        if view.matches(outputs):
            parts.append(view.render(**{name: outputs[name] for name in view.axes}))
            rendered |= view.axes.keys()
    texts, rest = _render_texts({n: value for n, value in outputs.items() if n not in rendered})
    if texts:
        rest.pop("attention", None)  # of a model without attention, it is empty
    sequences, rest = render_sequences(rest)
    return "".join([*texts, *parts, sequences, render_values(rest)])


def _first_row(values: np.ndarray) -> np.ndarray:
    # Indexing an array of objects would give the object, not an array without axes.
    return values[0, ...] if values.ndim else values


def render_bars(label: np.ndarray, labels: np.ndarray, probabilities: np.ndarray) -> str:
    """The label, and a bar for each probability, the largest first."""
    order = np.argsort(-probabilities, kind="stable")
    rows = [_render_bar(decode(labels[i]), float(probabilities[i])) for i in order[:MAX_BARS]]
    rest = order[MAX_BARS:]
    if len(rest):
        share = float(probabilities[rest].sum())
        rows.append(_render_bar(f"{len(rest)} more labels together", share))
    return (
        f'<p class="output" dir="auto">{escape_text(label[()])}</p>'
        f'<table class="bars"><caption>Probabilities</caption>{"".join(rows)}</table>'
    )


def _render_bar(name: str, share: float) -> str:
    return (
        f'<tr><th scope="row"><span dir="auto">{escape(name)}</span></th>'
        '<td class="bar" aria-hidden="true">'
        f'<span style="inline-size:{100 * share:.2f}%"></span></td>'
        f'<td class="number">{format_percent(share)}</td></tr>'
    )


def render_token_weights(tokens: np.ndarray, weights: np.ndarray) -> str:
    """The input's tokens, coloured by how much each speaks for the prediction or against it."""
    texts = strip_padding(tokens)
    gaps = has_gaps(texts)
    spans = []
    for text, weight in zip(texts, weights.tolist(), strict=False):
        side = "for" if weight >= 0 else "against"
        marked = f"{side} much" if abs(weight) >= STRONG_WEIGHT else side
        gap = " " if gaps or starts_word(text) else ""
        spans.append(
            f'{gap}<span class="{marked}" style="--weight:{abs(weight):.3f}" '
            f'title="{weight:+.2f}">{show_token(text)}</span>'
        )
    return (
        '<section><h3>The words that mattered</h3><p class="passage" dir="auto">'
        f"{''.join(spans).strip()}</p>"
        '<p class="legend"><span class="for much" style="--weight:1">for the prediction</span> '
        '<span class="against much" style="--weight:1">against it</span>, '
        "by gradient times input</p></section>"
    )


VIEWS = (
    View(render_bars, {"label": 0, "labels": 1, "probabilities": 1}),
    View(render_token_weights, {"tokens": 1, "weights": 1}),
    View(render_heat_map, {"tokens": 1, "source_tokens": 1, "attention": 2}),
    View(render_attended_image, {"tokens": 1, "attention": 2, "grid": 1, "seen_bytes": 0}),
)


def _render_texts(
    outputs: Mapping[str, np.ndarray],
) -> tuple[list[str], dict[str, np.ndarray]]:
    """Texts with their scores, each with its n best, which are named like it with an s; the rest.

    A text `translation` goes with `score`, its n best `translations` with `scores`.
    """
    rest = dict(outputs)
    parts = []
    for name, value in outputs.items():
        if value.dtype != object or value.ndim or name.endswith("_bytes"):
            continue
        score = (
            f'<p class="score">score {float(outputs["score"]):.3f}</p>' if "score" in rest else ""
        )
        text = escape_text(value[()]) or '<span class="empty">empty</span>'
        parts.append(f'<p class="output" dir="auto">{text}</p>{score}')
        n_best = outputs.get(f"{name}s")
        if n_best is not None and n_best.ndim == 1 and "scores" in outputs:
            parts.append(_render_n_best(n_best.tolist(), outputs["scores"].tolist()))
            rest.pop(f"{name}s")
            rest.pop("scores", None)
        rest.pop(name)
        rest.pop("score", None)
    return parts, rest


def _render_n_best(texts: Sequence[bytes], scores: Sequence[float]) -> str:
    if len(texts) < 2:
        return ""
    rows = "".join(
        f'<li><span dir="auto">{escape_text(text) or "–"}</span> '
        f'<span class="number">{score:.3f}</span></li>'
        for text, score in zip(texts, scores, strict=True)
    )
    return f"<section><h3>The {len(texts)} best</h3><ol>{rows}</ol></section>"
