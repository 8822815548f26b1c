"""Answers as HTML, and what a person is asked for, without a browser."""

from __future__ import annotations

import base64
import io
import json
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipelines.serve.errors import RequestError
from pipelines.serve.page.drawings import LONGEST, SHOWN, drawn
from pipelines.serve.page.fields import body, fields_of, signature_for
from pipelines.serve.signatures import Signature, Tensor, parse

TEXT = Tensor("DT_STRING", (None,))


def strings(values: Any) -> np.ndarray:
    return np.array(values, object)


def png(mode: str = "RGB") -> bytes:
    file = io.BytesIO()
    Image.new(mode, (9, 6)).save(file, "PNG")
    return file.getvalue()


def plain(html: str) -> str:
    return " ".join(re.sub("<[^>]*>", " ", html).split())


def test_of_hundreds_of_labels_the_likely_ones_are_shown_and_the_rest_summed_up() -> None:
    probabilities = np.full((1, 200), 0.5 / 199, np.float32)
    probabilities[0, 7] = 0.5
    labels = strings([[f"label {i}".encode() for i in range(200)]])
    html = drawn({"label": labels[:, 7], "labels": labels, "probabilities": probabilities})
    assert html.count("<tr>") == SHOWN + 1
    assert f"{200 - SHOWN} more labels together" in html
    shares = [float(share) for share in re.findall(r"inline-size:([\d.]+)%", html)]
    assert sum(shares) == pytest.approx(100, abs=0.1)
    assert shares[0] == 50


@given(st.text(), st.sampled_from(["translation", "label", "tokens", "source_tokens", "other"]))
def test_what_people_and_models_write_is_escaped(text: str, where: str) -> None:
    evil = f'<script>alert("{text}")</script><img src=x onerror="alert(1)">'
    answer = {
        "translation": strings([b"fine"]),
        "translations": strings([[b"fine", b"good"]]),
        "scores": np.array([[-1.0, -2.0]]),
        "tokens": strings([[b"a", b"b"]]),
        "source_tokens": strings([[b"c", b"d"]]),
        "attention": np.full((1, 2, 2), 0.5),
        "label": strings([b"x"]),
        "other": strings([[b"y", b"z"]]),
    }
    values = answer[where].copy()
    values.reshape(-1)[0] = evil.encode("utf-8", "replace")
    html = drawn({**answer, where: values})
    assert "<script" not in html
    assert "<img" not in html
    assert not re.search(r"<[^>]*onerror=\"alert", html)


def test_padding_is_not_drawn() -> None:
    """Answers of a batch are as wide as its longest."""
    answer = {
        "translation": strings([b"x"]),
        "tokens": strings([[b"one", b"two", b"", b""]]),
        "source_tokens": strings([[b"uno", b"", b""]]),
        "attention": np.zeros((1, 4, 3)),
    }
    html = drawn(answer)
    assert html.count("<td style=") == 2
    assert html.count('scope="row"') == 2
    assert html.count('scope="col"') == 1


def test_a_heat_map_of_a_long_text_is_cut_and_says_so() -> None:
    n = LONGEST + 5
    words = strings([[f"w{i}".encode() for i in range(n)]])
    answer = {"tokens": words, "source_tokens": words, "attention": np.zeros((1, n, n))}
    html = drawn(answer)
    assert html.count("<td style=") == LONGEST**2
    assert f"first {LONGEST} words" in html


@pytest.mark.parametrize(
    ("source", "direction"),
    [("hello", "ltr"), ("猫", "ltr"), ("مرحبا", "rtl"), ("42 שלום", "rtl"), ("42", "ltr")],
)
def test_a_heat_map_runs_as_its_text_is_written(source: str, direction: str) -> None:
    answer = {
        "tokens": strings([[b"x"]]),
        "source_tokens": strings([[source.encode()]]),
        "attention": np.ones((1, 1, 1)),
    }
    assert f'<table class="heat" dir="{direction}">' in drawn(answer)
    assert ('class="upright"' in drawn(answer)) == (source == "猫")


def test_the_veil_over_a_picture_is_clear_where_attention_is_most() -> None:
    attention = np.array([[[0.0, 0.1, 0.2, 0.7, 0.0, 0.0]]])
    html = drawn(
        {
            "caption": strings([b"cat"]),
            "tokens": strings([[b"cat"]]),
            "attention": attention,
            "grid": np.array([[2, 3]]),
            "seen_bytes": strings([png()]),
        }
    )
    _, veil = re.findall(r"data:image/png;base64,([\w+/=]+)", html)
    opacity = np.asarray(Image.open(io.BytesIO(base64.b64decode(veil))))[..., 1]
    assert opacity.shape == (2, 3)
    assert opacity[1, 0] == 0
    assert (opacity.max(), opacity[0, 2]) == (184, round(255 * 0.72 * 5 / 7))
    assert "bottom left" in html


def test_without_attention_the_picture_is_shown_once() -> None:
    html = drawn(
        {
            "caption": strings([b"cat"]),
            "score": np.array([-1.0]),
            "tokens": strings([[b"cat"]]),
            "attention": np.zeros((1, 1, 0)),
            "grid": np.array([[2, 3]]),
            "seen_bytes": strings([png()]),
        }
    )
    assert html.count("<img") == 1
    assert plain(html) == "cat score -1.000"


def test_an_answer_of_a_kind_that_is_not_known_is_shown_as_it_is() -> None:
    html = drawn({"tags": strings([[b"NOUN", b"VERB"]]), "next": np.array([[1.5, 2.25]])})
    assert plain(html) == "tags [NOUN VERB] next [1.5 2.25]"
    assert plain(drawn({"mean": np.array(3.0)})) == "mean 3."


@pytest.mark.parametrize(
    ("name", "tensor", "kind"),
    [
        ("text", TEXT, "text"),
        ("image", TEXT, "picture"),
        ("audio_bytes", TEXT, "picture"),
        ("tokens", Tensor("DT_STRING", (None, None)), "values"),
        ("x", Tensor("DT_FLOAT", (None, 3)), "values"),
    ],
)
def test_fields_are_as_inputs_are_called(name: str, tensor: Tensor, kind: str) -> None:
    (field,) = fields_of(Signature("explain", {name: tensor}, {}))
    assert field.kind == kind


def test_explain_is_asked_where_it_is_had() -> None:
    known = {name: Signature(name, {}, {}) for name in ("serving_default", "explain")}
    assert signature_for(known).name == "explain"
    del known["explain"]
    assert signature_for(known).name == "serving_default"
    with pytest.raises(RequestError):
        signature_for({})


def test_what_is_asked_is_a_request_of_the_api() -> None:
    inputs = {"text": TEXT, "image": TEXT, "x": Tensor("DT_INT32", (None, 2))}
    signature = Signature("explain", inputs, {})
    made = body(signature, ["hello", png(), "[1, 2]"])
    question = parse(made, {"explain": signature}, max_rows=1, max_pixels=100)
    assert question.rows == 1
    assert question.columns["text"][0] == b"hello"
    assert question.columns["image"][0] == png()
    assert question.columns["x"].tolist() == [[1, 2]]
    assert json.loads(made)["inputs"]["x"] == [[1, 2]]
