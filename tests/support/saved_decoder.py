"""What the SavedModel of every task that writes text must do: tests of one run with beam search.

A task's module derives a class from SavedDecoder whose name begins with Test, so that pytest
collects these tests with its own.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import tensorflow as tf

BEGIN, END = 2, 3
NEVER_WRITTEN = [0, 1, BEGIN]
"""Padding, the unknown word and the begin marker."""


class SavedDecoder:
    """The run has decode.beam=4 and decode.answers=2.

    column  the input that the SavedModel takes, and its name in predictions.jsonl.
    answer  the output with the text.
    inputs  three of them.
    """

    column: ClassVar[str]
    answer: ClassVar[str]
    inputs: ClassVar[Sequence[str | bytes]]

    def read_input(self, value: str) -> str | bytes:
        """The raw input that predictions.jsonl names."""
        return value

    def places(self, answers: dict[str, tf.Tensor]) -> int:
        """How many places of the input attention is over."""
        raise NotImplementedError

    @pytest.fixture(scope="class")
    @classmethod
    def run(cls) -> Path:
        raise NotImplementedError("a run of the task")

    @pytest.fixture(scope="class")
    @classmethod
    def signatures(cls, run: Path) -> dict[str, Any]:
        loaded = tf.saved_model.load(str(run / "saved_model"))
        names = ("serving_default", "greedy", "beam", "encode", "step", "text", "explain")
        # What keeps the variables alive goes along.
        return {name: loaded.signatures[name] for name in names} | {"kept": loaded}

    def call(self, function: Any, inputs: Sequence[str | bytes] | None = None) -> dict[str, Any]:
        return function(**{self.column: tf.constant(self.inputs if inputs is None else inputs)})

    def test_it_answers_as_the_evaluation_did(self, run: Path, signatures: dict) -> None:
        lines = [json.loads(line) for line in (run / "predictions.jsonl").read_text().splitlines()]
        inputs = [self.read_input(line["given"][self.column]) for line in lines]
        answers = self.call(signatures["serving_default"], inputs)
        expected = [line["answer"][self.answer] for line in lines]
        assert [text.decode() for text in answers[self.answer].numpy()] == expected
        several = answers[f"{self.answer}s"]
        assert several.shape[1] == 2
        np.testing.assert_array_equal(several[:, 0], answers[self.answer])

    def test_explain_gives_all_hypotheses_and_the_same_best(self, signatures: dict) -> None:
        best = self.call(signatures["serving_default"])
        every = self.call(signatures["explain"])
        hypotheses, scores = every[f"{self.answer}s"], every["scores"].numpy()
        assert hypotheses.shape[1] == 4
        assert (np.diff(scores) <= 0).all()
        for name in best.keys() - {"tokens", "attention", "scores", f"{self.answer}s"}:
            np.testing.assert_array_equal(every[name], best[name])
        width = best["tokens"].shape[1]  # another hypothesis may be longer
        for name in ("tokens", "attention"):
            np.testing.assert_array_equal(every[name][:, :width], best[name])
        assert not (every["tokens"].numpy()[:, width:] != b"").any()
        np.testing.assert_array_equal(hypotheses[:, 0], best[self.answer])
        np.testing.assert_array_equal(scores[:, 0], best["score"])

    def test_a_batch_answers_what_its_members_answer_alone(self, signatures: dict) -> None:
        together = self.call(signatures["beam"])
        for row, value in enumerate(self.inputs):
            alone = self.call(signatures["beam"], [value])
            assert alone[self.answer][0] == together[self.answer][row]
            np.testing.assert_allclose(alone["score"][0], together["score"][row], atol=1e-5)

    def test_attention_is_over_the_input_and_sums_to_one(self, signatures: dict) -> None:
        answers = self.call(signatures["greedy"])
        attention, tokens = answers["attention"].numpy(), answers["tokens"].numpy()
        assert attention.shape == (*tokens.shape, self.places(answers))
        np.testing.assert_allclose(attention.sum(-1)[tokens != b""], 1, atol=1e-5)

    def test_token_by_token_equals_greedy(self, signatures: dict) -> None:
        whole = self.call(signatures["greedy"])
        for row, value in enumerate(self.inputs):
            longest = whole["tokens"].shape[1]
            text = write_token_by_token(signatures, longest, **{self.column: tf.constant([value])})
            assert text == whole[self.answer].numpy()[row]


def write_token_by_token(signatures: dict[str, Any], longest: int, **inputs: tf.Tensor) -> bytes:
    """What a client writes greedily for one input with the signatures encode, step and text.

    This is the loop that the README shows.

    longest  tokens after which it stops, though the model may not have learnt to.
    """
    tensors = dict(signatures["encode"](**inputs))
    ids = [BEGIN]
    while ids[-1] != END and len(ids) <= longest:
        outputs = signatures["step"](ids=tf.constant([[ids[-1]]]), **tensors)
        scores = outputs.pop("log_probabilities").numpy()[0, 0]
        outputs.pop("attention")
        scores[NEVER_WRITTEN] = -np.inf
        if len(ids) == 1:
            scores[END] = -np.inf  # decode.minimum_length=1
        ids.append(int(scores.argmax()))
        tensors |= outputs
    words = [token for token in ids[1:] if token != END]
    return signatures["text"](ids=tf.constant([words]))["text"].numpy()[0]
