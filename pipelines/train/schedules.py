"""The learning rate of each training step."""

from __future__ import annotations

import math

from pipelines.core.settings import TrainSettings


def learning_rate(step: int, total_steps: int, settings: TrainSettings) -> float:
    """The learning rate of training step `step`, from 0: linear warm-up, then decay.

    The decay ends at settings.final_lr_ratio times the highest rate. Cosine: Loshchilov & Hutter
    2017, eq. 5, without restarts.
    """
    warmup = settings.warmup * total_steps if settings.warmup < 1 else settings.warmup
    if step < warmup:
        return settings.learning_rate * (step + 1) / (warmup + 1)
    progress = min(1.0, (step - warmup) / max(1.0, total_steps - warmup))
    final = settings.final_lr_ratio
    factor = {
        "constant": lambda: 1.0,
        "linear": lambda: 1 - (1 - final) * progress,
        "cosine": lambda: final + (1 - final) * (1 + math.cos(math.pi * progress)) / 2,
        "exponential": lambda: max(final, 1e-6) ** progress,
    }[settings.schedule]()
    return settings.learning_rate * factor
