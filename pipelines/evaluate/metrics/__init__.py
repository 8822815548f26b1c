"""Corpus-level scores, and what their numbers can bear."""
