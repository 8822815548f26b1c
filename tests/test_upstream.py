"""What is wrong with Keras' own trainer and several workers, and why the loop here isn't it.

The loop sums gradients and losses itself (pipelines/distributed/workers.py), so it meets neither of
the two defects of Keras 3.15. When one of these tests fails, Keras has been mended, and `fit` may
be used with MultiWorkerMirroredStrategy.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import tensorflow as tf
from keras.src.backend.tensorflow import trainer

from pipelines.distributed.cluster import Cluster, find_free_ports


def test_keras_cannot_average_scalar_metrics_over_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes the mean over axis 0, which scalars lack."""
    strategy = tf.distribute.MirroredStrategy(["/cpu:0"])
    monkeypatch.setattr(trainer, "_collective_all_reduce_multi_worker", lambda _: True)
    with pytest.raises(ValueError, match="Invalid reduction dimension 0"):
        trainer.reduce_per_replica({"loss": tf.constant(1.0)}, strategy, "auto")


FIT = """
import keras, tensorflow as tf
with tf.distribute.MultiWorkerMirroredStrategy().scope():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile(loss="mse", optimizer="sgd")
model.fit(tf.data.Dataset.from_tensors((tf.ones([8, 3]), tf.ones([8, 1]))), verbose=0)
"""


@pytest.mark.slow
def test_keras_cannot_build_a_model_from_inputs_and_targets_of_several_workers() -> None:
    """It takes the mean of a nested batch as if it were one tensor (_maybe_symbolic_build)."""
    cluster = Cluster(tuple(f"127.0.0.1:{port}" for port in find_free_ports(2)), 0)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", FIT],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "TF_CONFIG": cluster.tf_config(index)},
        )
        for index in range(2)
    ]
    for process in processes:
        _, told = process.communicate(timeout=300)
        assert process.returncode == 1, told
        assert "Attempt to convert a value (PerReplica" in told


def test_optuna_has_the_private_names_that_sweeps_use() -> None:
    import optuna

    assert callable(optuna.Study._get_trials)  # pruned_trials.py
    study = optuna.create_study()
    number = study.ask({"x": optuna.distributions.FloatDistribution(0, 1)}).number
    assert optuna.Trial(study, number).params.keys() == {"x"}  # trials.py resumes by id


def test_hydra_has_the_private_names_that_sweeps_use() -> None:
    import importlib

    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.plugins import Plugins
    from hydra.core.utils import JobReturn, JobStatus

    assert importlib.import_module("hydra._internal.hydra")  # preload.py
    assert hasattr(GlobalHydra.instance(), "hydra")  # best_run.py
    assert isinstance(Plugins.instance().class_name_to_class, dict)  # hydra_sweeper.py
    failed = JobReturn(status=JobStatus.FAILED)
    failed.return_value = ValueError("why")
    with pytest.raises(ValueError, match="why"):  # remote_sweep.py
        _ = failed.return_value


def test_tensorflow_has_the_private_names_that_workers_use() -> None:
    from tensorflow.python.distribute.cluster_resolver import slurm_cluster_resolver as slurm

    assert slurm.expand_hostlist("n[2,10]") == ["n2", "n10"]
    assert slurm.expand_tasks_per_node("2(x2),1") == [2, 2, 1]


def test_ray_has_the_private_names_that_its_trainer_uses() -> None:
    pytest.importorskip("ray.train", reason="Ray is not installed: pip install '.[ray]'")
    from ray.train.tensorflow import TensorflowConfig
    from ray.train.v2.api.exceptions import TrainingFailedError

    assert issubclass(TrainingFailedError, Exception)
    assert hasattr(TensorflowConfig().backend_cls, "share_cuda_visible_devices")
