"""Translation small enough to be learnt by heart."""

from __future__ import annotations

SMALL = [
    "task=translation", "data=parallel_text", "task.text.tokens=word", "model.width=12",
    "task.embedding.width=10", "train.batch_tokens=256", "train.tensorboard=false",
    "evaluate.resamples=100",
]  # fmt: skip


QUICK = [*SMALL, "train.epochs=1", "export.verify=0", "evaluate.diagnostics=false"]
