"""What a sampler is told of runs that were stopped early."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.pruners import BasePruner, HyperbandPruner, NopPruner
from optuna.samplers import RandomSampler
from optuna.trial import TrialState, create_trial

from pipelines.sweep.pruned_trials import Foreseeing, GaussianProcess, foreseen


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


def test_nothing_is_foreseen_to_be_better_than_the_best() -> None:
    study = study_of("maximize", ("COMPLETE", [0.1, 0.6]), ("PRUNED", [0.5]))
    assert values(study) == pytest.approx([0.6, 0.6])
    study = study_of("minimize", ("COMPLETE", [9, 2]), ("PRUNED", [3]))
    assert values(study) == pytest.approx([2, 2])


def test_a_run_that_goes_on_or_failed_has_no_value() -> None:
    others = [("RUNNING", [0.3]), ("FAIL", []), ("PRUNED", [])]
    study = study_of("maximize", ("COMPLETE", [0.5, 0.6]), *others, ("PRUNED", [0.2]))
    seen = foreseen(study).trials
    assert [trial.value for trial in seen if trial.state.name == "COMPLETE"] == [0.6, 0.3]
    assert [trial.state for trial in seen[1:4]] == [trial.state for trial in study.trials[1:4]]
    assert [trial.params["x"] for trial in seen] == [0, 1, 2, 3, 4]


def test_what_diverged_is_not_learnt_from() -> None:
    nan = float("nan")
    finished = [("COMPLETE", [5.0, 3.0]), ("COMPLETE", [4.0, 4.0])]
    study = study_of("minimize", *finished, ("PRUNED", [6.0, nan]), ("PRUNED", [nan]))
    seen = foreseen(study).trials
    assert seen[2].value == pytest.approx(6)  # after two evaluations nobody gained anything
    assert seen[3].state == TrialState.PRUNED


def test_a_study_of_which_nothing_is_pruned_or_finished_is_seen_as_it_is() -> None:
    for curves in ([("COMPLETE", [0.5])], [("PRUNED", [0.5])]):
        study = study_of("maximize", *curves)
        assert foreseen(study) is study


class Remembering(RandomSampler):
    """Notes what it is shown, and in the storage that it was asked, as Optuna's own samplers do."""

    def sample_relative(self, study: optuna.Study, trial: Any, search_space: Any) -> Any:
        complete = study._get_trials(states=(TrialState.COMPLETE,), use_cache=True)
        study._storage.set_trial_system_attr(
            trial._trial_id, "shown", [one.value for one in complete]
        )
        return super().sample_relative(study, trial, search_space)


class Both(Foreseeing, Remembering):
    pass


@pytest.mark.parametrize("pruner", [NopPruner(), HyperbandPruner(1, 9, 3)], ids=["none", "bracket"])
def test_a_sampler_is_shown_foreseen_values_in_the_studys_own_storage(
    tmp_path: Path, pruner: BasePruner
) -> None:
    storage = f"sqlite:///{tmp_path / 'study.db'}"  # which doesn't count from 0
    optuna.create_study(storage=storage).ask()
    made = study_of("maximize", ("COMPLETE", [0.5, 0.6]), ("PRUNED", [0.2]))
    study = optuna.create_study(storage=storage, direction="maximize", pruner=pruner)
    study.add_trials(made.trials)
    study.sampler = Both(seed=1)
    for number in (2, 3):
        asked = study.ask()
        assert asked.number == number
        assert 0 <= asked.suggest_float("x", 0, 9) <= 9
        asked.report(0.1, 1)
        asked.should_prune()  # brackets are there from now on
        assert study.trials[number].system_attrs["shown"] == pytest.approx([0.6, 0.3])


def test_the_gaussian_process_knows_of_pruned_runs() -> None:
    pytest.importorskip("torch", reason="needs the extra gp")
    finished = [("COMPLETE", [0.1 * number, 0.1 * number + 0.2]) for number in range(2)]
    study = study_of("maximize", *finished, *[("PRUNED", [0.1])] * 7)
    study.sampler = GaussianProcess(seed=1, n_startup_trials=8)
    asked = study.ask()
    # With two it would draw at random.
    assert "x" in asked.relative_params
    assert 0 <= asked.suggest_float("x", 0, 9) <= 9
