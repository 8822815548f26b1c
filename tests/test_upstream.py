"""What the project relies on in its libraries beyond their public interface, and their defects.

Where one of the first tests fails, a private name that the project uses has gone or changed. Where
one of the second fails, a library has been mended, and the detour around its defect can go.

The training loop sums gradients and losses itself (pipelines/distributed/workers.py), so it meets
neither of two defects of Keras 3.15's trainer. Without them, `fit` could be used with
MultiWorkerMirroredStrategy.
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import get_args

import keras
import pytest
import tensorflow as tf
from keras.src.backend.tensorflow import trainer
from keras.src.utils.naming import to_snake_case

from models.settings import Network
from models.vision import find_preprocessing
from pipelines.distributed.cluster import Cluster, _free_ports
from pipelines.train.optimizers import FusedAdam

# Keras: names without a public form


def test_flatten_layers_gives_the_model_and_all_layers_inside_it() -> None:
    """models/layer_tree.py; Model.layers stops at the first level."""
    inner = keras.Sequential([keras.layers.Dense(1, name="a"), keras.layers.Dense(1, name="b")])
    model = keras.Sequential([keras.Input((1,)), inner, keras.layers.Dense(1, name="c")])
    names = [layer.name for layer in model._flatten_layers()]
    assert names[0] == model.name
    assert {inner.name, "a", "b", "c"} <= set(names)
    assert "a" not in [layer.name for layer in model.layers]


def test_layers_in_nested_lists_are_flattened_too() -> None:
    """Stacks of recurrent layers hold theirs by level and direction."""

    class Stack(keras.layers.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.levels = [[keras.layers.Dense(1, name="a")], [keras.layers.Dense(1, name="b")]]

    assert {"a", "b"} <= {layer.name for layer in Stack()._flatten_layers()}


@pytest.mark.parametrize("network", [n for n in get_args(Network) if n != "residual"])
def test_each_network_has_itsfind_preprocessing(network: str) -> None:
    """models/vision.py finds it in the public module that has the network."""
    own = sys.modules[getattr(keras.applications, network).__module__]
    assert find_preprocessing(network) is own.preprocess_input


def test_an_optimizer_corrects_once_and_updates_each_variable() -> None:
    """FusedAdam overrides build, apply and update_step, and uses add_optimizer_variables."""
    variable = keras.Variable([1.0], name="kernel")
    optimizer = FusedAdam(0.1)
    optimizer.build([variable])
    names = [v.path.rpartition("/")[2] for v in optimizer.variables]
    assert names == ["iteration", "learning_rate", "kernel_momentum", "kernel_velocity"]
    optimizer.apply([tf.constant([3.0])])
    # Adam's first step is the learning rate, whatever the gradient.
    assert variable.numpy() == pytest.approx([0.9], rel=1e-5)


def test_saved_weights_have_paths_of_class_names() -> None:
    """So a renamed layer class keeps its former __name__; see the end of models/vision.py."""
    assert to_snake_case("PictureEncoder") == "picture_encoder"


# TensorFlow


def test_a_branch_is_a_graph_of_its_own() -> None:
    """pipelines/train/lazy_adam.py tells a look-up in a branch or a loop by its tensors' graph."""
    graphs = []

    def note() -> tf.Tensor:
        made = tf.constant(0)
        graphs.append(made.graph)
        return made

    @tf.function(autograph=False)
    def run(x: tf.Tensor) -> tf.Tensor:
        note()
        return tf.cond(x > 0, note, lambda: 1)

    run(tf.constant(1))
    assert graphs[0] is not graphs[1]


# Keras: defects


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
    cluster = Cluster(tuple(f"127.0.0.1:{port}" for port in _free_ports(2)), 0)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", FIT],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "TF_CONFIG": cluster.config(index)},
        )
        for index in range(2)
    ]
    for process in processes:
        _, told = process.communicate(timeout=300)
        assert process.returncode == 1, told
        assert "Attempt to convert a value (PerReplica" in told
