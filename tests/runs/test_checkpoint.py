"""Arrays and a state in one file, and the mean of several."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from pipelines.core.errors import UserError
from pipelines.runs import checkpoint


def variables(*values: object) -> dict[str, list[tf.Variable]]:
    return {"model": [tf.Variable(value) for value in values]}


def test_the_mean_averages_weights_and_keeps_the_first_seed(tmp_path: Path) -> None:
    weights = [[1.0, 10.0], [2.0, 20.0], [6.0, 60.0]]
    paths = [tmp_path / f"{index}.npz" for index in range(3)]
    for seed, (path, values) in enumerate(zip(paths, weights, strict=True), start=7):
        checkpoint.save(path, variables(values, seed), {})
    mean = variables([0.0, 0.0], 0)
    checkpoint.restore_mean(paths, mean)
    np.testing.assert_array_equal(mean["model"][0], [3.0, 30.0])
    assert mean["model"][1].numpy() == 7


def test_a_mean_of_float16_is_computed_in_float64(tmp_path: Path) -> None:
    """In float16 the sum of 60,000 and 60,000 would be infinite."""
    paths = [tmp_path / "a.npz", tmp_path / "b.npz"]
    for path in paths:
        checkpoint.save(path, variables(np.float16(60000)), {})
    mean = variables(np.float16(0))
    checkpoint.restore_mean(paths, mean)
    assert mean["model"][0].numpy() == 60000


def test_nothing_is_assigned_from_a_checkpoint_of_another_model(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    checkpoint.save(path, variables(1.0, [2.0, 3.0]), {"step": 5})
    other = variables(0.0, [0.0, 0.0, 0.0])
    with pytest.raises(UserError, match="of another model"):
        checkpoint.restore(path, other)
    assert other["model"][0].numpy() == 0


def test_a_missing_checkpoint_is_an_error_that_says_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is missing"):
        checkpoint.restore(tmp_path / "a.npz", {})
