"""Lazy embeddings in the models, which look them up in all the ways there are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from tiny_captioning import PLAIN, TinyCaptioning

from models.embedding import Embedding, VocabularySpec, build_embedding
from models.settings import EmbeddingSettings
from pipelines.config.schema import parse
from pipelines.core.contracts import Codec
from pipelines.core.paths import ROOT
from pipelines.graphs.tracing import pad_ragged
from pipelines.tasks._shared.self_critical import Rewards, SelfCritical, identify_references
from pipelines.train.lazy_adam import LazyAdam, LazySettings
from pipelines.train.learner import Learner
from pipelines.train.optimizers import ADAM

TRANSLATION = [
    "task=translation", "task.text.tokens=word", "model.width=6", "task.embedding.width=5",
    "task.embedding.dropout=0", "task.embedding.word_dropout=0", "task.decoder.dropout=0",
    "task.decoder.tied=false",
    "train.learning_rate=0.01",
]  # fmt: skip
PAIRS = {
    "source": ["one two", "two three three", "four one", "one one one two"],
    "target": ["eins zwei", "zwei drei drei", "vier eins", "one eins eins zwei"],
}


def translation(*overrides: str) -> tuple[Any, ...]:
    """Task, model, codec, settings and a batch."""
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        composed = compose("config", [*TRANSLATION, *overrides])
    config = parse(OmegaConf.to_container(composed, resolve=True))  # type: ignore[arg-type]
    codec = Codec(config.task.codec())
    for field in codec.fields.values():
        field.fit([PAIRS[column] for column in field.learns_from])
    raw = {name: tf.constant(values) for name, values in PAIRS.items()}
    columns = {name: value.numpy() for name, value in pad_ragged(codec.encode(raw)).items()}
    model = config.task.build(config.model, codec, 1)
    return config.task, model, codec, config.train, config.task.batch(columns, codec)


def captioning() -> tuple[Any, ...]:
    """The same, self-critical from step 3 on."""
    tiny = TinyCaptioning(*PLAIN, "train.learning_rate=0.003")
    references = [text.split("\n") for text in tiny.raw["captions"]]
    rewards = Rewards(
        references, identify_references(tiny.batch.targets, tiny.batch.inputs["owner"]), "13a"
    )
    task = SelfCritical(tiny.task, 3, tiny.codec.fields["caption_tokens"].text, rewards)
    return task, tiny.model, tiny.codec, tiny.config.train, tiny.batch


@pytest.mark.parametrize(
    ("make", "tables"),
    [
        (lambda: translation(), 2),
        (lambda: translation("task.sampling.schedule=linear", "task.sampling.steps=20"), 2),
        (lambda: translation("task.vocabulary=joint"), 1),
        (lambda: translation("task.decoder.tied=true"), 1),
        (lambda: translation("task.decoder.input_feeding=true"), 2),
        (captioning, 1),
    ],
    ids=["plain", "scheduled sampling", "joint", "tied", "input feeding", "self-critical"],
)
def test_a_lazy_model_ends_as_one_whose_rows_are_all_updated(
    make: Callable[[], tuple[Any, ...]], tables: int
) -> None:
    ends = []
    for least in (1, 10**9):
        task, model, codec, settings, batch = make()
        lazy = LazySettings(smallest_matrix=least)
        learner = Learner(task, model, codec, settings, 100, lazy_settings=lazy)
        rows = learner.weights.lazy_adam
        assert (len(rows.tables) if rows else 0) == (tables if least == 1 else 0)
        losses = []
        for step in range(8):
            learner.reset()
            learner.train_step([batch], step)
            losses.append(learner.mean_loss())
        learner.weights.flush()
        weights = [np.asarray(variable) for variable in model.trainable_variables]
        averages = learner.weights.ema_values() if settings.ema_decay else []
        ends.append((losses, [*weights, *map(np.asarray, averages)]))
    (ours, one), (theirs, other) = ends
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
    for a, b in zip(one, other, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


def test_frozen_vectors_are_looked_up_together_with_lazy_rows() -> None:
    settings = EmbeddingSettings(
        width=2, scale=0.5, vectors=None, trainable=False, word_dropout=0.0, dropout=0.0
    )
    given = np.array([[0, 0], [0, 0], [3, 4], [0, 0], [5, 6]], np.float32)
    embedding = build_embedding(settings, VocabularySpec(5, given), seed=1)
    assert isinstance(embedding, Embedding)
    ours = LazyAdam([embedding], ADAM, ema=True)
    ids, mask = tf.constant([[2, 3], [4, 1]]), tf.ones([2, 2], tf.bool)
    for _ in range(2):
        with ours.recording_lookups(), tf.GradientTape() as tape:
            vectors = embedding(ids, mask)
            total = tf.reduce_sum(vectors * [[[1.0, 1], [2, 2]], [[1, 1], [3, 3]]])
        (gradient,) = ours.coalesce([tape.gradient(total, embedding.matrix.value)])
        ours.update([gradient], tf.constant(0.1), tf.constant(0.5))
    ours.flush()
    np.testing.assert_array_equal(embedding(ids, mask)[:, 0], given[[2, 4]])
    start = build_embedding(settings, VocabularySpec(5, given), seed=1).matrix.numpy()
    # Rows: padding, the unknown word and word 3. Adam with a constant gradient g goes on by
    # m / sqrt(v) = 0.1 / sqrt(0.001), then 0.19 / sqrt(0.001999), here without their correction.
    step = 0.1 * (0.1 / 0.001**0.5 + 0.19 / 0.001999**0.5)
    moved = start - embedding.matrix.numpy()
    np.testing.assert_allclose(moved, [[0, 0], [step, step], [step, step]], rtol=1e-4, atol=1e-6)
