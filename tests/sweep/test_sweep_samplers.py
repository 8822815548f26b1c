"""Values that are imputed for pruned trials, and what a sampler sees of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.pruners import BasePruner, HyperbandPruner, NopPruner
from optuna.samplers import RandomSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from pipelines.sweep.pruned_trials import ImputePruned, ImputingGPSampler, impute_pruned


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


def impute_values(study: optuna.Study) -> list[FrozenTrial]:
    maximize = study.direction == StudyDirection.MAXIMIZE
    return impute_pruned(study.trials, maximize=maximize)


def values(study: optuna.Study) -> list[Any]:
    return [trial.value for trial in impute_values(study)]


def test_a_pruned_trial_gains_the_median_of_what_finished_trials_gained_from_there_on() -> None:
    finished = [
        ("COMPLETE", [0.5, 0.6, 0.9]),
        ("COMPLETE", [0.1, 0.7, 0.6]),
        ("COMPLETE", [0.4, 0.3, 0.6]),
    ]
    after_one = ("PRUNED", [0.2])  # gains from the first on: 0.4, 0.6, 0.2
    after_two = ("PRUNED", [0.3, 0.25])  # from the best of two on: 0.3, 0, 0.2
    study = study_of("maximize", *finished, after_one, after_two)
    assert values(study) == pytest.approx([0.9, 0.7, 0.6, 0.6, 0.5])


def test_imputed_errors_fall() -> None:
    study = study_of("minimize", ("COMPLETE", [5, 3]), ("COMPLETE", [4, 3.5]), ("PRUNED", [8]))
    assert values(study) == pytest.approx([3, 3.5, 8 - 1.25])


def test_no_imputed_value_is_better_than_the_best() -> None:
    study = study_of("maximize", ("COMPLETE", [0.1, 0.6]), ("PRUNED", [0.5]))
    assert values(study) == pytest.approx([0.6, 0.6])
    study = study_of("minimize", ("COMPLETE", [9, 2]), ("PRUNED", [3]))
    assert values(study) == pytest.approx([2, 2])


def test_running_and_failed_trials_get_no_value() -> None:
    others = [("RUNNING", [0.3]), ("FAIL", []), ("PRUNED", [])]
    study = study_of("maximize", ("COMPLETE", [0.5, 0.6]), *others, ("PRUNED", [0.2]))
    seen = impute_values(study)
    assert [trial.value for trial in seen if trial.state.name == "COMPLETE"] == [0.6, 0.3]
    assert [trial.state for trial in seen[1:4]] == [trial.state for trial in study.trials[1:4]]
    assert [trial.params["x"] for trial in seen] == [0, 1, 2, 3, 4]


def test_diverged_evaluations_are_ignored() -> None:
    nan = float("nan")
    finished = [("COMPLETE", [5.0, 3.0]), ("COMPLETE", [4.0, 4.0])]
    study = study_of("minimize", *finished, ("PRUNED", [6.0, nan]), ("PRUNED", [nan]))
    seen = impute_values(study)
    assert seen[2].value == pytest.approx(6)  # after two evaluations nobody gained anything
    assert seen[3].state == TrialState.PRUNED


def test_trials_are_unchanged_if_none_is_pruned_or_none_is_finished() -> None:
    for curves in ([("COMPLETE", [0.5])], [("PRUNED", [0.5])]):
        study = study_of("maximize", *curves)
        assert impute_values(study) == study.trials


class RecordingSampler(RandomSampler):
    """Records the trials that it sees, and the number of the one that it draws for."""

    def __init__(self, seed: int):
        super().__init__(seed)
        self.seen: list[tuple[int, list[Any]]] = []

    def sample_relative(self, study: optuna.Study, trial: Any, search_space: Any) -> Any:
        complete = study.get_trials(states=(TrialState.COMPLETE,))
        assert study.trials[trial.number].state == TrialState.RUNNING
        self.seen.append((trial.number, [one.value for one in complete]))
        return super().sample_relative(study, trial, search_space)


class ImputingSampler(ImputePruned, RecordingSampler):
    pass


@pytest.mark.parametrize("pruner", [NopPruner(), HyperbandPruner(1, 9, 3)], ids=["none", "bracket"])
def test_a_sampler_sees_imputed_values_whatever_the_storage_and_the_pruner(
    tmp_path: Path, pruner: BasePruner
) -> None:
    storage = f"sqlite:///{tmp_path / 'study.db'}"  # its ids don't start at 0
    optuna.create_study(storage=storage).ask()
    made = study_of("maximize", ("COMPLETE", [0.5, 0.6]), ("PRUNED", [0.2]))
    study = optuna.create_study(storage=storage, direction="maximize", pruner=pruner)
    study.add_trials(made.trials)
    study.sampler = sampler = ImputingSampler(seed=1)
    for number in (2, 3):
        trial = study.ask()
        assert trial.number == number
        assert 0 <= trial.suggest_float("x", 0, 9) <= 9
        trial.report(0.1, 1)
        trial.should_prune()  # Hyperband creates its brackets here
    assert [seen for seen, _ in sampler.seen] == [2, 3]
    assert [seen for _, seen in sampler.seen] == [pytest.approx([0.6, 0.3])] * 2


def test_the_gaussian_process_learns_from_pruned_trials() -> None:
    pytest.importorskip("torch", reason="needs the extra gp")
    finished = [("COMPLETE", [0.1 * number, 0.1 * number + 0.2]) for number in range(2)]
    study = study_of("maximize", *finished, *[("PRUNED", [0.1])] * 7)
    study.sampler = ImputingGPSampler(seed=1, n_startup_trials=8)
    trial = study.ask()
    # With the two finished ones alone it would draw at random.
    assert "x" in trial.relative_params
    assert 0 <= trial.suggest_float("x", 0, 9) <= 9
