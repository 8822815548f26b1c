"""Tokens in a form for people."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np

WORD_START = "▁"
"""SentencePiece's first character of a token that begins a word."""


def decode(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def escape_text(value: object) -> str:
    return escape(decode(value))


def format_percent(share: float) -> str:
    return f"{100 * share:.1f}%"


def strip_padding(tokens: np.ndarray) -> list[str]:
    """The tokens as text, without the empty ones at the end."""
    texts = [decode(token) for token in tokens.tolist()]
    while texts and not texts[-1]:
        texts.pop()
    return texts


def show_token(token: str) -> str:
    """The token as HTML. One that is only a space becomes a sign that can be seen."""
    return escape(token.replace(WORD_START, " ").strip() or "␣", quote=True)


def starts_word(token: str) -> bool:
    return token.startswith(WORD_START)


def has_gaps(tokens: Sequence[str]) -> bool:
    """Whether a space is between any two tokens: they are words, not letters or subwords."""
    are_letters = " " in tokens and all(len(token) == 1 for token in tokens)
    return not are_letters and not any(map(starts_word, tokens))
