"""Outputs as HTML, and the form's fields, without a browser."""

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
from pipelines.serve.page.attention import MAX_TOKENS
from pipelines.serve.page.fields import input_fields, page_signature, request_body
from pipelines.serve.page.rendering import MAX_BARS, render_outputs
from pipelines.serve.predict_request import RequestLimits, parse_request
from pipelines.serve.signatures import Signature, TensorInfo

TEXT = TensorInfo("DT_STRING", (None,))


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
    html = render_outputs({"label": labels[:, 7], "labels": labels, "probabilities": probabilities})
    assert html.count("<tr>") == MAX_BARS + 1
    assert f"{200 - MAX_BARS} more labels together" in html
    shares = [float(share) for share in re.findall(r"inline-size:([\d.]+)%", html)]
    assert sum(shares) == pytest.approx(100, abs=0.1)
    assert shares[0] == 50


@given(st.text(), st.sampled_from(["translation", "label", "tokens", "source_tokens", "other"]))
def test_all_text_is_escaped(text: str, where: str) -> None:
    evil = f'<script>alert("{text}")</script><img src=x onerror="alert(1)">'
    outputs = {
        "translation": strings([b"fine"]),
        "translations": strings([[b"fine", b"good"]]),
        "scores": np.array([[-1.0, -2.0]]),
        "tokens": strings([[b"a", b"b"]]),
        "source_tokens": strings([[b"c", b"d"]]),
        "attention": np.full((1, 2, 2), 0.5),
        "label": strings([b"x"]),
        "other": strings([[b"y", b"z"]]),
    }
    values = outputs[where].copy()
    values.reshape(-1)[0] = evil.encode("utf-8", "replace")
    html = render_outputs({**outputs, where: values})
    assert "<script" not in html
    assert "<img" not in html
    assert not re.search(r"<[^>]*onerror=\"alert", html)


def test_padding_is_not_drawn() -> None:
    """Outputs of a batch are as wide as its longest."""
    outputs = {
        "translation": strings([b"x"]),
        "tokens": strings([[b"one", b"two", b"", b""]]),
        "source_tokens": strings([[b"uno", b"", b""]]),
        "attention": np.zeros((1, 4, 3)),
    }
    html = render_outputs(outputs)
    assert html.count("<td style=") == 2
    assert html.count('scope="row"') == 2
    assert html.count('scope="col"') == 1


def test_a_heat_map_of_a_long_text_is_cut_and_says_so() -> None:
    n = MAX_TOKENS + 5
    words = strings([[f"w{i}".encode() for i in range(n)]])
    outputs = {"tokens": words, "source_tokens": words, "attention": np.zeros((1, n, n))}
    html = render_outputs(outputs)
    assert html.count("<td style=") == MAX_TOKENS**2
    assert f"first {MAX_TOKENS} words" in html


@pytest.mark.parametrize(
    ("source", "direction"),
    [("hello", "ltr"), ("猫", "ltr"), ("مرحبا", "rtl"), ("42 שלום", "rtl"), ("42", "ltr")],
)
def test_a_heat_map_runs_as_its_text_is_written(source: str, direction: str) -> None:
    outputs = {
        "tokens": strings([[b"x"]]),
        "source_tokens": strings([[source.encode()]]),
        "attention": np.ones((1, 1, 1)),
    }
    assert f'<table class="heat" dir="{direction}">' in render_outputs(outputs)
    assert ('class="upright"' in render_outputs(outputs)) == (source == "猫")


def test_the_shade_over_an_image_is_clear_where_attention_is_largest() -> None:
    attention = np.array([[[0.0, 0.1, 0.2, 0.7, 0.0, 0.0]]])
    html = render_outputs(
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


def test_without_attention_the_image_is_shown_once() -> None:
    html = render_outputs(
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


def test_sequences_of_text_with_equally_many_steps_are_one_table() -> None:
    html = render_outputs(
        {
            "tokens": strings([[b"a", b"dog", b""]]),
            "tags": strings([[b"DET", b"NOUN", b""]]),
            "other": strings([[b"x", b""]]),
            "pairs": strings([[[b"x", b""], [b"y", b"z"]]]),
        }
    )
    assert plain(html) == "tokens a dog tags DET NOUN other [x] pairs [[x –] [y z]]"


def test_numbers_over_several_steps_are_drawn_as_curves() -> None:
    html = render_outputs({"forecast": np.array([[[0.0, 1], [2, 1], [4, 1], [6, 1]]])})
    first, second = re.findall(r'points="([^"]*)"', html)
    heights = [float(point.split(",")[1]) for point in first.split()]
    assert heights == sorted(heights, reverse=True)
    assert len({point.split(",")[1] for point in second.split()}) == 1
    assert 'aria-label="4 steps from 0 to 6"' in html


def test_outputs_of_known_names_with_other_axes_are_shown_as_values() -> None:
    html = render_outputs(
        {
            "label": strings([[b"a", b"b"]]),
            "labels": strings([[b"a", b"b", b"c"]]),
            "probabilities": np.zeros((1, 2, 3)),
        }
    )
    assert "label [a b]" in plain(html)


def test_outputs_of_unknown_names_are_shown_by_type_and_axes() -> None:
    html = render_outputs({"tags": strings([[b"NOUN", b"VERB"]]), "next": np.array([[1.5, 2.25]])})
    assert plain(html) == "tags [NOUN VERB] next [1.5 2.25]"
    assert plain(render_outputs({"mean": np.array(3.0)})) == "mean 3."


LENGTH = TensorInfo("DT_INT32", (None,))


@pytest.mark.parametrize(
    ("name", "tensor", "kind"),
    [
        ("text", TEXT, "text"),
        ("image", TEXT, "file"),
        ("audio_bytes", TEXT, "file"),
        ("age", TensorInfo("DT_FLOAT", (None,)), "number"),
        ("flag", TensorInfo("DT_BOOL", (None,)), "json"),
        ("tokens", TensorInfo("DT_STRING", (None, None)), "words"),
        ("x", TensorInfo("DT_FLOAT", (None, 3)), "numbers"),
        ("ids", TensorInfo("DT_INT64", (None, None)), "numbers"),
        ("series", TensorInfo("DT_FLOAT", (None, None, 2)), "series"),
        ("video", TensorInfo("DT_FLOAT", (None, None, 8, 8, 3)), "json"),
        ("all", TensorInfo("DT_FLOAT", (3,)), "json"),
        ("open", TensorInfo("DT_FLOAT", None), "json"),
    ],
)
def test_the_kind_of_a_field_follows_from_the_signature(
    name: str, tensor: TensorInfo, kind: str
) -> None:
    inputs = {name: tensor, f"{name}_length": LENGTH}
    (field, *others) = input_fields(Signature("explain", inputs, {}))
    assert field.kind == kind
    is_sequence = tensor.shape is not None and tensor.shape[:2] == (None, None)
    assert len(others) == (0 if is_sequence else 1)


def parse_entry(tensor: TensorInfo, entry: str) -> Any:
    signature = Signature("explain", {"x": tensor, "x_length": LENGTH}, {})
    if tensor.shape is None or len(tensor.shape) == 1:
        signature = Signature("explain", {"x": tensor}, {})
    body = request_body(signature, [entry])
    limits = RequestLimits(rows=1, pixels=100)
    return parse_request(body, {"explain": signature}, limits).columns["x"][0].tolist()


@pytest.mark.parametrize(
    ("kind", "shape", "entry", "value"),
    [
        ("DT_STRING", (None, None), " a b\n\nc ", [b"a", b"b", b"c"]),
        ("DT_STRING", (None, None), '["a b", "c"]', [b"a b", b"c"]),
        ("DT_STRING", (None, None), "[a b", [b"[a", b"b"]),
        ("DT_FLOAT", (None, None), "1, 2.5,3", [1, 2.5, 3]),
        ("DT_INT32", (None, None), "1 2\n3", [1, 2, 3]),
        ("DT_INT32", (None, None), "[1, 2]", [1, 2]),
        ("DT_FLOAT", (None, None, 2), "1, 2\n3;-4e1\n\n5\t6\n", [[1, 2], [3, -40], [5, 6]]),
        ("DT_FLOAT", (None, None, 2), "[[1, 2]]", [[1, 2]]),
        ("DT_FLOAT", (None,), " 2.5 ", 2.5),
        ("DT_INT64", (None,), "9007199254740993", 9007199254740993),
    ],
)
def test_lists_and_series_are_entered_as_words_csv_or_json(
    kind: str, shape: tuple[int | None, ...], entry: str, value: Any
) -> None:
    assert parse_entry(TensorInfo(kind, shape), entry) == value


@pytest.mark.parametrize(
    ("kind", "shape", "entry", "reason"),
    [
        ("DT_FLOAT", (None, None, 2), "1, 2\n3, x", "x, line 2 must be numbers; received 'x'"),
        ("DT_FLOAT", (None, None, 2), "1, 2\n3", "x: row 0 must be a list of lists of 2 numbers"),
        ("DT_INT32", (None, None), "1 2.5", "x: row 0 must be a list of whole numbers"),
        ("DT_FLOAT", (None, None), "[1", "x must be JSON, such as [1, 2]"),
        ("DT_FLOAT", (None,), "", "type something first"),
    ],
)
def test_entries_that_do_not_fit_get_their_reason(
    kind: str, shape: tuple[int | None, ...], entry: str, reason: str
) -> None:
    with pytest.raises(RequestError, match=re.escape(reason)):
        parse_entry(TensorInfo(kind, shape), entry)


def test_the_page_uses_explain_if_the_model_has_it() -> None:
    known = {name: Signature(name, {}, {}) for name in ("serving_default", "explain")}
    assert page_signature(known).name == "explain"
    del known["explain"]
    assert page_signature(known).name == "serving_default"
    with pytest.raises(RequestError):
        page_signature({})


def test_the_entries_become_a_request_of_the_api() -> None:
    inputs = {"text": TEXT, "image": TEXT, "x": TensorInfo("DT_INT32", (None, 2))}
    signature = Signature("explain", inputs, {})
    made = request_body(signature, ["hello", png(), "[1, 2]"])
    request = parse_request(made, {"explain": signature}, RequestLimits(rows=1, pixels=100))
    assert request.rows == 1
    assert request.columns["text"][0] == b"hello"
    assert request.columns["image"][0] == png()
    assert request.columns["x"].tolist() == [[1, 2]]
    assert json.loads(made)["inputs"]["x"] == [[1, 2]]
