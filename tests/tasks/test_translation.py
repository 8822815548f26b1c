"""Translation from files to a SavedModel that writes, alone and word by word."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from conftest import word_by_word
from tiny_runs import SOME_MODELS, Run, go
from tiny_translation import QUICK, SMALL

LONGER = ["decode.beam=4", "decode.answers=2", "train.epochs=20", "train.learning_rate=0.01"]


@pytest.fixture(scope="module")
def trained(pairs: list[str], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Run]:
    """A quick run of a model, trained when it is first asked for; the GRU's is longer.

    Each has asked its SavedModel in a fresh process, too.
    """
    folder = tmp_path_factory.mktemp("translation")

    @functools.cache
    def run(model: str) -> Run:
        asked = [*QUICK, f"model={model}", "export.verify=8", *(LONGER if model == "gru" else [])]
        return Run(folder / model, *go(folder / model, *asked, *pairs))

    return run


@pytest.mark.parametrize("model", SOME_MODELS)
def test_every_model_goes_from_pairs_to_a_saved_model_that_a_fresh_process_agrees_with(
    model: str, trained: Callable[[str], Run]
) -> None:
    directory, metrics, history = trained(model)
    assert history[-1]["train.loss"] > 0
    assert metrics["test"]["perplexity"]["value"] > 1
    assert 0 <= metrics["test"]["bleu"]["value"] <= 100
    assert (directory / "saved_model" / "saved_model.pb").exists()


@pytest.mark.parametrize("model", SOME_MODELS)
def test_every_model_learns_pairs_by_heart(model: str, pairs: list[str], tmp_path: Path) -> None:
    plain = [
        "train.epochs=100", "train.learning_rate=0.01", "train.ema_decay=null",
        "train.patience=null",
        "task.embedding.word_dropout=0", "task.embedding.dropout=0", "task.decoder.dropout=0",
        "task.label_smoothing=0", "task.decoder.tied=false", "model.width=32",
        "export.saved_model=false", "evaluate.diagnostics=false", "train.evaluate_every=100000",
    ]  # fmt: skip
    _, history = go(tmp_path / "run", f"model={model}", *SMALL, *plain, *pairs)
    assert history[-1]["train.loss"] < 0.1


@pytest.mark.parametrize(
    "options",
    [
        [
            "task.decoder.attention=none",
            "task.decoder.tied=false",
            "decode=sample",
            "decode.answers=2",
            "decode.top_k=5",
        ],
        [
            "task.decoder.attention=additive",
            "task.decoder.input_feeding=true",
            "decode.replace_unknown=true",
            "task.text.minimum_count=40",
        ],
        ["task.vocabulary=joint", "decode=greedy"],
        *(
            pytest.param(options, marks=pytest.mark.slow)
            for options in (
                ["task.decoder.attention=dot", "model.layers=2", "model.residual=true"],
                ["task.sampling.schedule=linear", "task.sampling.steps=2", "task.sampling.floor=0"],
                ["decode.answers=3", "decode.coverage_penalty=0.2", "decode.no_repeat_ngram=2"],
                ["task.text.tokens=character", "train.evaluate_every=2"],
                ["train.precision=mixed_bfloat16", "train.accumulation_steps=2"],
            )
        ),
    ],
    ids=lambda options: options[0],
)
def test_options_work_from_end_to_end(options: list[str], pairs: list[str], tmp_path: Path) -> None:
    metrics, _ = go(tmp_path / "run", *QUICK, *pairs, *options)
    assert metrics["test"]["perplexity"]["value"] > 1


def test_pieces_are_fewer_where_the_data_hold_fewer(pairs: list[str], tmp_path: Path) -> None:
    pytest.importorskip("tensorflow_text")
    short = ["train.max_steps=1", "export.saved_model=false", "decode=greedy"]
    metrics, _ = go(tmp_path / "run", *QUICK, *pairs, "task.text.tokens=sentencepiece", *short)
    assert metrics["data"]["codec"]["source_tokens"]["vocabulary"] < 8000


class TestSavedModel:
    """One run with beam search; what its SavedModel offers."""

    @pytest.fixture(scope="class")
    @classmethod
    def run(cls, trained: Callable[[str], Run]) -> Path:
        return trained("gru").directory

    @pytest.fixture(scope="class")
    @classmethod
    def signatures(cls, run: Path) -> dict:
        loaded = tf.saved_model.load(str(run / "saved_model"))
        names = ("serving_default", "greedy", "beam", "encode", "step", "text", "explain")
        return {name: loaded.signatures[name] for name in names} | {"kept": loaded}

    SENTENCES = ("one two .", "five six seven eight one two .", "three .")

    def test_it_answers_as_the_evaluation_did(self, run: Path, signatures: dict) -> None:
        lines = [json.loads(line) for line in (run / "predictions.jsonl").read_text().splitlines()]
        given = [line["given"]["source"] for line in lines]
        answers = signatures["serving_default"](source=tf.constant(given))
        expected = [line["answer"]["translation"] for line in lines]
        assert [text.decode() for text in answers["translation"].numpy()] == expected
        assert answers["translations"].shape[1] == 2
        np.testing.assert_array_equal(answers["translations"][:, 0], answers["translation"])

    def test_explain_gives_all_hypotheses_and_the_same_best(self, signatures: dict) -> None:
        sentences = tf.constant(self.SENTENCES)
        best = signatures["serving_default"](source=sentences)
        every = signatures["explain"](source=sentences)
        assert every["translations"].shape[1] == 4
        scores = every["scores"].numpy()
        assert (np.diff(scores) <= 0).all()
        for name in ("translation", "score", "source_tokens"):
            np.testing.assert_array_equal(every[name], best[name])
        width = best["tokens"].shape[1]  # another hypothesis may be longer
        for name in ("tokens", "attention"):
            np.testing.assert_array_equal(every[name][:, :width], best[name])
        assert not (every["tokens"].numpy()[:, width:] != b"").any()
        np.testing.assert_array_equal(every["translations"][:, 0], best["translation"])
        np.testing.assert_array_equal(scores[:, 0], best["score"])

    def test_a_batch_answers_what_its_members_answer_alone(self, signatures: dict) -> None:
        together = signatures["beam"](source=tf.constant(self.SENTENCES))
        for row, sentence in enumerate(self.SENTENCES):
            alone = signatures["beam"](source=tf.constant([sentence]))
            assert alone["translation"][0] == together["translation"][row]
            np.testing.assert_allclose(alone["score"][0], together["score"][row], atol=1e-5)

    def test_attention_is_over_the_source_and_sums_to_one(self, signatures: dict) -> None:
        answers = signatures["greedy"](source=tf.constant(self.SENTENCES))
        attention, tokens = answers["attention"].numpy(), answers["tokens"].numpy()
        real = tokens != b""
        assert attention.shape == (*tokens.shape, answers["source_tokens"].shape[1])
        np.testing.assert_allclose(attention.sum(-1)[real], 1, atol=1e-5)
        assert np.all(attention[0, :, 3:] == 0)  # "one two ." has three tokens

    def test_word_by_word_equals_greedy(self, signatures: dict) -> None:
        """A client's own loop with encode, step and text, as the README shows it."""
        whole = signatures["greedy"](source=tf.constant(self.SENTENCES))
        for row, sentence in enumerate(self.SENTENCES):
            text = word_by_word(signatures, 30, source=tf.constant([sentence]))
            assert text == whole["translation"].numpy()[row]

    def test_predict_answers_in_the_order_of_the_lines(self, run: Path, tmp_path: Path) -> None:
        from hydra import compose, initialize_config_dir

        from pipelines.core.paths import ROOT
        from pipelines.pipeline import run as start

        source, output = tmp_path / "in.txt", tmp_path / "out.jsonl"
        strange = "これは日本語です。"
        source.write_text("\n".join([*self.SENTENCES, strange]) + "\n", encoding="utf-8")
        overrides = ["mode=predict", f"run={run}", f"input={source}", f"output={output}"]
        with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
            start(compose("config", overrides), overrides, "unused")
        lines = [json.loads(line) for line in output.read_text().splitlines()]
        assert [line["source"] for line in lines] == [*self.SENTENCES, strange]
        assert all(line["translation"] for line in lines[:-1])
        assert not any("warning" in line or "attention" in line for line in lines[:-1])
        assert "are unknown" in lines[-1]["warning"]
