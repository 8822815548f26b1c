"""A classifier that reads token by token says after each what it says of the text so far."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT, FinishedRun
from hydra import compose, initialize_config_dir

from models.classifier import initial_state
from models.heads import POOLINGS
from pipelines.config.restore import to_plain_values
from pipelines.config.schema import Config, parse
from pipelines.core.contracts import Codec
from pipelines.core.task import Trained
from pipelines.export.saved_model import Served

TEXTS = ["the film was a superb story", "dull dull unheard music , people and film"]


def built(*overrides: str) -> tuple[Config, keras.Model, Codec]:
    """A model with random weights and a codec that knows a few words."""
    quick_overrides = ["model.width=6", "task.embedding.width=5", "task.text.minimum_count=1"]
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        config = parse(
            to_plain_values(
                compose("config", [*quick_overrides, "task.embedding.scale=2", *overrides])
            )
        )
    codec = Codec(config.task.codec())
    codec.fields["tokens"].fit([["the film was a superb story", "dull music and people ,"]])
    codec.fields["label"].fit([["positive", "negative", "neither"] * 2])
    if "ngrams" in codec.fields:
        # Each twice, so that all of their n-grams are known.
        codec.fields["ngrams"].fit([["the film was a superb story", "dull music and people ,"] * 2])
    model = config.task.build(config.model, codec, 1)
    if "ngrams" in codec.fields:
        matrix = model.get_layer("ngram_logits").matrix
        matrix.assign(np.random.default_rng(0).normal(size=matrix.shape))
        matrix.assign(np.concatenate([np.zeros_like(matrix[:1]), matrix[1:]]))
        model.get_layer("mix").shares.assign([0.4, 0.7])
    return config, model, codec


def endpoints(*overrides: str) -> dict[str, Any]:
    """All that the SavedModel would offer."""
    config, model, codec = built(*overrides)
    offered = Served(Trained(config.task, model, codec, config.decode))
    # What keeps the variables alive goes along.
    return offered.endpoints | {"kept": (offered, model)}


def zeros(stream: Any, batch: int) -> dict[str, tf.Tensor]:
    """The state at the beginning, by nothing but the signature."""
    specs = stream.structured_input_signature[1]
    return {
        name: tf.zeros([batch, *spec.shape[1:]], spec.dtype)
        for name, spec in specs.items()
        if name.startswith("state")
    }


def check(offered: dict[str, Any], text: str, tolerance: float = 1e-5) -> None:
    words, stream = text.split(), offered["stream"]
    ids = offered["tokenize"](text=tf.constant([text]))["tokens"].numpy()[0]
    assert len(ids) == len(words)
    state = zeros(stream, 1)
    shapes = {name: value.shape for name, value in state.items()}
    for count, token in enumerate(ids, 1):
        said = stream(token=tf.constant([token]), **state)
        state = {name: said[name] for name in state}
        assert {name: value.shape for name, value in state.items()} == shapes
        whole = offered["serving_default"](text=tf.constant([" ".join(words[:count])]))
        np.testing.assert_allclose(
            said["probabilities"], whole["probabilities"], rtol=0, atol=tolerance
        )
        if tolerance < 1e-4:
            assert said["label"][0] == whole["label"][0]
        assert said["labels"].numpy().tolist() == whole["labels"].numpy().tolist()


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("cell", ["simple_rnn", "lstm", "gru"])
def test_each_prefix_is_answered_like_a_whole_text(cell: str, pooling: str) -> None:
    options = [f"model={cell}", "model.layers=2", "model.residual=true", f"task.pooling={pooling}"]
    offered = endpoints(*options)
    for text in TEXTS:
        check(offered, text)


@pytest.mark.parametrize("order", [0, 2])
def test_an_ensemble_reads_with_all_of_its_networks(order: int) -> None:
    options = ["task.ensemble=2", "task.pooling=mean_max", f"task.ngrams.order={order}"]
    offered = endpoints("model=lstm", *options)
    for text in TEXTS:
        check(offered, text)


def test_rows_of_a_batch_are_read_apart() -> None:
    offered = endpoints("task.pooling=attention")
    stream = offered["stream"]
    together = zeros(stream, 2)
    alone = zeros(stream, 1)
    for tokens in ([2, 7], [3, 8], [4, 9]):
        said = stream(token=tf.constant(tokens), **together)
        one = stream(token=tf.constant(tokens[1:]), **alone)
        np.testing.assert_allclose(said["probabilities"][1:], one["probabilities"], atol=1e-6)
        together, alone = ({name: out[name] for name in together} for out in (said, one))


def test_a_narrow_compute_type_stays_inside() -> None:
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        offered = endpoints("task.pooling=mean_max", "model.layers=2")
    finally:
        keras.config.set_dtype_policy("float32")
    kinds = {x.dtype for x in zeros(offered["stream"], 1).values()}
    assert kinds == {tf.float32, tf.int32}
    check(offered, TEXTS[1], tolerance=0.03)


def test_a_finished_run_offers_it(finished_run: FinishedRun) -> None:
    loaded = tf.saved_model.load(str(finished_run.directory / "saved_model"))
    check(dict(loaded.signatures), "the film was superb and the music")


def test_what_reads_backward_too_does_not_offer_it() -> None:
    assert set(endpoints("model=bi_gru")) == {"serving_default", "tokenize", "explain", "kept"}
    with pytest.raises(ValueError, match="Use the cell without bi_"):
        initial_state(built("model=bi_gru")[1], 1)
