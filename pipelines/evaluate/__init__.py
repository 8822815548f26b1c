"""Evaluation: scores with intervals, baselines, paired comparisons, diagnostics."""
