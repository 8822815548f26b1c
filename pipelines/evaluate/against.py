"""This run compared with another on the same examples: is the difference more than chance?

The other run's predictions are scored anew, by this run's scores and resamples: a paired bootstrap
(Koehn 2004).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.core.contracts import Codec, Split
from pipelines.core.errors import UserError
from pipelines.core.saved_files import DamagedError, read_json_lines, read_yaml
from pipelines.core.task import Task
from pipelines.core.types import JsonObject
from pipelines.runs.metrics import OtherScore, RunComparison

if TYPE_CHECKING:
    import numpy as np

    from pipelines.evaluate.bootstrap import Measurement, Resampling


def check_against(directory: str | None, *, task: str, run: str | None) -> None:
    """Raises UserError unless `directory` is of another run with predictions of the same task.

    Fast: before anything is prepared. run: this one's directory, where it is there already.
    """
    from pipelines.runs.directory import Run

    if directory is None:
        return
    if run is not None and Path(run).resolve() == Path(directory).resolve():
        raise UserError(f"evaluate.against={directory} is this run itself: choose another")
    other = Run(directory)
    try:
        name = read_yaml(other.config, "choose another run")["task"]["name"]
    except (OSError, DamagedError, LookupError, TypeError):
        raise UserError(f"evaluate.against={directory} is not a run's directory") from None
    if name != task:
        raise UserError(f"evaluate.against={directory} is a run of task={name}; this is {task}")
    for path in (other.predictions, other.prediction_arrays):
        if not path.exists():
            raise UserError(
                f"evaluate.against={directory} holds no {path.name}: measure that run first, with "
                f"mode=evaluate run={directory}"
            )


def check_same_examples(directory: str, task: Task, codec: Codec, split: Split) -> None:
    """Raises UserError unless the other run was measured on this split, in this order.

    And unless its predictions mean the same to this run's codec as they did to its own: the lines
    that this run would write of them must be those that it wrote.
    """
    import tensorflow as tf

    from pipelines.evaluate.predictions import prediction_lines
    from pipelines.runs.directory import Run

    other = Run(directory)
    where = f"evaluate.against={directory}"
    predictions = _predictions(directory, split)
    if any(len(values) != len(split) for values in predictions.values()):
        count = len(next(iter(predictions.values())))
        raise UserError(
            f"{where} was measured on {count:,} {split.name} examples, this run has "
            f"{len(split):,}: compare runs with the same data and prepare settings"
        )
    try:
        ours = prediction_lines(task, codec, split, predictions)
        for a, b in zip_longest(ours, _lines(other.predictions, split.name)):
            for part in ("row", "given", "reference", "answer"):
                if a is None or b is None or a[part] != b.get(part):
                    row = (a or b or {}).get("row")
                    raise UserError(_difference(where, split.name, row, part))
    except (tf.errors.OpError, KeyError, IndexError, TypeError):
        raise UserError(_difference(where, split.name, 0, "answer")) from None


def compare_with_run(
    directory: str,
    network: Mapping[str, Measurement],
    task: Task,
    split: Split,
    resampling: Resampling,
) -> RunComparison:
    """This run's scores minus those of the run in `directory`, on the split of this run.

    Scores with different signatures, such as perplexities of different tokens, are not compared.
    The verdict is about the most important metric.
    """
    from pipelines.core.formatting import number
    from pipelines.evaluate.bootstrap import compare_measurements, measure_all
    from pipelines.evaluate.verdict import relation

    scores = task.score(_predictions(directory, split), split)
    alike = {
        name: score
        for name, score in scores.items()
        if name in network and network[name].score.signature == score.signature
    }
    others = measure_all(alike, len(split), resamples=resampling.resamples, seed=resampling.seed)
    results = {name: compare_measurements(network[name], other) for name, other in others.items()}
    entries = {
        name: OtherScore(
            value=others[name].value,
            label=network[name].metric.label,
            scale=network[name].metric.scale,
            **result.model_dump(),
        )
        for name, result in results.items()
    }
    verdict, outcome = f"Nothing could be compared with {directory}.", None
    if results:
        name, result = next(iter(results.items()))
        metric, outcome = network[name].metric, result.outcome
        own = f"{metric.label} {number(network[name].value, metric)}"
        other = f"that of {directory} ({number(others[name].value, metric)})"
        verdict = (
            f"This run ({own}) {relation(result, metric, other)} (paired bootstrap, "
            f"{len(split):,} {split.name} examples)."
        )
    return RunComparison(
        run=directory, split=split.name, verdict=verdict, outcome=outcome, scores=entries
    )


def _predictions(directory: str, split: Split) -> dict[str, np.ndarray]:
    from pipelines.evaluate.predictions import load_predictions
    from pipelines.runs.directory import Run

    return load_predictions(Run(directory).prediction_arrays, split.name)


def _lines(path: Path, split: str) -> Iterator[JsonObject]:
    for line in read_json_lines(path, "measure that run again"):
        if line.get("split") == split:
            yield line


def _difference(where: str, split: str, row: int | None, part: str) -> str:
    if part == "answer":
        return (
            f"{where}: its predictions can't be read by this run, whose labels or kinds of answers "
            f"differ ({split} row {row}); if only the program has changed, measure that run again"
        )
    return (
        f"{where} was measured on other examples ({split} row {row} differs in {part}): compare "
        "runs with the same data and prepare settings"
    )
