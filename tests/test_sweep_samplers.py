"""What a sampler is told of runs that were stopped early."""

from __future__ import annotations

from typing import Any

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.samplers import RandomSampler
from optuna.trial import TrialState, create_trial

from pipelines.sweeping.foreseen import Foreseeing, foreseen


def study_of(direction: str, *curves: tuple[str, list[float]]) -> optuna.Study:
    """Trials at x = 0, 1, ..., by their state and what they evaluated."""
    study = optuna.create_study(direction=direction)
    best = max if direction == "maximize" else min
    for number, (state, curve) in enumerate(curves):
        trial = create_trial(
            state=TrialState[state],
            params={"x": float(number)},
            distributions={"x": FloatDistribution(0, 9)},
            intermediate_values=dict(enumerate(curve, 1)),
            value=best(curve) if state == "COMPLETE" else None,
        )
        study.add_trial(trial)
    return study


def values(study: optuna.Study) -> list[Any]:
    return [trial.value for trial in foreseen(study).trials]


def test_what_is_pruned_is_foreseen_to_gain_what_finished_ones_did_from_there_on() -> None:
    finished = [
        ("COMPLETE", [0.5, 0.6, 0.9]),
        ("COMPLETE", [0.1, 0.7, 0.6]),
        ("COMPLETE", [0.4, 0.3, 0.6]),
    ]
    after_one = ("PRUNED", [0.2])  # gains from the first on: 0.4, 0.6, 0.2
    after_two = ("PRUNED", [0.3, 0.25])  # from the best of two on: 0.3, 0, 0.2
    study = study_of("maximize", *finished, after_one, after_two)
    assert values(study) == pytest.approx([0.9, 0.7, 0.6, 0.6, 0.5])


def test_errors_are_foreseen_to_fall() -> None:
    study = study_of("minimize", ("COMPLETE", [5, 3]), ("COMPLETE", [4, 3.5]), ("PRUNED", [8]))
    assert values(study) == pytest.approx([3, 3.5, 8 - 1.25])


def test_a_run_that_goes_on_or_failed_has_no_value() -> None:
    others = [("RUNNING", [0.3]), ("FAIL", []), ("PRUNED", [])]
    study = study_of("maximize", ("COMPLETE", [0.5, 0.6]), *others, ("PRUNED", [0.2]))
    assert values(study) == pytest.approx([0.6, None, None, None, 0.3])
    assert [trial.params["x"] for trial in foreseen(study).trials] == [0, 1, 2, 3, 4]


def test_a_study_of_which_nothing_is_pruned_or_finished_is_seen_as_it_is() -> None:
    for curves in ([("COMPLETE", [0.5])], [("PRUNED", [0.5])]):
        study = study_of("maximize", *curves)
        assert foreseen(study) is study


def test_the_sampler_learns_from_the_foreseen_values() -> None:
    class Recording(RandomSampler):
        def sample_relative(self, study: optuna.Study, trial: Any, search_space: Any) -> Any:
            self.values = [one.value for one in study.trials]
            return super().sample_relative(study, trial, search_space)

    study = study_of("maximize", ("COMPLETE", [0.5, 0.6]), ("PRUNED", [0.2]))
    recording = Recording(seed=1)
    study.sampler = Foreseeing(recording)
    asked = study.ask()
    assert 0 <= asked.suggest_float("x", 0, 9) <= 9
    assert recording.values[:2] == pytest.approx([0.6, 0.3])
