"""What the project relies on in its libraries beyond their public interface, and their defects.

Where one of the first tests fails, a private name that the project uses has gone or changed. Where
one of the second fails, a library has been mended, and the detour around its defect can go.

The training loop sums gradients and losses itself (pipelines/distributed/workers.py), so it meets
neither of two defects of Keras 3.15's trainer. Without them, `fit` could be used with
MultiWorkerMirroredStrategy.
"""

from __future__ import annotations

import asyncio
import inspect
import io
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import get_args

import keras
import pytest
import tensorflow as tf
import uvicorn
from keras.src.backend.tensorflow import trainer
from keras.src.utils.naming import to_snake_case
from PIL import Image
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from sacrebleu.metrics.lib_ter import translation_edit_rate
from sacrebleu.metrics.ter import TER
from starlette.datastructures import Headers
from starlette.formparsers import MultiPartParser
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from models.settings import Network
from models.vision import find_preprocessing
from pipelines.distributed.cluster import Cluster, find_free_ports
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
def test_each_network_has_its_preprocessing(network: str) -> None:
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
        _, error = process.communicate(timeout=300)
        assert process.returncode == 1, error
        assert "Attempt to convert a value (PerReplica" in error


# Serving


def test_starlette_keeps_uploads_in_memory_up_to_spool_max_size() -> None:
    """There is no setting for it but this attribute, which the page sets for the process."""

    async def parts() -> AsyncIterator[bytes]:
        yield b'--x\r\nContent-Disposition: form-data; name="a"; filename="f"\r\n\r\n'
        yield b"1" * 5_000
        yield b"\r\n--x--\r\n"

    async def is_on_disk() -> bool:
        headers = Headers({"content-type": "multipart/form-data; boundary=x"})
        form = await MultiPartParser(headers, parts()).parse()
        return form["a"].file._rolled  # type: ignore[union-attr]

    with pytest.MonkeyPatch.context() as patch:
        for size, rolled in ((10_000, False), (1_000, True)):
            patch.setattr(MultiPartParser, "spool_max_size", size)
            assert asyncio.run(is_on_disk()) == rolled


def test_uvicorn_ends_by_handle_exit_should_exit_and_force_exit() -> None:
    """The server overrides the first, to drain, and sets the others."""
    server = uvicorn.Server(uvicorn.Config("none"))
    assert (server.should_exit, server.force_exit) == (False, False)
    server.handle_exit(signal.SIGTERM, None)
    assert (server.should_exit, server.force_exit) == (True, False)


def test_uvicorns_connections_have_the_names_that_their_limits_use() -> None:
    """pipelines/serve/connections.py overrides the parser's events, and reads what they keep."""
    state = ServerState()
    loop = asyncio.new_event_loop()
    connection = HttpToolsProtocol(uvicorn.Config(lambda: None), state, {}, loop)  # type: ignore[arg-type]
    loop.close()
    assert connection.connections is state.connections
    assert len(connection.pipeline) == 0
    events = "message_begin url header headers_complete body message_complete response_complete"
    others = "data_received pause_writing resume_writing handle_websocket_upgrade send_400_response"
    for name in (*(f"on_{event}" for event in events.split()), *others.split()):
        assert callable(getattr(HttpToolsProtocol, name)), name
    # So one that isn't among them is not overlooked: it could collect bytes without end.
    assert {name for name in vars(HttpToolsProtocol) if name.startswith("on_")} == {
        f"on_{event}" for event in events.split()
    }
    source = inspect.getsource(RequestResponseCycle.__init__)
    assert "self.response_complete = False" in source
    assert "self.more_body = True" in source


def test_pillow_says_how_many_pixels_the_images_have_that_it_refuses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The number is only in the message of its exception."""
    file = io.BytesIO()
    Image.new("1", (100, 50)).save(file, "PNG")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(Image.DecompressionBombError, match=r"^Image size \(5000 pixels\)"):
        Image.open(file)


def test_tensorflow_gives_the_specs_of_a_loaded_signature_by_name(tmp_path: Path) -> None:
    module = tf.Module()
    spec = tf.TensorSpec([None, None], tf.string, name="tokens")
    graph = tf.function(lambda tokens: {"y": tokens}, autograph=False)
    tf.saved_model.save(
        module, str(tmp_path), {"serving_default": graph.get_concrete_function(tokens=spec)}
    )
    loaded = tf.saved_model.load(str(tmp_path))
    positional, named = loaded.signatures["serving_default"].structured_input_signature
    assert positional == ()
    assert named.keys() == {"tokens"}
    assert named["tokens"].shape.as_list() == [None, None]
    assert named["tokens"].dtype.as_numpy_dtype is object


def test_optuna_has_the_private_names_that_sweeps_use() -> None:
    import optuna

    assert callable(optuna.Study._get_trials)  # pruned_trials.py
    study = optuna.create_study()
    number = study.ask({"x": optuna.distributions.FloatDistribution(0, 1)}).number
    assert optuna.Trial(study, number).params.keys() == {"x"}  # trials.py resumes by id


def test_hydra_asks_for_its_mode_by_a_method_that_can_be_replaced() -> None:
    """main.py answers for it, which saves a second composition of the configuration."""
    from hydra._internal import utils
    from hydra._internal.hydra import Hydra

    assert inspect.signature(Hydra.get_mode).parameters.keys() == {
        "self",
        "config_name",
        "overrides",
    }
    assert "hydra.get_mode(" in inspect.getsource(utils)


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


# sacreBLEU


def test_chrf_gives_counts_of_text_reference_and_common_ngrams_by_order() -> None:
    """CHRF._extract_corpus_statistics has no public form. Two orders of characters, 1 of words."""
    metric = CHRF(char_order=2, word_order=1)
    streams = [("abc", "x"), (None, "x y")]
    assert metric._extract_corpus_statistics(["ab", "x"], streams) == [
        [2, 3, 2, 1, 2, 1, 1, 1, 0],
        [1, 1, 1, 0, 0, 0, 1, 1, 1],
    ]


def test_sentence_bleu_gives_the_counts_that_corpus_bleu_sums() -> None:
    texts, references = ["a b c a", ""], ["a b d a a", "x"]
    options = {"tokenize": "none", "force": True}
    rows = [
        BLEU(**options, effective_order=True).sentence_score(text, [reference])
        for text, reference in zip(texts, references, strict=True)
    ]
    whole = BLEU(**options).corpus_score(texts, [references])
    assert [sum(row.counts[n] for row in rows) for n in range(4)] == whole.counts
    assert [sum(row.totals[n] for row in rows) for n in range(4)] == whole.totals
    assert sum(row.sys_len for row in rows) == whole.sys_len
    assert sum(row.ref_len for row in rows) == whole.ref_len


def test_ter_has_its_tokenizer_and_its_number_of_edits() -> None:
    assert TER().tokenizer("A b, c.") == "a b, c."
    assert translation_edit_rate(["c", "a", "b"], ["a", "b", "c"]) == (1, 3)
