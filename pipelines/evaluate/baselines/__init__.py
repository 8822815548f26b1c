"""Scores of simple systems on the same examples; one module for a kind of task."""
