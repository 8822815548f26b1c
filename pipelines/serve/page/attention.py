"""Attention as HTML: over a text as a heat map, over an image as shades."""

from __future__ import annotations

import base64
import unicodedata
from collections.abc import Sequence
from html import escape
from io import BytesIO

import numpy as np
from PIL import Image

from pipelines.serve.page.tokens import format_percent, show_token, strip_padding

MAX_TOKENS = 60
"""Tokens of a side that a heat map shows, and tokens with an image each."""

SHADE = 0.72
"""Opacity of the shade over the parts of an image without attention."""


def render_heat_map(tokens: np.ndarray, source_tokens: np.ndarray, attention: np.ndarray) -> str:
    """A table: source tokens across, written tokens down, attention (T, S) as colour."""
    targets, source = strip_padding(tokens), strip_padding(source_tokens)
    if not (targets and source and attention.shape[-1]):
        return ""
    head = "".join(
        f'<th scope="col"{_upright_class(token)}><span dir="auto">{show_token(token)}</span></th>'
        for token in source[:MAX_TOKENS]
    )
    rows = [
        _render_heat_map_row(token, source[:MAX_TOKENS], shares)
        for token, shares in zip(targets[:MAX_TOKENS], attention.tolist(), strict=False)
    ]
    cut = (
        f" Only the first {MAX_TOKENS} words of each are shown."
        if max(len(targets), len(source)) > MAX_TOKENS
        else ""
    )
    return (
        "<section><h3>Attention</h3>"
        '<p class="hint">The columns are the source, the rows are what was written. The more '
        f"colour, the more attention.{cut}</p>"
        f'<div class="scrolls" tabindex="0" role="region" aria-label="Attention">'
        f'<table class="heat" dir="{_text_direction(source)}">'
        f"<thead><tr><td></td>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
        "</section>"
    )


def _render_heat_map_row(token: str, source: Sequence[str], shares: Sequence[float]) -> str:
    cells = "".join(
        f'<td style="--share:{share:.3f}" title="{format_percent(share)}: {show_token(token)} ← '
        f'{show_token(source_token)}"><span class="hidden">{format_percent(share)}</span></td>'
        for source_token, share in zip(source, shares, strict=False)
    )
    return f'<tr><th scope="row" dir="auto">{show_token(token)}</th>{cells}</tr>'


def render_attended_image(
    tokens: np.ndarray, attention: np.ndarray, grid: np.ndarray, seen_bytes: np.ndarray
) -> str:
    """The image for each written token, dark where the model paid no attention.

    attention (T, rows x columns) over the grid (rows, columns) of regions; seen_bytes: the image as
    PNG, as the model sees it.
    """
    tokens_shown = strip_padding(tokens)[:MAX_TOKENS]
    rows, columns = (int(side) for side in grid)
    image = _data_url(seen_bytes.item())
    if attention.shape[-1] != rows * columns:  # a model without attention
        return f'<img class="seen" src="{image}" alt="The image as the model sees it">'
    figures = []
    for token, weights in zip(tokens_shown, attention, strict=False):
        shares = np.asarray(weights, np.float64).reshape(rows, columns)
        description = f"For “{token}” the most attention is on the {_region(shares)}."
        figures.append(
            f'<figure><div class="shaded" role="img" aria-label="{escape(description)}">'
            f'<img src="{_shade(shares)}" alt=""></div>'
            f'<figcaption dir="auto">{show_token(token)}</figcaption></figure>'
        )
    return (
        "<section><h3>Attention, word by word</h3>"
        f'<div class="shaded-images" style="--seen:url({image})">{"".join(figures)}</div></section>'
    )


def _upright_class(token: str) -> str:
    """Wide letters, as in Japanese, are written one below the other, and must not be turned."""
    wide = any(unicodedata.east_asian_width(letter) in "WF" for letter in token)
    return ' class="upright"' if wide else ""


def _text_direction(tokens: Sequence[str]) -> str:
    """The direction of the first letter that has one."""
    for letter in "".join(tokens):
        kind = unicodedata.bidirectional(letter)
        if kind in ("L", "R", "AL"):
            return "ltr" if kind == "L" else "rtl"
    return "ltr"


def _region(shares: np.ndarray) -> str:
    """The place of the largest share in words: "top left"."""
    row, column = np.unravel_index(int(shares.argmax()), shares.shape)
    thirds = [int(3 * (i + 0.5) / n) for i, n in zip((row, column), shares.shape, strict=True)]
    down = ("top", "middle", "bottom")[thirds[0]]
    across = ("left", "centre", "right")[thirds[1]]
    return "middle" if (down, across) == ("middle", "centre") else f"{down} {across}"


def _shade(shares: np.ndarray) -> str:
    """A black image of one pixel a region, the more transparent the more attention.

    The browser scales it up over the image itself.
    """
    opacity = SHADE * (1 - shares / max(float(shares.max()), 1e-9))
    pixels = np.zeros((*shares.shape, 2), np.uint8)
    pixels[..., 1] = np.round(255 * opacity)
    file = BytesIO()
    Image.fromarray(pixels, "LA").save(file, "PNG")
    return _data_url(file.getvalue())


def _data_url(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
