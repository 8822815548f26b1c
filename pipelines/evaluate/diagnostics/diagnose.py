"""Diagnostics of a trained run: measured on a sample, told in the report, drawn in TensorBoard.

After training and on a model of their own where they need other weights, so that the run's weights
and random streams stay what they are.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import keras
import numpy as np

from models.settings import RecurrentSettings
from pipelines.core.contracts import Split
from pipelines.core.sections import Section
from pipelines.core.settings import MOST_KEPT
from pipelines.core.task import Diagnosable, Trained
from pipelines.core.types import JsonObject
from pipelines.evaluate.bootstrap import Resampling
from pipelines.evaluate.diagnostics import plots as figures
from pipelines.evaluate.diagnostics.advice import Moment, advice, steps_until, typical
from pipelines.evaluate.diagnostics.horizon import Horizon, entry, horizon
from pipelines.evaluate.diagnostics.occlusion import occlusion, paths
from pipelines.evaluate.diagnostics.sample import Influence, look, sample_of
from pipelines.runs import checkpoint
from pipelines.runs.directory import Run

log = logging.getLogger(__name__)

MOST_BETWEEN = 3
"""Checkpoints between beginning and end that are looked at."""

MOST_DRAWN = 4
"""Layers whose gradients are drawn; the table has all."""

ROOM_FOR_CURVES = 600
"""Points of a curve in TensorBoard."""


@dataclass(frozen=True)
class Diagnosis:
    """metrics for metrics.json; sections and warnings for the report; curves by name, (K,) each."""

    metrics: JsonObject = field(default_factory=dict)
    sections: list[Section] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    curves: dict[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Training:
    """How the model came to be.

    run        has its checkpoints and its history.
    fresh      makes the model as training found it, from the run's seed.
    best_step  the step whose weights were kept.
    """

    run: Run
    fresh: Callable[[], keras.Model]
    settings: RecurrentSettings
    best_step: int
    clip_norm: float | None


def diagnose(
    trained: Trained, split: Split, training: Training, resampling: Resampling
) -> Diagnosis:
    """What the trained model remembers, and how gradients went before, while and after it learnt.

    Nothing for a task that isn't Diagnosable.
    """
    task, model = trained.task, trained.model
    if not isinstance(task, Diagnosable):
        return Diagnosis()
    readers = task.recurrent_stacks(model)
    sample = sample_of(trained, split)
    final = look(task, model, sample)
    other = training.fresh()
    start = Moment("before training", 0, look(task, other, sample, influence=False))
    between = [
        Moment(f"update {at:,}", at, look(task, other, sample, influence=False))
        for at in _weights_between(training.run, other, training.best_step)
    ]
    moments = [start, *between, Moment("after training", training.best_step, final)]
    examples = len(sample.batch.weights)
    horizons = {
        name: _horizons(found, examples, resampling) for name, found in final.influence.items()
    }
    warnings = advice(
        moments, horizons, training.run.read_history(), training.settings, training.clip_norm
    )
    for warning in warnings:
        log.warning("%s", warning)
    made = Diagnosis(_metrics(moments, horizons), _flow_sections(moments), warnings)
    for name, reader in readers.items():
        if horizons[name]:
            taken = occlusion(trained, sample, reader)
            made.sections.append(figures.within_figure(name, horizons[name]))
            made.sections.append(
                figures.influence_figure(name, final.influence[name].answer, taken)
            )
            made.metrics["occlusion"] = made.metrics.get("occlusion", {}) | {
                name: dict(
                    zip(taken.distances.tolist(), _means(taken.moved).tolist(), strict=False)
                )
            }
    if task.attends(model):
        ways = paths(trained, sample)
        made.sections.extend(figures.paths_sections(ways))
        made.metrics["through_attention"] = float(np.nanmean(ways.attention))
        made.metrics["nats_lost_without"] = dict(ways.nats)
    made.curves.update(_curves(moments, horizons))
    return made


def _means(values: np.ndarray) -> np.ndarray:
    return np.nanmean(values, axis=0)


def _weights_between(run: Run, model: keras.Model, last: int) -> Iterator[int]:
    """Assigns the weights of kept checkpoints, oldest first, and gives the update of each."""
    steps: dict[int, Path] = {}
    for age in range(MOST_KEPT):
        path = run.checkpoint(age)
        try:
            step = checkpoint.restore(path, {}).get("step", 0) if path.exists() else 0
        except checkpoint.DamagedError:
            continue
        if step not in (0, last):
            steps[step] = path
    order = sorted(steps)
    chosen = np.unique(np.linspace(0, len(order) - 1, min(MOST_BETWEEN, len(order))).astype(int))
    for place in chosen if order else ():
        checkpoint.restore(steps[order[place]], {"model": model.variables})
        yield order[place]


def _horizons(found: Influence, examples: int, resampling: Resampling) -> dict[str, Horizon]:
    """Of the answer, and through each direction's last state; those that there is influence for."""
    every = {"answer": found.answer, **found.state}
    made = {
        name: horizon(
            values, examples=examples, resamples=resampling.resamples, seed=resampling.seed
        )
        for name, values in every.items()
    }
    return {name: one for name, one in made.items() if one is not None}


def _flow_sections(moments: Sequence[Moment]) -> list[Section]:
    places = [
        (reader, index)
        for reader, layers in moments[-1].look.layers.items()
        for index in range(len(layers))
    ]
    sections: list[Section] = []
    for reader, index in places[:MOST_DRAWN]:
        sections += [
            figures.flow_figure(moments, reader, index),
            figures.told_figure(moments, reader, index),
        ]
    return [*sections, figures.gain_figure(moments), figures.layers_table(moments)]


def _metrics(
    moments: Sequence[Moment], horizons: Mapping[str, Mapping[str, Horizon]]
) -> JsonObject:
    """Horizon by reader and way; by layer, when gradients are gone, step Jacobian, saturation."""
    layers: JsonObject = {}
    for reader, found in moments[-1].look.layers.items():
        for index, layer in enumerate(found):
            layers[f"{reader}.{layer.name}"] = {
                moment.name.replace(" ", "_").replace(",", ""): {
                    "vanished_after": steps_until(one.arriving)[0],
                    "step_gain": float(np.median(one.gain)),
                    "saturated": one.saturated,
                    "dead": one.dead,
                    "gates": {
                        name: {"open": opened, "shut": shut}
                        for name, (opened, shut) in one.gates.items()
                    },
                }
                for moment in moments
                for one in [moment.look.layers[reader][index]]
            }
    found_horizons = {
        reader: {way: entry(one) for way, one in ways.items()} for reader, ways in horizons.items()
    }
    return {"horizon": found_horizons, "layers": layers}


def _curves(
    moments: Sequence[Moment], horizons: Mapping[str, Mapping[str, Horizon]]
) -> dict[str, np.ndarray]:
    curves = {
        f"{name}/{reader}/{layer.name}/{moment.name.replace(' ', '_')}": typical(values)
        for moment in moments
        for reader, layers in moment.look.layers.items()
        for layer in layers
        for name, values in (("gradient_arriving", layer.arriving), ("gradient_told", layer.told))
    }
    for reader, ways in horizons.items():
        curves |= {f"influence_within/{reader}/{way}": one.within for way, one in ways.items()}
    return curves


def draw_curves(directory: Path, made: Diagnosis, step: int) -> None:
    """In TensorBoard: numbers at the update of the kept weights, and curves over steps back."""
    import tensorflow as tf

    for events in directory.glob("events.out.tfevents.*"):
        events.unlink()
    writer = tf.summary.create_file_writer(str(directory))
    with writer.as_default():
        for reader, ways in made.metrics.get("horizon", {}).items():
            for way, one in ways.items():
                tf.summary.scalar(f"horizon/{reader}/{way}", one["value"], step=step)
        for layer, by_moment in made.metrics.get("layers", {}).items():
            last = list(by_moment.values())[-1]
            for name in ("step_gain", "saturated", "dead"):
                tf.summary.scalar(f"layers/{layer}/{name}", last[name], step=step)
        for name, curve in made.curves.items():
            for distance in _spread(len(curve)):
                tf.summary.scalar(f"by_steps_back/{name}", curve[distance], step=int(distance))
    writer.close()


def _spread(count: int) -> np.ndarray:
    if not count:
        return np.zeros(0, int)
    return np.unique(np.linspace(0, count - 1, min(count, ROOM_FOR_CURVES)).astype(int))
