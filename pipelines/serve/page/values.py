"""Outputs of which nothing is known but their type and axes, as HTML."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

import numpy as np

from pipelines.serve.page.tokens import decode, show_token, strip_padding

MAX_COLUMNS = 200
"""Steps of sequences that are shown side by side."""

SHOWN_VALUES = 40
"""Values of an array that are written out; of a larger one only the first and the last."""

MIN_CURVE_STEPS = 4
"""Steps from which numbers are drawn as a curve, too."""

WIDTH, HEIGHT = 600, 120
COLOURS = ("var(--accent)", "var(--against)", "var(--quiet)", "var(--bad)")


def render_sequences(
    outputs: Mapping[str, np.ndarray],
) -> tuple[str, dict[str, np.ndarray]]:
    """Sequences of text with equally many steps, such as tokens and their tags, as one table.

    Returns the table, and the outputs that are not in it.
    """
    texts = {
        name: strip_padding(values)
        for name, values in outputs.items()
        if values.dtype == object and values.ndim == 1
    }
    steps = max(map(len, texts.values()), default=0)
    # Padding is stripped by its emptiness, so a shorter sequence is another one, not a padded one.
    aligned = {name: tokens for name, tokens in texts.items() if len(tokens) == steps}
    if len(aligned) < 2 or not steps:
        return "", dict(outputs)
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th>'
        + "".join(f'<td dir="auto">{show_token(token)}</td>' for token in tokens[:MAX_COLUMNS])
        + "</tr>"
        for name, tokens in aligned.items()
    )
    table = f'<div class="scrolls" tabindex="0"><table class="aligned">{rows}</table></div>'
    return table, {name: values for name, values in outputs.items() if name not in aligned}


def render_values(outputs: Mapping[str, np.ndarray]) -> str:
    """A table with a row for each output; numbers over several steps are drawn as curves, too."""
    if not outputs:
        return ""
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th>'
        f'<td dir="auto">{_render_curves(values)}{_format(name, values)}</td></tr>'
        for name, values in outputs.items()
    )
    return f'<div class="scrolls" tabindex="0"><table class="plain">{rows}</table></div>'


def _format(name: str, values: np.ndarray) -> str:
    if values.dtype == object and not values.ndim:
        content = values[()]
        if name.endswith("_bytes") and isinstance(content, bytes):
            return f"{len(content):,} bytes"
        return escape(decode(content))
    if values.dtype == object:
        tokens = strip_padding(values) if values.ndim == 1 else values.ravel().tolist()
        # NumPy's formatter fails on empty texts.
        texts = np.array([decode(token) or "–" for token in tokens], object)
        texts = texts if values.ndim == 1 else texts.reshape(values.shape)
        return escape(np.array2string(texts, threshold=SHOWN_VALUES, formatter={"all": str}))
    return escape(np.array2string(values, threshold=SHOWN_VALUES, precision=4))


def _render_curves(values: np.ndarray) -> str:
    """A line for each of a few numbers (T, D) over time, or for one (T,); otherwise nothing."""
    if values.dtype.kind not in "iuf" or values.ndim not in (1, 2):
        return ""
    series = values.reshape(len(values), -1).astype(np.float64)
    steps, lines = series.shape
    if steps < MIN_CURVE_STEPS or not 1 <= lines <= len(COLOURS) or not np.isfinite(series).all():
        return ""
    low, high = float(series.min()), float(series.max())
    x = np.linspace(0, WIDTH, steps)
    y = HEIGHT * (1 - (series - low) / max(high - low, 1e-12))
    paths = "".join(
        f'<polyline fill="none" stroke="{colour}" stroke-width="2" points="'
        + " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y[:, line], strict=True))
        + '"/>'
        for line, colour in zip(range(lines), COLOURS, strict=False)
    )
    description = f"{steps} steps from {low:.4g} to {high:.4g}"
    return (
        f'<svg class="curve" viewBox="-2 -2 {WIDTH + 4} {HEIGHT + 4}" role="img" '
        f'aria-label="{description}">{paths}</svg>'
    )
