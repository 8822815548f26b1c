"""The report: whole, self-contained, escaped, and legible in any script."""

import datetime
import re
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree

import pytest

from pipelines.core.contracts import Provenance
from pipelines.core.scores import Metric
from pipelines.core.sections import Figure, Passage, Passages, Table
from pipelines.evaluate.metrics.translation import BLEU, CHRF
from pipelines.report.plots import (
    learning_curves,
    plot_by_length,
    set_log_scale,
    shorten,
    start_at_zero,
    svgs,
    text_columns,
)
from pipelines.report.run_report import ReportContent, report
from pipelines.runs.metrics import LengthBucket, RunMetrics

EVIL = "<script>alert('x')</script> & {{ 7 * 7 }} $x^2$ \"quoted\" \x1b[31m\a\0\x9b"
SHOWN = EVIL.translate({0: "␀", 7: "␇", 0x1B: "␛", 0x9B: "\ufffd"})
SCRIPTS = ("日本語のテキスト", "هذا الفيلم رائع", "हिन्दी", "😀👍🏽", "中文")
ACCURACY = Metric("accuracy", scale=1)
LOSS = Metric("loss", higher_is_better=False)


def entry(metric, value=0.8, low=0.75, high=0.85):
    return {"value": value, "low": low, "high": high, "signature": "share", **metric.facts()}


def bucket(shortest, longest, scores, **interval):
    size = {"shortest": shortest, "longest": longest, "count": 9}
    return {**size, "scores": scores, **interval}


BASELINE = {"label": "majority class", "scores": {"accuracy": entry(ACCURACY, 0.5)}}
COMPARISON = {
    "difference": 0.3, "low": 0.2, "high": 0.4, "p": 0.001, "higher_is_better": True,
    "outcome": "better", "score": "accuracy", "baseline": "majority_class",
}  # fmt: skip
METRICS = {
    "task": "sentiment",
    "model": "bi_gru",
    "seed": 3,
    "command": f"python main.py data.path='{EVIL}'",
    "test": {"accuracy": entry(ACCURACY), "loss": entry(LOSS)},
    "validation": {"accuracy": entry(ACCURACY)},
    "baselines": {"test": {"majority_class": BASELINE}},
    "by_length": {
        "test": [
            bucket(1, 5, {"accuracy": 0.7}, low=0.6, high=0.8),
            bucket(6, 6, {"accuracy": 0.9}),
            bucket(7, 9, {}),
        ]
    },
    "verdict": f"The network is better {EVIL}",
    "comparison": COMPARISON,
    "parameters": {"total": 1234567, "trainable": 1234567},
    "seconds": {"train": 61.0, "total": 75.5},
    "memory": {"train_peak_mb": 900.4},
    "padding": {"train": 0.021},
    "exports": [
        {
            "format": "tensorflow",
            "function": "classify",
            "precision": "float32",
            "bytes": 4096000,
            "milliseconds": 2.0,
            "examples": 20,
            "score": "accuracy",
            "value": 0.8,
        },
        {
            "format": "litert",
            "function": "classify",
            "precision": "int8",
            "bytes": 1024000,
            "milliseconds": 0.5,
            "examples": 20,
            "score": "accuracy",
            "value": 0.75,
            "difference": 0.02,
            "tolerance": 0.2,
            "file": "litert/classify.int8.tflite",
        },
        {"format": "onnx", "function": "classify", "precision": "float32", "reason": EVIL},
    ],
    "throughput": {"evaluate": 1500.0},
    "versions": {"keras": "3.15.1"},
    "data": {
        "fingerprint": "abc",
        "source": {"name": "Set", "licence": "CC-BY-4.0"},
        "rows": 2226,
        "bad_rows": 30,
        "bad_row_reasons": {EVIL: 30},
        "bad_row_examples": [f"file.csv:7: {EVIL}"],
        "rejected": {},
        "duplicates": 96,
        "conflicts": 4,
        "overlaps": {"train": 2},
        "kept_duplicates": 0,
        "left_out_by_limit": 0,
        "division": "groups by user_id",
        "splits": {"train": 2000, "test": 100},
        "strata": {"train": {EVIL: 1000, "b": 1000}, "test": {EVIL: 50, "b": 50}},
        "codec": {"tokens": {"vocabulary": 20000, "most_frequent": list(SCRIPTS)}},
    },
}
HISTORY = [
    {"epoch": 1, "step": 10, "train.loss": 0.7, "validation.loss": 0.6, "learning_rate": 0.001},
    {"epoch": 2, "step": 20, "train.loss": 0.5, "validation.loss": 0.5, "learning_rate": 0.0005},
]
SECTIONS = [
    Figure(EVIL, lambda axes: axes.set_title(" ".join((EVIL, *SCRIPTS))), caption=EVIL),
    Figure(EVIL, lambda axes: axes.plot([1, 2], label=EVIL)),
    Table("Table", ("text", EVIL), [(text, 1234) for text in (EVIL, *SCRIPTS, "word " * 200)]),
    Passages("Words", [Passage(EVIL, [(EVIL, 0.9), ("日本", -0.5), (" plain ", 0.0)])]),
]
PROVENANCE = Provenance("Set", "https://example.org/set", "CC-BY-4.0", "Someone et al. 2020")


def write(directory, metrics=METRICS, history=HISTORY, sections=SECTIONS):
    content = ReportContent(
        metrics=RunMetrics.model_validate(metrics),
        history=history,
        sections=sections,
        provenance=PROVENANCE,
        config_yaml=f"task: sentiment # {EVIL}\n",
    )
    path = report(directory, content, made=datetime.date(2026, 1, 2))
    return path.read_text(encoding="utf-8")


class Page(HTMLParser):
    """Tags with their attributes, the text, and whether tags are closed in order."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.words, self.open = [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "br", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self):
        return " ".join("".join(self.words).split())


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return tmp_path_factory.mktemp("run")


@pytest.fixture(scope="module")
def page(directory):
    page = Page(write(directory))
    assert page.open == []
    return page


def test_loads_nothing_from_elsewhere(directory, page):
    text = (directory / "report.html").read_text(encoding="utf-8")
    for tag, attributes in page.tags:
        assert tag not in ("link", "img", "iframe", "object", "image", "base")
        for name in ("src", "href", "xlink:href", "data", "action", "srcset"):
            value = attributes.get(name) or "#"
            # The one link out is where the data comes from, followed only by a click.
            assert value.startswith("#") or (tag, value) == ("a", "https://example.org/set")
    assert "@import" not in text
    assert all(url.startswith("#") for url in re.findall(r"url\(([^)]*)", text))
    policy = [a["content"] for tag, a in page.tags if "http-equiv" in a]
    assert policy[0].startswith("default-src 'none'")


def test_whatever_the_data_holds_is_text(page):
    assert "script" not in [tag for tag, _ in page.tags]
    # In verdict, command, configuration, figures, table, passage, bad rows and strata.
    assert page.text.count(SHOWN) >= 11
    assert "49" not in page.text.split()


def test_no_control_character_is_in_the_report(directory):
    for path in [directory / "report.html", *(directory / "plots").iterdir()]:
        assert not re.search(r"[\0-\x08\x0b-\x1f\x7f-\x9f]", path.read_text(encoding="utf-8")), path


def test_any_script_survives(directory, page):
    for text in SCRIPTS:
        assert page.text.count(text) >= 3
    drawing = directory / "plots" / "script_alert_x_script_7_7_x_2_quoted_31m.svg"
    for text in SCRIPTS:
        assert text in drawing.read_text(encoding="utf-8")


def test_ids_are_unique_and_references_resolve(page):
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    references = set()
    for _, attributes in page.tags:
        values = [attributes.get(name) or "" for name in ("href", "xlink:href")]
        references |= {value[1:] for value in values if value.startswith("#")}
        references |= set(re.findall(r"url\(#([^)]*)\)", attributes.get("clip-path") or ""))
        references |= set((attributes.get("aria-labelledby") or "").split())
    assert references <= set(ids)
    assert len(references) > 10


def test_says_what_was_found(page):
    for text in (
        "Sentiment with a bidirectional GRU",
        "Better than the baselines",
        "0.750 to 0.850",
        "majority class",
        "1.23 M",
        "1 min 16 s",
        "1,500/s",
        "2.1 %",
        "900 MB",
        "CC-BY-4.0",
        "Someone et al. 2020",
        "30 rows that could not be read",
        "20,000",
        "groups by user_id",
        "most frequent",
        "overlaps: train",
        "2 January 2026",
    ):
        assert text in page.text, text


def test_files_of_other_formats_stand_beside_the_original(page):
    cells = "|".join(word.strip() for word in page.words)
    assert "SavedModel: classify|float32|4,096 kB|2 ms|–|0.800|–" in cells
    assert "litert/classify.int8.tflite|int8|1,024 kB|0.5 ms|0.02 of 0.2|0.750|0.050" in cells
    assert "onnx: classify|float32|unavailable: " in cells


def test_can_be_read_by_a_screen_reader(page):
    assert ("html", {"lang": "en"}) in page.tags
    for tag, attributes in page.tags:
        if tag == "th":
            assert attributes["scope"] in ("col", "row")
        if tag == "svg":
            assert attributes["role"] == "img"
            assert attributes["aria-labelledby"]


def test_plots_are_svg_files_of_their_own(directory, page):
    names = {path.stem for path in (directory / "plots").glob("*.svg")}
    assert {"loss", "learning_rate", "accuracy_by_length", "compared_with_the_baselines"} <= names
    for path in (directory / "plots").iterdir():
        root = ElementTree.fromstring(path.read_text(encoding="utf-8"))
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert "prefers-color-scheme: dark" in path.read_text(encoding="utf-8")
        assert "#0102" not in path.read_text(encoding="utf-8")


def test_long_texts_open_on_demand(page):
    openers = [tag for tag, _ in page.tags if tag == "summary"]
    assert len(openers) >= 4
    assert "word " * 200 in "".join(page.words)


def test_the_same_run_makes_the_same_report(tmp_path):
    assert write(tmp_path / "a") == write(tmp_path / "b")


AGAINST = {
    "run": f"outputs/{EVIL}",
    "split": "test",
    "outcome": "worse",
    "verdict": "This run is worse than that of outputs/x, by 1.2 BLEU (0.4 to 2.1)",
    "scores": {
        "bleu": {
            "value": 36.23,
            "difference": -1.24,
            "low": -2.1,
            "high": -0.4,
            "p": 0.0042,
            "outcome": "worse",
            **BLEU.facts(),
        }
    },
}


def test_another_run_beside_this_one(tmp_path):
    page = Page(write(tmp_path, {**METRICS, "against": AGAINST}))
    assert "Worse than the other run" in page.text
    assert AGAINST["verdict"] in page.text
    cells = [word.strip() for word in page.words if word.strip()]
    at = cells.index("this run is") + 1
    shown = ["BLEU", "35.0", "36.2", "−1.2", "−2.1 to −0.4", "0.004", "worse"]
    assert cells[at : at + 7] == shown
    assert "script" not in [tag for tag, _ in page.tags]
    nothing = {**METRICS, "against": {**AGAINST, "outcome": None, "scores": {}}}
    told = Page(write(tmp_path, nothing)).text
    assert AGAINST["verdict"] in told
    assert "than the other run" not in told
    assert "Compared with the other run" not in told


def test_scores_from_0_to_100_have_one_decimal(tmp_path):
    bleu, chrf = (entry(metric, 7.432, 6.04, 9.0) for metric in (BLEU, CHRF))
    copied = {"label": "source copied", "scores": {"bleu": {**bleu, "value": 0.512}}}
    metrics = {
        "test": {"bleu": bleu, "chrf": chrf},
        "baselines": {"test": {"source_copied": copied}},
        "verdict": "x",
        "comparison": {**COMPARISON, "score": "bleu", "baseline": "source_copied"},
        "by_length": {"test": [bucket(n, n, {"bleu": 8.251}) for n in (1, 2)]},
    }
    history = [{"epoch": n, "validation.chrf": 30.0} for n in (1, 2)]
    page = Page(write(tmp_path, metrics, history))
    assert page.text.count("7.4") >= 3
    assert "6.0 to 9.0" in page.text
    assert "0.5" in page.text
    for text in ("7.432", "0.512", "8.251", "6.04", "ChrF"):
        assert text not in page.text
    assert "chrF++" in page.text


def test_paragraphs_stack_on_a_narrow_screen(tmp_path):
    long, japanese = "word " * 20, "とても長い日本語の文章です。" * 3
    both = Table("Both", ("score", "source", "text"), [("100.0", long, japanese), ("–", "a", "b")])
    one = Table("One", ("source", "text"), [(long, "short"), ("in two words", japanese[:3])])
    page = Page(write(tmp_path, sections=[both, one]))
    stacked = [
        attributes for tag, attributes in page.tags if tag == "table" and "class" in attributes
    ]
    assert stacked == [{"class": "stacks"}]
    cells = [a for tag, a in page.tags if tag == "td" and "data-name" in a]
    shapes = {(a["data-name"], a["class"]) for a in cells}
    assert {("score", "number"), ("text", "long"), ("text", "word"), ("source", "phrase")} <= shapes
    assert all(attributes["dir"] == "auto" for attributes in cells)


def test_a_run_that_measured_little_has_a_report(tmp_path):
    page = Page(write(tmp_path, metrics={}, history=[], sections=[]))
    assert "CC-BY-4.0" in page.text
    alone = {"test": {"accuracy": entry(ACCURACY)}, "verdict": "x"}
    assert "0.800" in Page(write(tmp_path, metrics=alone, history=HISTORY[:1])).text


def test_learning_curves_by_step_where_epochs_repeat():
    within = [{**HISTORY[0], "step": 5}, HISTORY[0], HISTORY[1]]
    loss = learning_curves(within, Metric)[0]
    assert "step" in re.findall(r">(\w+)</text>", svgs(loss, "x")[0])
    titles = [figure.title for figure in learning_curves(HISTORY, Metric)]
    assert titles == ["Loss", "Learning rate"]


def test_lengths_without_a_score_are_left_out():
    buckets = [LengthBucket(**bucket) for bucket in METRICS["by_length"]["test"]]
    drawn = svgs(plot_by_length(buckets, ACCURACY), "x")[0]
    assert "1–5" in drawn
    assert "7–9" not in drawn


def test_shortened_counts_wide_characters_twice():
    assert shorten("short", 5) == "short"
    assert shorten("too long", 5) == "too…"
    assert shorten("日本語", 6) == "日本語"
    assert shorten("日本語です", 6) == "日本…"
    assert text_columns(shorten("a日本語です", 6)) <= 6


@pytest.mark.parametrize(
    ("values", "shown"),
    [((1e-4, 1e-1), ["10⁻⁴", "10⁻³", "0.01", "0.1"]), ((1, 1000), ["10", "100"])],
)
@pytest.mark.parametrize("name", ["x", "y"])
def test_logarithmic_axes_have_plain_numbers(name: str, values: tuple, shown: list[str]) -> None:
    def draw(axes: Any) -> None:
        axes.plot(values, values)
        set_log_scale(axes, name)

    drawn = svgs(Figure("Growth", draw), "x")[0]
    assert "mathdefault" not in drawn
    assert all(f">{text}</text>" in drawn for text in shown)


@pytest.mark.parametrize(
    ("values", "limits"),
    [([0.0, 0.0], (0, 1)), ([0.0, 2.0], (0, 2.1)), ([-1.0, 2.0], (-1.15, 2.15)), ([], (-1, 1))],
)
def test_an_axis_has_no_room_below_zero_for_nothing(values: list[float], limits: tuple) -> None:
    found = []
    given = {(0.0, 2.0): (-0.1, 2.1), (-1.0, 2.0): (-1.15, 2.15), (): (-1, 1)}
    start = given.get(tuple(values), (-0.05, 0.05))
    start_at_zero(lambda: start, lambda low, high: found.append((low, high)), values)
    assert (found or [start]) == [limits]
