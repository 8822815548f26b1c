"""Diagnostics of a trained model on a sample, for metrics.json, the report and TensorBoard.

They run after training. Where they need other weights they build a model of their own, so that the
trained weights and the random streams stay unchanged.
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
from pipelines.core.saved_files import DamagedError
from pipelines.core.sections import Section
from pipelines.core.settings import MOST_KEPT
from pipelines.core.task import Diagnosable, Trained
from pipelines.core.types import JsonObject
from pipelines.evaluate.bootstrap import Resampling
from pipelines.evaluate.diagnostics import plots as figures
from pipelines.evaluate.diagnostics.advice import Moment, give_advice, steps_until, typical_curve
from pipelines.evaluate.diagnostics.horizon import Horizon, horizon, to_metrics
from pipelines.evaluate.diagnostics.occlusion import compare_paths, occlude_steps
from pipelines.evaluate.diagnostics.sample import Influence, Sample, draw_sample, inspect_model
from pipelines.runs import checkpoint
from pipelines.runs.directory import Run

log = logging.getLogger(__name__)

MAX_BETWEEN = 3
"""Most checkpoints between beginning and end that are inspected."""

MAX_DRAWN = 4
"""Most layers whose gradients are drawn; the table has all."""

MAX_CURVE_POINTS = 600
"""Most points of a curve in TensorBoard."""


@dataclass(frozen=True)
class Diagnosis:
    """Metrics for metrics.json, sections and warnings for the report, curves by name, each (K,)."""

    metrics: JsonObject = field(default_factory=dict)
    sections: list[Section] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    curves: dict[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class TrainingFacts:
    """Facts of a training that diagnostics need.

    run        its directory, with history and checkpoints.
    build      builds the model with the weights that training began with.
    settings   of its recurrent layers.
    best_step  the training step of the trained weights.
    clip_norm  as in train.clip_norm.
    """

    run: Run
    build: Callable[[], keras.Model]
    settings: RecurrentSettings
    best_step: int
    clip_norm: float | None


def diagnose(
    trained: Trained, split: Split, training: TrainingFacts, resampling: Resampling
) -> Diagnosis:
    """Diagnoses what the model remembers, and its gradients before, during and after training.

    The result is empty if the task isn't Diagnosable.
    """
    task, model = trained.task, trained.model
    if not isinstance(task, Diagnosable):
        return Diagnosis()
    sample = draw_sample(trained, split)
    final = inspect_model(task, model, sample)
    moments = [
        *_earlier_moments(task, sample, training),
        Moment("after training", training.best_step, final),
    ]
    examples = len(sample.batch.weights)
    horizons = {
        name: _horizons(influence, examples, resampling)
        for name, influence in final.influence.items()
    }
    history = training.run.read_history()
    warnings = give_advice(moments, horizons, history, training.settings, training.clip_norm)
    for warning in warnings:
        log.warning("%s", warning)
    diagnosis = Diagnosis(_metrics(moments, horizons), _flow_sections(moments), warnings)
    for name, reader in task.recurrent_stacks(model).items():
        if horizons[name]:
            occlusion = occlude_steps(trained, sample, reader)
            diagnosis.sections.append(figures.horizon_figure(name, horizons[name]))
            diagnosis.sections.append(
                figures.influence_figure(name, final.influence[name].answer, occlusion)
            )
            diagnosis.metrics["occlusion"] = diagnosis.metrics.get("occlusion", {}) | {
                name: dict(
                    zip(
                        occlusion.distances.tolist(),
                        _means(occlusion.change).tolist(),
                        strict=False,
                    )
                )
            }
    if task.attends(model):
        both = compare_paths(trained, sample)
        diagnosis.sections.extend(figures.paths_sections(both))
        diagnosis.metrics["through_attention"] = float(np.nanmean(both.attention))
        diagnosis.metrics["nats_lost_without"] = dict(both.nats)
    diagnosis.curves.update(_curves(moments, horizons))
    return diagnosis


def _earlier_moments(task: Diagnosable, sample: Sample, training: TrainingFacts) -> list[Moment]:
    """The moments before training and at a few checkpoints."""
    model = training.build()
    start = Moment("before training", 0, inspect_model(task, model, sample, influence=False))
    return [
        start,
        *(
            Moment(f"step {step:,}", step, inspect_model(task, model, sample, influence=False))
            for step in _restore_checkpoints(training.run, model, training.best_step)
        ),
    ]


def _means(values: np.ndarray) -> np.ndarray:
    return np.nanmean(values, axis=0)


def _restore_checkpoints(run: Run, model: keras.Model, last: int) -> Iterator[int]:
    """Restores the weights of a few kept checkpoints, oldest first; yields the step of each."""
    steps: dict[int, Path] = {}
    for age in range(MOST_KEPT):
        path = run.checkpoint(age)
        try:
            step = checkpoint.restore(path, {}).get("step", 0) if path.exists() else 0
        except DamagedError:
            continue
        if step not in (0, last):
            steps[step] = path
    order = sorted(steps)
    chosen = np.unique(np.linspace(0, len(order) - 1, min(MAX_BETWEEN, len(order))).astype(int))
    for place in chosen if order else ():
        checkpoint.restore(steps[order[place]], {"model": model.variables})
        yield order[place]


def _horizons(influence: Influence, examples: int, resampling: Resampling) -> dict[str, Horizon]:
    """Horizons of the answer and of each direction's last state, where there is influence."""
    every = {"answer": influence.answer, **influence.state}
    horizons = {
        name: horizon(
            values, examples=examples, resamples=resampling.resamples, seed=resampling.seed
        )
        for name, values in every.items()
    }
    return {name: found for name, found in horizons.items() if found is not None}


def _flow_sections(moments: Sequence[Moment]) -> list[Section]:
    places = [
        (reader, index)
        for reader, layers in moments[-1].inspection.layers.items()
        for index in range(len(layers))
    ]
    sections: list[Section] = []
    for reader, index in places[:MAX_DRAWN]:
        sections += [
            figures.flow_figure(moments, reader, index),
            figures.loss_gradient_figure(moments, reader, index),
        ]
    return [*sections, figures.gain_figure(moments), figures.layers_table(moments)]


def _metrics(
    moments: Sequence[Moment], horizons: Mapping[str, Mapping[str, Horizon]]
) -> JsonObject:
    """Horizons by stack and path; by layer where gradients vanish, step Jacobian and saturation."""
    layers: JsonObject = {}
    for reader, found in moments[-1].inspection.layers.items():
        for index, layer in enumerate(found):
            layers[f"{reader}.{layer.name}"] = {
                moment.name.replace(" ", "_").replace(",", ""): {
                    "vanished_after": steps_until(one.gradient_flow)[0],
                    "step_gain": float(np.median(one.gain)),
                    "saturated": one.saturated,
                    "dead": one.dead,
                    "gates": {
                        name: {"open": opened, "shut": shut}
                        for name, (opened, shut) in one.gates.items()
                    },
                }
                for moment in moments
                for one in [moment.inspection.layers[reader][index]]
            }
    found_horizons = {
        reader: {way: to_metrics(one) for way, one in ways.items()}
        for reader, ways in horizons.items()
    }
    return {"horizon": found_horizons, "layers": layers}


def _curves(
    moments: Sequence[Moment], horizons: Mapping[str, Mapping[str, Horizon]]
) -> dict[str, np.ndarray]:
    curves = {
        f"{name}/{reader}/{layer.name}/{moment.name.replace(' ', '_')}": typical_curve(values)
        for moment in moments
        for reader, layers in moment.inspection.layers.items()
        for layer in layers
        for name, values in (
            ("gradient_flow", layer.gradient_flow),
            ("loss_gradient", layer.loss_gradient),
        )
    }
    for reader, ways in horizons.items():
        curves |= {f"influence_within/{reader}/{way}": one.within for way, one in ways.items()}
    return curves


def draw_curves(directory: Path, diagnosis: Diagnosis, step: int) -> None:
    """Writes TensorBoard scalars: numbers at the trained weights' step, curves by steps back."""
    import tensorflow as tf

    for events in directory.glob("events.out.tfevents.*"):
        events.unlink()
    writer = tf.summary.create_file_writer(str(directory))
    with writer.as_default():
        for reader, ways in diagnosis.metrics.get("horizon", {}).items():
            for way, one in ways.items():
                tf.summary.scalar(f"horizon/{reader}/{way}", one["value"], step=step)
        for layer, by_moment in diagnosis.metrics.get("layers", {}).items():
            last = list(by_moment.values())[-1]
            for name in ("step_gain", "saturated", "dead"):
                tf.summary.scalar(f"layers/{layer}/{name}", last[name], step=step)
        for name, curve in diagnosis.curves.items():
            for distance in _spread_evenly(len(curve)):
                tf.summary.scalar(f"by_steps_back/{name}", curve[distance], step=int(distance))
    writer.close()


def _spread_evenly(count: int) -> np.ndarray:
    if not count:
        return np.zeros(0, int)
    return np.unique(np.linspace(0, count - 1, min(count, MAX_CURVE_POINTS)).astype(int))
