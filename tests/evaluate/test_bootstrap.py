"""Intervals, paired tests and their wording."""

import numpy as np
import pytest

from pipelines.core.formatting import abbreviate, duration, number, probability
from pipelines.core.scores import Metric, Score
from pipelines.evaluate import bootstrap
from pipelines.evaluate.bootstrap import compare_measurements, interval, measure_all, resample
from pipelines.evaluate.metrics.classification import ACCURACY
from pipelines.evaluate.metrics.generation import PERPLEXITY
from pipelines.evaluate.metrics.translation import BLEU, CHRF
from pipelines.evaluate.verdict import judge, relation
from pipelines.runs.metrics import Comparison


def mean_of(values, *, name="accuracy", higher=True):
    values = np.asarray(values, float)

    def of(weights):
        with np.errstate(invalid="ignore"):
            return weights @ values / weights.sum(1)

    return Score(Metric(name, higher_is_better=higher), of, "mean")


def answers(share, n=2000, seed=0):
    return (np.random.default_rng(seed).random(n) < share).astype(float)


def measured(score, n, *, resamples, seed):
    return measure_all({"it": score}, n, resamples=resamples, seed=seed)["it"]


def compared(a, b, n, *, resamples, seed):
    both = measure_all({"a": a, "b": b}, n, resamples=resamples, seed=seed)
    return compare_measurements(both["a"], both["b"])


def test_interval_of_a_mean_agrees_with_the_normal_approximation():
    values = answers(0.8)
    entry = measured(mean_of(values), len(values), resamples=2000, seed=1).entry()
    error = 1.96 * values.std() / np.sqrt(len(values))
    assert entry.value == pytest.approx(values.mean())
    assert entry.low == pytest.approx(values.mean() - error, abs=0.002)
    assert entry.high == pytest.approx(values.mean() + error, abs=0.002)


def test_an_entry_says_all_there_is_to_say_of_its_metric():
    metric = Metric("ece", "calibration error", higher_is_better=False, scale=1)
    score = Score(metric, mean_of(answers(0.2)).of, "15 bins")
    entry = measured(score, 2000, resamples=100, seed=1).entry()
    assert (entry.metric("ece"), entry.signature) == (metric, "15 bins")


def test_same_seed_gives_the_same_interval_whatever_the_chunks(monkeypatch):
    score = mean_of(answers(0.6, 300))
    whole = measured(score, 300, resamples=200, seed=5).entry()
    monkeypatch.setattr(bootstrap, "CHUNK", 1000)
    assert measured(score, 300, resamples=200, seed=5).entry() == whole
    assert measured(score, 300, resamples=200, seed=6).entry() != whole


def test_resamples_are_counts_of_n_draws():
    weights = np.concatenate(list(resample(50, resamples=400, seed=2)))
    assert weights.shape == (400, 50)
    assert (weights.sum(1) == 50).all()
    assert weights.mean(0) == pytest.approx(np.ones(50), abs=0.25)
    assert weights.var() == pytest.approx(49 / 50, abs=0.05)


def test_a_part_is_measured_by_weights_of_0_and_1():
    values = np.r_[np.ones(30), np.zeros(70)]
    keep = np.r_[np.ones(30), np.zeros(30), np.zeros(40)]
    keep[30:40] = 1
    measured = measure_all({"a": mean_of(values)}, 100, resamples=100, seed=0, keep=keep)
    assert measured["a"].value == pytest.approx(30 / 40)
    low, high = interval(measured["a"].samples)
    assert 0.55 < low < 0.75 < high < 0.95


def test_undefined_scores_are_left_out():
    score = Score(Metric("roc_auc"), lambda weights: np.full(len(weights), np.nan), "undefined")
    assert measure_all({"roc_auc": score}, 10, resamples=100, seed=0) == {}


def test_paired_comparison_sees_what_unpaired_intervals_do_not():
    a = answers(0.8, 1000)
    b = a.copy()
    b[np.flatnonzero(a)[:25]] = 0
    result = compared(mean_of(a), mean_of(b), 1000, resamples=1000, seed=3)
    assert result.difference == pytest.approx(0.025)
    assert result.outcome == "better"
    assert result.p < 0.01
    apart = [measured(mean_of(x), 1000, resamples=1000, seed=3).entry() for x in (a, b)]
    assert apart[1].high > apart[0].low


def test_p_value_of_no_difference_is_1_and_never_0():
    a = mean_of(answers(0.7, 500))
    same = compared(a, a, 500, resamples=200, seed=0)
    assert (same.difference, same.p, same.outcome) == (0, 1, "equal")
    sure = compared(mean_of(np.ones(500)), mean_of(np.zeros(500)), 500, resamples=200, seed=0)
    assert sure.p == pytest.approx(2 / 201)


@pytest.mark.parametrize(
    ("baseline", "words", "outcome"),
    [
        (0.70, "is better than the strongest baseline, rules (0.", "better"),
        (0.80, "does not differ significantly from the strongest baseline, rules", "equal"),
        (0.90, "is worse than the strongest baseline, rules", "worse"),
    ],
)
def test_verdict_names_the_strongest_baseline(baseline, words, outcome):
    scores = {
        "network": mean_of(answers(0.8, seed=1)),
        "coin": mean_of(answers(0.5, seed=2)),
        "rules": mean_of(answers(baseline, seed=3)),
    }
    network, coin, rules = measure_all(scores, 2000, resamples=300, seed=0).values()
    sentence, result = judge(
        {"accuracy": network},
        {"a_coin": {"accuracy": coin}, "rules": {"accuracy": rules}},
        {"a_coin": "a coin", "rules": "rules"},
        2000,
    )
    assert words in sentence
    assert (result.score, result.baseline, result.outcome) == ("accuracy", "rules", outcome)
    assert f"(accuracy {number(network.value)}, 95% interval" in sentence
    assert "2,000 examples" in sentence


def test_verdict_where_lower_is_better():
    scores = {
        "network": mean_of(answers(0.2), name="loss", higher=False),
        "low": mean_of(answers(0.4, seed=1), name="loss", higher=False),
        "high": mean_of(answers(0.9, seed=2), name="loss", higher=False),
    }
    network, low, high = measure_all(scores, 2000, resamples=300, seed=0).values()
    sentence, result = judge(
        {"loss": network},
        {"high": {"loss": high}, "low_loss": {"loss": low}},
        {"high": "high", "low_loss": "low loss"},
        2000,
    )
    assert (result.baseline, result.outcome) == ("low_loss", "better")
    assert "(loss 0." in sentence
    assert "is better than the strongest baseline, low loss (" in sentence


def test_a_verdict_is_by_the_most_important_score_that_is_defined():
    """Of a baseline that has no accuracy nothing can be said."""
    own = measure_all({"it": mean_of(answers(0.8))}, 2000, resamples=100, seed=0)["it"]
    first = {"accuracy": own, "f1": own}
    _, result = judge(first, {"a": {"f1": own}, "b": {"accuracy": own}}, {"a": "A", "b": "B"}, 2000)
    assert (result.score, result.baseline, result.outcome) == ("accuracy", "b", "equal")


@pytest.mark.parametrize(
    ("metric", "values", "outcome", "words"),
    [
        (
            BLEU,
            (1.24, 0.41, 2.07, 0.0042),
            "better",
            "is better than X, by 1.2 BLEU (0.4 to 2.1), p = 0.004",
        ),
        (
            BLEU,
            (-1.24, -2.07, -0.41, 0.0005),
            "worse",
            "is worse than X, by 1.2 BLEU (0.4 to 2.1), p < 0.001",
        ),
        (
            PERPLEXITY,
            (-1.24, -2.07, -0.41, 0.012),
            "better",
            "is better than X, by 1.240 (0.410 to 2.070), p = 0.012",
        ),
        (
            ACCURACY,
            (0.003, -0.005, 0.010, 0.438),
            "equal",
            "does not differ significantly from X: difference 0.003, "
            "95% interval −0.005 to 0.010, p = 0.44",
        ),
    ],
)
def test_a_comparison_in_words(metric, values, outcome, words):
    numbers = dict(zip(("difference", "low", "high", "p"), values, strict=True))
    found = Comparison(**numbers, higher_is_better=metric.higher_is_better, outcome=outcome)
    assert relation(found, metric, "X") == words


@pytest.mark.parametrize(
    ("shares", "higher", "outcome"),
    [
        ((0.9, 0.6), True, "better"),
        ((0.6, 0.9), True, "worse"),
        ((0.6, 0.9), False, "better"),
        ((0.9, 0.6), False, "worse"),
        ((0.7, 0.7), False, "equal"),
    ],
)
def test_a_comparison_has_a_winner_only_where_the_interval_excludes_0(shares, higher, outcome):
    a, b = (mean_of(answers(share, 500, seed=4), higher=higher) for share in shares)
    found = compared(a, b, 500, resamples=300, seed=0)
    assert (found.outcome, found.higher_is_better) == (outcome, higher)
    assert (found.low <= 0 <= found.high) == (outcome == "equal")


def test_verdict_without_baselines():
    network = measure_all({"accuracy": mean_of(answers(0.8))}, 2000, resamples=100, seed=0)
    sentence, result = judge(network, {}, {}, 2000)
    assert "nothing to compare" in sentence
    assert result is None


def test_numbers_as_they_are_written():
    assert [number(x) for x in (0.8614, 27.44, -0.026, -0.0001, 1234.5, float("nan"))] == [
        "0.861",
        "27.4",
        "−0.026",
        "0.000",
        "1,234.5",
        "–",
    ]
    assert [number(x, BLEU) for x in (7.43, 36.24, 100.0, -0.04)] == [
        "7.4",
        "36.2",
        "100.0",
        "0.0",
    ]
    assert [probability(p) for p in (0.0004, 0.0042, 0.0996, 0.31)] == [
        "p < 0.001",
        "p = 0.004",
        "p = 0.10",
        "p = 0.31",
    ]
    assert number(7.43, ACCURACY) == "7.430"
    assert [metric.label for metric in (CHRF, Metric("exact_match"))] == ["chrF++", "exact match"]
    assert [abbreviate(x) for x in (9999, 12345, 1412345, 2.5e9)] == [
        "9,999",
        "12.3 k",
        "1.41 M",
        "2.5 G",
    ]
    assert [duration(x) for x in (12.34, 151, 3900)] == ["12.3 s", "2 min 31 s", "1 h 05 min"]
