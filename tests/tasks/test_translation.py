"""Translation from files to a SavedModel that writes, alone and word by word."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from conftest import WORDS, ZAHLEN
from saved_decoder import SavedDecoder
from score_checks import LIKELIHOODS, ColumnSplit, check_scores
from tiny_runs import SOME_MODELS, Run, run_each_model_once, run_here
from tiny_task import TinyTask, configure
from tiny_translation import QUICK, SMALL

from pipelines.data.prepare import prepare

LONGER = ["decode.beam=4", "decode.answers=2", "train.epochs=20", "train.learning_rate=0.01"]


@pytest.fixture(scope="module")
def run_of(pairs: list[str], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Run]:
    """A quick run of a model; the GRU's is longer, and TestSavedModel loads what it exports.

    The others compare their SavedModel's answers in a fresh process.
    """
    overrides = [*QUICK, "export.verify=8", *pairs]
    folder = tmp_path_factory.mktemp("translation")
    return run_each_model_once(folder, overrides, {"gru": [*LONGER, "export.verify=0"]})


def test_scores_are_the_metrics_that_the_task_declares() -> None:
    translations = {"translation": np.array(["a b c", "d"], object)}
    check_scores("translation", translations | LIKELIHOODS, ColumnSplit(target=["a b c", "e"]))


@pytest.mark.parametrize("model", SOME_MODELS)
def test_every_model_goes_from_pairs_to_a_saved_model(
    model: str, run_of: Callable[[str], Run]
) -> None:
    directory, metrics, history = run_of(model)
    assert history[-1]["train.loss"] > 0
    assert metrics["test"]["perplexity"]["value"] > 1
    assert 0 <= metrics["test"]["bleu"]["value"] <= 100
    assert (directory / "saved_model" / "saved_model.pb").exists()


@pytest.mark.parametrize("model", SOME_MODELS)
def test_every_model_learns_pairs_by_heart(model: str) -> None:
    rng = random.Random(0)
    numbers = [rng.choices(range(8), k=rng.randint(1, 5)) for _ in range(32)]
    raw = {
        "source": [" ".join(WORDS[i] for i in one) for one in numbers],
        "target": [" ".join(ZAHLEN[i] for i in one) for one in numbers],
    }
    overrides = [
        "train.learning_rate=0.01", "train.ema_decay=null", "task.embedding.word_dropout=0",
        "task.embedding.dropout=0", "task.decoder.dropout=0", "task.label_smoothing=0",
        "task.decoder.tied=false", "model.width=32",
    ]  # fmt: skip
    tiny = TinyTask(raw, *SMALL, f"model={model}", *overrides)
    assert tiny.learn_by_heart(150) < 0.1


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
            "task.vocabulary=joint",
            "task.adversarial=0.3",
            "decode=greedy",
            "decode.replace_unknown=true",
            "task.text.minimum_count=40",
        ],
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
    metrics = run_here(tmp_path / "run", *QUICK, *pairs, *options).metrics
    assert metrics["test"]["perplexity"]["value"] > 1


def test_a_vocabulary_of_pieces_is_smaller_where_the_data_have_fewer(pairs: list[str]) -> None:
    pytest.importorskip("tensorflow_text")
    config = configure(*SMALL, *pairs, "task.text.tokens=sentencepiece")
    encoded = prepare(config.data, config.task, config.prepare)
    assert encoded.report["codec"]["source_tokens"]["vocabulary"] < 4000


class TestSavedModel(SavedDecoder):
    """One run with beam search; what its SavedModel offers."""

    column, answer = "source", "translation"
    inputs = ("one two .", "five six seven eight one two .", "three .")

    @pytest.fixture(scope="class")
    @classmethod
    def run(cls, run_of: Callable[[str], Run]) -> Path:
        return run_of("gru").directory

    def places(self, answers: dict[str, tf.Tensor]) -> int:
        return answers["source_tokens"].shape[1]

    def test_attention_leaves_padding_out(self, signatures: dict) -> None:
        attention = self.call(signatures["greedy"])["attention"].numpy()
        assert np.all(attention[0, :, 3:] == 0)  # "one two ." has three tokens

    def test_explain_names_the_tokens_of_the_source(self, signatures: dict) -> None:
        tokens = self.call(signatures["explain"])["source_tokens"].numpy()
        assert [token for token in tokens[0] if token] == [b"one", b"two", b"."]

    def test_predict_answers_in_the_order_of_the_lines(self, run: Path, tmp_path: Path) -> None:
        from hydra import compose, initialize_config_dir

        from pipelines.core.paths import ROOT
        from pipelines.pipeline import run as start

        source, output = tmp_path / "in.txt", tmp_path / "out.jsonl"
        strange = "これは日本語です。"
        source.write_text("\n".join([*self.inputs, strange]) + "\n", encoding="utf-8")
        overrides = ["mode=predict", f"run={run}", f"input={source}", f"output={output}"]
        with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
            start(compose("config", overrides), overrides, "unused")
        lines = [json.loads(line) for line in output.read_text().splitlines()]
        assert [line["source"] for line in lines] == [*self.inputs, strange]
        assert all(line["translation"] for line in lines[:-1])
        assert not any("warning" in line or "attention" in line for line in lines[:-1])
        assert "are unknown" in lines[-1]["warning"]
