"""What tutorials work out by hand holds, to the digits that the page prints."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipelines.report.worked_examples import backpropagation, counting, forward, main, slopes


def test_a_unit_that_reads_one_two_three_says_462_898_984() -> None:
    found = forward(0.5, 1.0, 0.0, [1.0, 2.0, 3.0])
    assert [f"{h:.3f}" for h in found.h] == ["0.462", "0.898", "0.984"]
    assert [f"{given:.3f}" for given in found.given] == ["0.500", "1.462", "2.398"]


def test_the_slope_of_the_sigmoid_peaks_at_a_quarter_and_that_of_tanh_at_one() -> None:
    x = np.linspace(-8, 8, 1601)
    for name, peak in (("sigmoid", 0.25), ("tanh", 1.0)):
        found = slopes(x)[name]
        assert found.max() == pytest.approx(peak, abs=1e-12)
        assert x[found.argmax()] == pytest.approx(0.0, abs=1e-9)
        assert (np.delete(found, found.argmax()) < peak).all()


@pytest.mark.parametrize("seed", [1, 2])
def test_backpropagation_through_time_by_hand_equals_automatic_differentiation(seed: int) -> None:
    found = backpropagation(steps=7, width=4, inputs=3, seed=seed)
    assert found.difference < 1e-6
    assert np.abs(found.by_hand["recurrent"]).max() > 0.01
    np.testing.assert_allclose(found.by_hand["kernel"], found.automatic["kernel"], atol=1e-6)


def test_one_unit_learns_its_only_example_and_not_to_count() -> None:
    found = counting(1)
    assert f"{found.answers[1, 2, 3, 4]:.2f}" == "5.00"
    assert found.loss < 1e-6
    assert abs(found.answers[3, 4, 5] - 6) > 0.5


def test_the_page_is_self_contained_and_says_what_it_answers(tmp_path: Path) -> None:
    page = main(str(tmp_path)).read_text(encoding="utf-8")
    for words in ("0.462", "0.898", "0.984", "5.00", "0.25", "It has not learnt to count"):
        assert words in page
    assert "src=" not in page
    assert "http://" not in page.replace("http://www.w3.org", "")
