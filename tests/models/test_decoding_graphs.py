"""Searches in graphs and SavedModels."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from toy_language import CODES, TOKENS, V, assert_same, beam, greedy, sampling, toy, toy_step

from models.decoding import search
from models.hypotheses import Hypotheses, SearchInputs

SIGNATURE = [
    tf.TensorSpec([None, CODES, V]),
    tf.TensorSpec([None, CODES, None]),
    tf.TensorSpec([None], tf.int32),
]


def graph(settings: Any, signature: Any = SIGNATURE) -> Any:
    def run(logits: tf.Tensor, attention: tf.Tensor, lengths: tf.Tensor) -> dict[str, tf.Tensor]:
        state = {"code": tf.zeros([tf.shape(logits)[0]], tf.int32)}
        memory = {"logits": logits, "attention": attention}
        found = search(
            toy_step,
            SearchInputs(state, memory, lengths),
            settings,
            TOKENS,
            return_attention=True,
        )
        return found._asdict()

    return tf.function(run, input_signature=signature)


HOW = {
    "greedy": greedy(maximum_ratio=2.0),
    "beam": beam(3, answers=2, length_penalty=0.6, coverage_penalty=0.2, no_repeat_ngram=2),
    "sample": sampling(answers=2, top_p=0.9),
}


@pytest.mark.parametrize("how", HOW)
def test_one_graph_serves_every_batch(how: str) -> None:
    run = graph(HOW[how])
    for rows, padding in ((1, 0), (5, 2), (9, 1)):
        language = toy(rows, rows=rows)
        language.attention = np.pad(language.attention, [(0, 0), (0, 0), (0, padding)])
        made = run(
            language.logits, language.attention, tf.constant(language.source_length, tf.int32)
        )
        assert_same(Hypotheses(**made), language.search(HOW[how], return_attention=True))
    assert run.experimental_get_tracing_count() == 1


@pytest.mark.parametrize("how", HOW)
def test_a_graph_of_a_known_number_of_rows_gives_the_same(how: str) -> None:
    """TensorFlow takes known sizes for constants; rows that are done leave all the same."""
    language = toy(3, rows=8)
    made = graph(HOW[how], signature=None)(
        tf.constant(language.logits, tf.float32),
        tf.constant(language.attention, tf.float32),
        tf.constant(language.source_length, tf.int32),
    )
    assert_same(Hypotheses(**made), language.search(HOW[how], return_attention=True))


def test_a_saved_model_in_a_fresh_process_gives_the_same(tmp_path: Path) -> None:
    language = toy(2, rows=6)
    lengths = language.source_length.astype("i")
    module = tf.Module()
    for name, settings in HOW.items():
        setattr(module, name, graph(settings))
    tf.saved_model.save(module, str(tmp_path / "saved"))
    np.savez(
        tmp_path / "given.npz",
        logits=language.logits,
        attention=language.attention,
        lengths=lengths,
    )
    code = (
        "import sys, numpy as np, tensorflow as tf\n"
        "saved, given = tf.saved_model.load('saved'), np.load('given.npz')\n"
        "given = [tf.constant(given[name]) for name in ('logits', 'attention', 'lengths')]\n"
        "for name in ('greedy', 'beam', 'sample'):\n"
        "    np.savez(name, **{k: v.numpy() for k, v in getattr(saved, name)(*given).items()})\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, timeout=300)
    for name, settings in HOW.items():
        with np.load(tmp_path / f"{name}.npz") as made:
            assert_same(Hypotheses(**made), language.search(settings, return_attention=True))
