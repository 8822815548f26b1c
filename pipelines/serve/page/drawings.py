"""An answer as HTML. Each drawing is called with the outputs that its parameters name, if all of
them are there; what none draws is shown as it is. So another kind of answer is another function.

Everything a model or a person wrote is escaped.
"""

from __future__ import annotations

import base64
import inspect
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from html import escape
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

SHOWN = 10
"""Labels with a bar of their own; a model may have hundreds."""

LONGEST = 60
"""Words of a side that a heat map shows, and words with a picture each."""

VEIL = 0.72
"""How dark a picture is where the model didn't look."""

SPACE = "▁"
"""Begins a word among SentencePiece's pieces."""

Drawing = Callable[..., str]


def drawn(outputs: Mapping[str, np.ndarray]) -> str:
    """The answer to one row: outputs by name, with rows on the first axis if they have one."""
    answer = {name: _first(values) for name, values in outputs.items()}
    drawings: list[str] = []
    done: set[str] = {"tokens", "source_tokens"} if "attention" in answer else set()
    for draw in DRAWINGS:
        names = inspect.signature(draw).parameters.keys()
        if names <= answer.keys():
            drawings.append(draw(**{name: answer[name] for name in names}))
            done |= names
    texts, rest = _written({n: value for n, value in answer.items() if n not in done})
    if texts:
        rest.pop("attention", None)  # to what isn't told
    return "".join([*texts, *drawings, _plain(rest)])


def _first(values: np.ndarray) -> Any:
    return values[0] if values.ndim else values[()]


def bars(label: bytes, labels: np.ndarray, probabilities: np.ndarray) -> str:
    """The label, and a bar for each probability, the largest first."""
    order = np.argsort(-probabilities, kind="stable")
    rows = [_bar(_text(labels[i]), float(probabilities[i])) for i in order[:SHOWN]]
    rest = order[SHOWN:]
    if len(rest):
        share = float(probabilities[rest].sum())
        rows.append(_bar(f"{len(rest)} more labels together", share))
    return (
        f'<p class="said" dir="auto">{_escaped(label)}</p>'
        f'<table class="bars"><caption>Probabilities</caption>{"".join(rows)}</table>'
    )


def _bar(name: str, share: float) -> str:
    return (
        f'<tr><th scope="row"><span dir="auto">{escape(name)}</span></th>'
        '<td class="bar" aria-hidden="true">'
        f'<span style="inline-size:{100 * share:.2f}%"></span></td>'
        f'<td class="number">{_percent(share)}</td></tr>'
    )


def words(tokens: np.ndarray, weights: np.ndarray) -> str:
    """The tokens as they were read, coloured by what spoke for the answer and against it."""
    pieces = _pieces(tokens)
    apart = _apart(pieces)
    spans = []
    for piece, weight in zip(pieces, weights.tolist(), strict=False):
        side = "for" if weight >= 0 else "against"
        marked = f"{side} much" if abs(weight) >= 0.25 else side
        gap = " " if apart or piece.startswith(SPACE) else ""
        spans.append(
            f'{gap}<span class="{marked}" style="--weight:{abs(weight):.3f}" '
            f'title="{weight:+.2f}">{_piece(piece)}</span>'
        )
    return (
        '<section><h3>The words that mattered</h3><p class="passage" dir="auto">'
        f"{''.join(spans).strip()}</p>"
        '<p class="legend"><span class="for much" style="--weight:1">speaks for the answer</span> '
        '<span class="against much" style="--weight:1">speaks against it</span> '
        "by gradient times input</p></section>"
    )


def heat_map(tokens: np.ndarray, source_tokens: np.ndarray, attention: np.ndarray) -> str:
    """What was read across, what was written down, and how much attention each paid to each."""
    written, read = _pieces(tokens), _pieces(source_tokens)
    if not (written and read and attention.shape[-1]):
        return ""
    down, across = written[:LONGEST], read[:LONGEST]
    head = "".join(
        f'<th scope="col"{_upright(piece)}><span dir="auto">{_piece(piece)}</span></th>'
        for piece in across
    )
    rows = []
    for piece, paid in zip(down, attention.tolist(), strict=False):
        cells = "".join(
            f'<td style="--share:{share:.3f}" title="{_percent(share)}: {_piece(piece)} ← '
            f'{_piece(other)}"><span class="hidden">{_percent(share)}</span></td>'
            for other, share in zip(across, paid, strict=False)
        )
        rows.append(f'<tr><th scope="row" dir="auto">{_piece(piece)}</th>{cells}</tr>')
    cut = (
        f" Only the first {LONGEST} words of each are shown."
        if len(written) > LONGEST or len(read) > LONGEST
        else ""
    )
    return (
        "<section><h3>Attention</h3>"
        '<p class="hint">Across is what was read, down what was written. The more colour, the more '
        f"attention.{cut}</p>"
        f'<div class="scrolls" tabindex="0" role="region" aria-label="Attention">'
        f'<table class="heat" dir="{_direction(read)}">'
        f"<thead><tr><td></td>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
        "</section>"
    )


def looks(tokens: np.ndarray, attention: np.ndarray, grid: np.ndarray, seen_bytes: bytes) -> str:
    """The picture for each word, dark where the model didn't look."""
    written = _pieces(tokens)[:LONGEST]
    rows, columns = (int(side) for side in grid)
    seen = _url(seen_bytes)
    if attention.shape[-1] != rows * columns:
        return f'<img class="seen" src="{seen}" alt="The picture as the model sees it">'
    figures = []
    for piece, paid in zip(written, attention, strict=False):
        shares = np.asarray(paid, np.float64).reshape(rows, columns)
        about = f"For “{piece}” it looked mostly at the {_place(shares)}."
        figures.append(
            f'<figure><div class="look" role="img" aria-label="{escape(about)}">'
            f'<img src="{_veil(shares)}" alt=""></div>'
            f'<figcaption dir="auto">{_piece(piece)}</figcaption></figure>'
        )
    return (
        "<section><h3>Where it looked, word by word</h3>"
        f'<div class="looks" style="--seen:url({seen})">{"".join(figures)}</div></section>'
    )


DRAWINGS: tuple[Drawing, ...] = (bars, words, heat_map, looks)


def _written(answer: Mapping[str, Any]) -> tuple[list[str], dict[str, Any]]:
    """Texts with their scores, and the other answers to each, named like it with an s; the rest."""
    rest = dict(answer)
    parts = []
    for name, value in answer.items():
        others = answer.get(f"{name}s")
        if not isinstance(value, bytes) or name.endswith("_bytes"):
            continue
        score = answer.get("score") if "score" in rest else None
        told = "" if score is None else f'<p class="score">score {float(score):.3f}</p>'
        said = _escaped(value) or '<span class="nothing">nothing</span>'
        parts.append(f'<p class="said" dir="auto">{said}</p>{told}')
        if isinstance(others, np.ndarray) and others.ndim == 1 and "scores" in answer:
            parts.append(_best(others, answer["scores"]))
            rest.pop(f"{name}s")
            rest.pop("scores", None)
        rest.pop(name)
        rest.pop("score", None)
    return parts, rest


def _best(texts: np.ndarray, scores: np.ndarray) -> str:
    if len(texts) < 2:
        return ""
    rows = "".join(
        f'<li><span dir="auto">{_escaped(text) or "–"}</span> '
        f'<span class="number">{float(score):.3f}</span></li>'
        for text, score in zip(texts, scores, strict=True)
    )
    return f"<section><h3>The {len(texts)} best</h3><ol>{rows}</ol></section>"


def _plain(answer: Mapping[str, Any]) -> str:
    """What no drawing knows."""
    if not answer:
        return ""
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td dir="auto">{_value(name, value)}</td></tr>'
        for name, value in answer.items()
    )
    return f'<div class="scrolls" tabindex="0"><table class="plain">{rows}</table></div>'


def _value(name: str, value: Any) -> str:
    if isinstance(value, bytes) and name.endswith("_bytes"):
        return f"{len(value):,} bytes"
    if isinstance(value, bytes):
        return _escaped(value)
    array = np.asarray(value)
    if array.dtype == object:
        array = np.vectorize(_text, otypes=[object])(array) if array.size else array
        return escape(np.array2string(array, threshold=40, formatter={"all": str}))
    return escape(np.array2string(array, threshold=40, precision=4))


def _pieces(tokens: np.ndarray) -> list[str]:
    """The tokens, without padding."""
    texts = [_text(token) for token in tokens.tolist()]
    while texts and not texts[-1]:
        texts.pop()
    return texts


def _piece(piece: str) -> str:
    """As a person reads it: a space that is a token of its own is to be seen."""
    return escape(piece.replace(SPACE, " ").strip() or "␣", quote=True)


def _apart(pieces: Sequence[str]) -> bool:
    """Whether a space is between any two: they neither are letters, nor say where words begin."""
    letters = " " in pieces and all(len(piece) == 1 for piece in pieces)
    return not letters and not any(piece.startswith(SPACE) for piece in pieces)


def _upright(piece: str) -> str:
    """Letters as of Japanese stand one below the other, and must not be turned."""
    wide = any(unicodedata.east_asian_width(letter) in "WF" for letter in piece)
    return ' class="upright"' if wide else ""


def _direction(pieces: Sequence[str]) -> str:
    """As the first letter that has one is written."""
    for letter in "".join(pieces):
        kind = unicodedata.bidirectional(letter)
        if kind in ("L", "R", "AL"):
            return "ltr" if kind == "L" else "rtl"
    return "ltr"


def _place(shares: np.ndarray) -> str:
    """Where the most attention is, in words."""
    row, column = np.unravel_index(int(shares.argmax()), shares.shape)
    thirds = [int(3 * (i + 0.5) / n) for i, n in zip((row, column), shares.shape, strict=True)]
    down = ("top", "middle", "bottom")[thirds[0]]
    across = ("left", "centre", "right")[thirds[1]]
    return "middle" if (down, across) == ("middle", "centre") else f"{down} {across}"


def _veil(shares: np.ndarray) -> str:
    """A picture of one pixel a place, black, and the more transparent the more attention."""
    opacity = VEIL * (1 - shares / max(float(shares.max()), 1e-9))
    pixels = np.zeros((*shares.shape, 2), np.uint8)
    pixels[..., 1] = np.round(255 * opacity)
    file = BytesIO()
    Image.fromarray(pixels, "LA").save(file, "PNG")
    return _url(file.getvalue())


def _url(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f}%"


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _escaped(value: Any) -> str:
    return escape(_text(value))
