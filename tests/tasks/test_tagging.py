"""Tagging from files to a SavedModel: what is learnt, what is answered, and how sure."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from fresh_process import check_fresh_answers
from score_checks import ColumnSplit, check_scores
from tagged import QUICK, sentences, write_columns
from tiny_runs import MODELS, SOME_MODELS, Run, run_each_model_once, run_here
from tiny_task import TinyTask

from models.embedding import VocabularySpec, build_embedding
from models.tagger import AllowedTags, Tagger, answer_tags, entity_probabilities
from pipelines.core.task import Trained
from pipelines.evaluate.baselines.tagging import crf_on_features, features, most_frequent_tags
from pipelines.export.saved_model import Served

PLAIN = [
    "task.embedding.word_dropout=0", "task.embedding.dropout=0", "task.spelling.dropout=0",
    "task.dropout=0", "train.learning_rate=0.01", "train.ema_decay=null",
]  # fmt: skip


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    path = write_columns(tmp_path_factory.mktemp("tagged") / "people.conll", sentences(200))
    return [*QUICK, f"data.path={path}"]


@pytest.fixture(scope="module")
def run_of(files: list[str], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Run]:
    """A quick run of a model."""
    folder = tmp_path_factory.mktemp("tagging")
    return run_each_model_once(folder, [*files, "evaluate.diagnostics=false"], {})


def tiny(*overrides: str) -> TinyTask:
    rows = sentences(24)
    raw = {
        "tokens": [[word for word, _ in row] for row in rows],
        "tags": [[tag for _, tag in row] for row in rows],
    }
    return TinyTask(raw, *QUICK, *PLAIN, "data.path=x", *overrides)


def test_scores_are_the_metrics_that_the_task_declares() -> None:
    predictions = {
        "tags": np.array(["B-A\tI-A\tO", "B-B"], object),
        "unknown": np.array([[0, 1, 0], [0, 0, 0]]),
    }
    check_scores("tagging", predictions, ColumnSplit(tags=[["B-A", "I-A", "O"], ["B-B"]]))


@pytest.mark.parametrize("model", SOME_MODELS)
def test_every_model_goes_from_files_to_a_saved_model(
    model: str, run_of: Callable[[str], Run]
) -> None:
    directory, metrics, history = run_of(model)
    assert history[-1]["train.loss"] < history[0]["train.loss"]
    assert 0 <= metrics["test"]["entity_f1"]["value"] <= 1
    assert (directory / "saved_model" / "saved_model.pb").exists()


def test_a_fresh_process_answers_as_the_model_did(run_of: Callable[[str], Run]) -> None:
    check_fresh_answers([run_of("bi_lstm").directory])


@pytest.mark.parametrize(
    ("model", "crf"),
    [
        ("gru", "false"),
        *(
            (model, "true")
            if model in ("gru", "bi_lstm")
            else pytest.param(model, "true", marks=pytest.mark.slow)
            for model in MODELS
        ),
    ],
)
def test_every_model_learns_tags_by_heart(model: str, crf: str) -> None:
    """Forward models too: here no tag depends on what follows but for New York and ends."""
    options = ["task.scheme=bio", f"task.crf={crf}", f"model={model}", "model.width=24"]
    assert tiny(*options).learn_by_heart(150) < 0.05


@pytest.mark.parametrize(
    "options",
    [
        ["task.spelling.network=recurrent", "task.crf=false", "model=gru", "task.scheme=bio"],
        ["task.spelling.network=none", "task.spelling.affixes=[]", "model.layers=2"],
        ["task.spelling.network=none", "train.precision=mixed_bfloat16"],
    ],
    ids=lambda options: options[0],
)
def test_options_work_from_end_to_end(options: list[str], files: list[str], tmp_path: Path) -> None:
    metrics = run_here(tmp_path / "run", *files, *options).metrics
    assert metrics["test"]["accuracy"]["value"] > 0


@pytest.mark.parametrize("crf", ["true", "false"])
def test_what_no_scheme_allows_is_never_answered(crf: str) -> None:
    """By a model that has learnt nothing, whose scores are as good as random."""
    task = tiny(f"task.crf={crf}", "seed=3")
    for variable in task.model.trainable_variables:
        variable.assign(tf.random.stateless_normal(variable.shape, [1, len(variable.path)]))
    start, moves, end = (np.array(part) for part in task.codec.fields["tags"].allowed)
    tags = answer_tags(task.model, task.batch.inputs).tags.numpy()
    lengths = task.batch.inputs["words_length"]
    answered = set()
    for row, length in zip(tags, lengths, strict=True):
        path = row[:length]
        answered |= set(path.tolist())
        assert start[path[0]]
        assert end[path[-1]]
        assert all(moves[one, other] for one, other in itertools.pairwise(path))
    assert len(answered) > 3


def test_batch_mates_and_padding_change_no_answer() -> None:
    task = tiny()
    whole = task.predict()
    for row in (0, 5):
        alone = task.predict(task.rows(row))
        assert alone["tags"][0] == whole["tags"][row]
        length = int(task.columns["words_length"][row])
        for name in ("probability", "entity_probability"):
            np.testing.assert_allclose(
                alone[name][0, :length], whole[name][row, :length], atol=1e-5
            )
            assert not whole[name][row, length:].any()


@pytest.mark.parametrize("scheme", ["bio", "bioes"])
def test_an_entity_is_as_probable_as_all_paths_that_have_it(scheme: str) -> None:
    """Of a sentence of four words, path by path."""
    task = tiny(f"task.scheme={scheme}")
    for variable in task.model.chain.trainable_variables:
        variable.assign(tf.random.stateless_normal(variable.shape, [2, len(variable.path)]))
    columns = {name: values[:1] for name, values in task.columns.items()}
    columns = {
        name: np.full_like(values, 4) if name.endswith("_length") else values[:, :4]
        for name, values in columns.items()
    }
    inputs = task.task.batch(columns, task.codec).inputs
    codec = task.codec.fields["tags"]
    answer = answer_tags(task.model, inputs)
    begins, continues = codec.borders
    found = entity_probabilities(answer, begins, continues).numpy()[0]
    scores = task.model.scores(inputs).numpy()[:, 0]
    start, moves, end = (part.numpy() for part in task.model.chain.potentials)
    total, having = 0.0, np.zeros(4)
    best = answer.tags.numpy()[0].tolist()

    def entity_at(path: list[int], place: int) -> list[int]:
        stop = place + 1
        while stop < 4 and continues[path[stop - 1], path[stop]]:
            stop += 1
        return path[place:stop]

    for numbers in itertools.product(range(len(codec.names)), repeat=4):
        path = list(numbers)
        weight = np.exp(
            start[path[0]] + end[path[-1]] + sum(scores[t, tag] for t, tag in enumerate(path))
            + sum(moves[pair] for pair in itertools.pairwise(path))
        )  # fmt: skip
        total += weight
        for place in range(4):
            same = entity_at(path, place) == entity_at(best, place)
            having[place] += weight * (begins[best[place]] and same)
    np.testing.assert_allclose(found, having / total, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("crf", ["true", "false"])
def test_a_stream_says_of_each_word_what_the_sentence_so_far_says(crf: str) -> None:
    task = tiny("model=gru", f"task.crf={crf}")
    for variable in task.model.chain.trainable_variables:
        variable.assign(tf.random.stateless_normal(variable.shape, [2, len(variable.path)]))
    trained = Trained(task.task, task.model, task.codec, task.config.decode)
    served = Served(trained)
    words = task.raw["tokens"][0]
    given = {"tokens": tf.constant([words]), "tokens_length": tf.constant([len(words)])}
    ids = served.endpoints["tokenize"](**given)
    stream = served.endpoints["stream"]
    specs = stream.structured_input_signature[1]
    state = {
        name: tf.zeros([1, *spec.shape[1:]], spec.dtype)
        for name, spec in specs.items()
        if name.startswith("state")
    }
    for count in range(1, len(words) + 1):
        token = {"token": ids["words"][:, count - 1], "spelling": ids["spelling"][:, count - 1]}
        said = stream(**token, **state)
        state = {name: said[name] for name in state}
        given = {"tokens": tf.constant([words[:count]]), "tokens_length": tf.constant([count])}
        assert said["tag"][0] == served.endpoints["serving_default"](**given)["tags"][0, -1]


def test_a_backward_direction_has_no_stream() -> None:
    task = tiny("model=bi_gru")
    trained = Trained(task.task, task.model, task.codec, task.config.decode)
    assert task.task.stream(trained) is None


def test_predict_says_where_entities_are(run_of: Callable[[str], Run], tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    directory = run_of("bi_lstm").directory
    run_here(directory, "mode=predict", f"run={directory}", "input=Ada met Grace Hopper in London",
             f"output={output}")  # fmt: skip
    (answer,) = (json.loads(line) for line in output.read_text().splitlines())
    assert len(answer["tags"]) == 6
    for found in answer["entities"]:
        assert answer["tags"][found["start"]] == f"B-{found['type']}"
        assert 0 < found["probability"] <= 1


def test_the_most_frequent_tag_by_hand() -> None:
    """Of words that occur once most are N: so are those that training lacks."""
    train = [(["a", "a", "a", "b", "c", "d"], ["D", "D", "V", "N", "N", "V"])]
    assert most_frequent_tags(train, [["a", "d", "new"]]) == [["D", "V", "N"]]


def test_features_of_words_and_their_neighbours() -> None:
    (first, _) = features(["Ada", "3.55"])
    assert {"word:ada", "shape:Xx", "ends2:da", "begins:ad", "-1:no word"} <= set(first)
    assert {"+1:word:3.55", "+1:shape:0.0", "+2:no word"} <= set(first)
    assert "+1:ends2:55" not in first


def test_a_crf_on_features_tells_words_apart_that_it_has_not_seen() -> None:
    pytest.importorskip("pycrfsuite")
    train = [([f"{letter}ing", f"{letter}ed"], ["NOUN", "VERB"]) for letter in "abcdefgh"]
    assert crf_on_features(train, [["xying", "zed"]]) == [["NOUN", "VERB"]]


def test_pretrained_vectors_come_back_with_a_saved_tagger(tmp_path: Path) -> None:
    """Frozen ones of a width of their own, with a word that has none."""
    task = tiny("task.embedding.trainable=false")
    vectors = np.random.default_rng(0).normal(size=(9, 7)).astype(np.float32)
    vectors[:3] = 0
    made = Tagger(
        task.config.model.of_width(8),
        build_embedding(task.task.embedding, VocabularySpec(9, vectors), seed=1),
        task.task.spelling,
        characters=task.codec.spec.sizes["spelling"],
        dropout=0.0,
        learns_transitions=True,
        allowed=AllowedTags.everything(4),
    )
    inputs = {**task.batch.inputs, "words": task.batch.inputs["words"] % 9}
    made.save(tmp_path / "tagger.keras")
    again = keras.models.load_model(tmp_path / "tagger.keras")
    assert again.embedding.width == 7
    np.testing.assert_allclose(again.scores(inputs), made.scores(inputs), atol=1e-6)
