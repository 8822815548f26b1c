"""Ids that stand for no token of a text, and how they are spelt."""

from __future__ import annotations

PAD, UNKNOWN, BEGIN, END = 0, 1, 2, 3
SPECIAL = ("<pad>", "<unk>", "<s>", "</s>")
"""No token that a tokenizer splits off is spelt like these: its "<" is a token of its own."""
