"""A classifier's scores, by hand and by scikit-learn."""

import numpy as np
import pytest
from sklearn import metrics as sklearn

from pipelines.core.sections import Figure, Table
from pipelines.evaluate.metrics.classification import classification_scores, confusion, reliability
from pipelines.evaluate.sections.classification import classification_sections
from pipelines.report.plots import svgs

PROBABILITIES = np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.4, 0.6]])
LABELS = np.array([0, 0, 1, 1])


def score(name, probabilities=PROBABILITIES, labels=LABELS, weights=None):
    weights = np.ones(len(labels)) if weights is None else np.asarray(weights, float)
    return float(classification_scores(probabilities, labels)[name].of(weights[None])[0])


def made_up(classes, n=400, seed=0, digits=2):
    """Rounded probabilities, so that ties occur, and weights as of a bootstrap."""
    random = np.random.default_rng(seed)
    labels = random.integers(classes, size=n)
    logits = random.normal(size=(n, classes)) + 1.5 * (np.arange(classes) == labels[:, None])
    raw = np.round(np.exp(logits) / np.exp(logits).sum(1, keepdims=True), digits) + 1e-3
    weights = np.bincount(random.integers(n, size=n), minlength=n).astype(float)
    return raw / raw.sum(1, keepdims=True), labels, weights


def test_by_hand():
    assert score("accuracy") == pytest.approx(3 / 4)
    # Class 0: 1 hit, 1 predicted, 2 true; class 1: 2 hits, 3 predicted, 2 true.
    assert score("f1") == pytest.approx((2 / 3 + 4 / 5) / 2)
    assert score("loss") == pytest.approx(-np.log([0.9, 0.4, 0.8, 0.6]).mean())
    # Pairs (positive, negative): 0.8 beats both, 0.6 beats 0.1 and ties with 0.6.
    assert score("roc_auc") == pytest.approx(3.5 / 4)
    # 0.9 and 0.8 are alone in their bins; the two of 0.6 share one, half of them right.
    assert score("ece") == pytest.approx((0.1 + 0.2 + abs(1 - 1.2)) / 4)
    assert score("brier") == pytest.approx(2 * np.mean([0.01, 0.36, 0.04, 0.16]))


def test_scores_come_in_order_of_importance_with_their_direction():
    scores = classification_scores(PROBABILITIES, LABELS)
    assert list(scores) == ["accuracy", "f1", "loss", "roc_auc", "ece", "brier"]
    metrics = [score.metric for score in scores.values()]
    assert [m.higher_is_better for m in metrics] == [True, True, False, True, False, False]


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("weighted", [False, True])
def test_beside_scikit_learn(classes, weighted):
    probabilities, labels, weights = made_up(classes)
    weights = weights if weighted else np.ones(len(labels))
    predicted = probabilities.argmax(1)
    expected = {
        "accuracy": sklearn.accuracy_score(labels, predicted, sample_weight=weights),
        "f1": sklearn.f1_score(labels, predicted, average="macro", sample_weight=weights),
        "loss": sklearn.log_loss(labels, probabilities, sample_weight=weights),
    }
    of_class = [
        sklearn.roc_auc_score(labels == c, probabilities[:, c], sample_weight=weights)
        for c in range(classes)
    ]
    expected["roc_auc"] = of_class[1] if classes == 2 else np.mean(of_class)
    if classes == 2:
        brier = sklearn.brier_score_loss(labels, probabilities[:, 1], sample_weight=weights)
        expected["brier"] = 2 * brier
    for name, value in expected.items():
        assert score(name, probabilities, labels, weights) == pytest.approx(value, rel=1e-9), name


def test_all_resamples_at_once_are_each_alone_and_weights_are_repetitions():
    probabilities, labels, weights = made_up(3, n=120)
    many = np.stack([weights, np.ones(120), (np.arange(120) < 60).astype(float)])
    repeated = np.repeat(np.arange(120), weights.astype(int))
    for name, one in classification_scores(probabilities, labels).items():
        together = one.of(many)
        for row, alone in enumerate(many):
            assert together[row] == pytest.approx(one.of(alone[None])[0])
        assert together[0] == pytest.approx(score(name, probabilities[repeated], labels[repeated]))
        assert one.of(many.astype(np.float32)) == pytest.approx(together, rel=1e-4)


def test_absent_classes():
    labels = np.array([0, 0, 0])
    probabilities = np.array([[0.9, 0.1, 0], [0.8, 0.2, 0], [0.3, 0.7, 0]])
    assert score("f1", probabilities, labels) == pytest.approx((0.8 + 0) / 2)
    assert np.isnan(score("roc_auc", probabilities, labels))
    assert score("loss", np.array([[1.0, 0.0]]), np.array([1])) == pytest.approx(16.118, abs=1e-3)


def test_no_roc_auc_for_very_many_classes():
    probabilities, labels, _ = made_up(25)
    assert "roc_auc" not in classification_scores(probabilities, labels)


def test_confusion_and_reliability():
    counts = confusion(PROBABILITIES.argmax(1), LABELS, 2)
    assert counts.tolist() == [[1, 1], [0, 2]]
    curve = reliability(PROBABILITIES, LABELS)
    assert curve.confidence == pytest.approx([0.6, 0.8, 0.9])
    assert curve.accuracy == pytest.approx([0.5, 1, 1])
    assert curve.size.tolist() == [2, 1, 1]


@pytest.mark.parametrize("classes", [2, 50])
def test_sections(classes):
    probabilities, labels, _ = made_up(classes)
    names = [f"$class$ {c} <b> とても長い名前" for c in range(classes)]
    sections = classification_sections(
        probabilities,
        labels,
        names,
        examples=lambda rows: [{"text": f"text {row}"} for row in rows],
        column="text",
    )
    titles = [section.title for section in sections]
    assert titles[:2] == ["Confusion matrix", "Calibration"]
    assert ("Most frequent confusions" in titles) == (classes > 4)
    for section in sections:
        if isinstance(section, Figure):
            assert "<svg" in svgs(section, "x")[0]
    mistakes = sections[-1]
    assert isinstance(mistakes, Table)
    certainties = [float(row[2]) for row in mistakes.rows]
    assert certainties == sorted(certainties, reverse=True)
    row = int(mistakes.rows[0][0].split()[1])
    assert mistakes.rows[0][3] == names[labels[row]] != mistakes.rows[0][1]


def test_no_mistakes_no_table_of_them():
    sections = classification_sections(
        np.eye(2), np.array([0, 1]), ["a", "b"], examples=lambda rows: [], column="text"
    )
    assert "Most confident mistakes" not in [section.title for section in sections]
