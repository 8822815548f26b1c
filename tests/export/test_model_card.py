"""A model card lies with the SavedModel, says what is known, and its snippets run."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import tensorflow as tf
from conftest import Command, FinishedRun
from markdown_it import MarkdownIt

from pipelines.core.contracts import Codec
from pipelines.core.errors import UserError
from pipelines.export.model_card import read_signatures, write_card
from pipelines.runs.directory import Run


@pytest.fixture(scope="module")
def card(finished_run: FinishedRun) -> str:
    return Run(finished_run.directory).card.read_text(encoding="utf-8")


def test_it_travels_with_the_saved_model(finished_run: FinishedRun) -> None:
    assert (finished_run.directory / "saved_model" / "assets.extra" / "MODEL_CARD.md").is_file()


def test_it_says_what_was_measured_on_what(finished_run: FinishedRun, card: str) -> None:
    metrics = json.loads((finished_run.directory / "metrics.json").read_text())
    assert card.startswith("# Sentiment with a GRU\n")
    assert metrics["verdict"] in card
    accuracy = metrics["test"]["accuracy"]
    shown = f"{accuracy['value']:.3f} ({accuracy['low']:.3f} to {accuracy['high']:.3f})"
    assert f"| accuracy ↑ | {shown} |" in card
    assert "majority class" in card
    assert "It knows 2 labels (negative, positive)" in card
    assert f"- licence: {metrics['data']['source']['licence']}" in card
    assert f"{metrics['data']['splits']['train']} train" in card
    assert metrics["versions"]["tensorflow"] in card
    assert "None" not in card
    assert "{{" not in card


def test_every_signature_is_there_with_its_shapes(finished_run: FinishedRun, card: str) -> None:
    loaded = tf.saved_model.load(str(finished_run.directory / "saved_model"))
    described = read_signatures(finished_run.directory / "saved_model")
    assert set(described) == set(loaded.signatures)
    assert "| `serving_default` | `text` string (?) |" in card
    for name, (inputs, outputs) in described.items():
        assert f"| `{name}` |" in card
        signature = loaded.signatures[name]
        assert set(inputs) == set(signature.structured_input_signature[1])
        assert set(outputs) == set(signature.structured_outputs)


def test_its_python_runs(
    finished_run: FinishedRun,
    card: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(finished_run.directory)
    code = "\n".join(re.findall(r"```python\n(.*?)```", card, re.DOTALL))
    exec(compile(code, "MODEL_CARD.md", "exec"), {})
    said = capsys.readouterr().out.splitlines()
    assert len([line for line in said if "tive" in line]) == 4  # I, liked, it and the full stop


def test_its_request_is_json(card: str) -> None:
    (body,) = re.findall(r"curl -d '(.*?)' http", card)
    assert json.loads(body) == {"inputs": {"text": ["I liked it."]}}


def test_it_is_written_again_with_new_scores(
    finished_run: FinishedRun, command_here: Command, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(finished_run.directory, tmp_path / "copy"))
    run = Run(copy)
    run.card.unlink()
    few = ["evaluate.splits=[test]", "evaluate.diagnostics=false"]
    result = command_here("mode=evaluate", f"run={copy}", *few)
    assert result.returncode == 0, result.stderr
    card = run.card.read_text()
    assert "nothing to compare it with" in card
    assert "validation |" not in card
    metrics = run.load_metrics()
    metrics.test, metrics.verdict = {}, None
    run.save_metrics(metrics)
    result = command_here("mode=export", f"run={copy}", "export.verify=0")
    assert result.returncode == 0, result.stderr
    assert "Not measured yet." in run.card.read_text()


def test_a_damaged_saved_model_is_reported(tmp_path: Path) -> None:
    (tmp_path / "saved_model.pb").write_bytes(b"\xff\xfe broken")
    with pytest.raises(UserError, match="make it again with mode=export"):
        read_signatures(tmp_path)


def test_what_the_data_says_is_text(finished_run: FinishedRun, tmp_path: Path) -> None:
    evil = "a\n\n# b | [x](javascript:y) <script> *c* \x1b[31m ``` {{ 7 * 7 }}"
    run = Run(Path(shutil.copytree(finished_run.directory, tmp_path / "copy")))
    metrics = run.load_metrics()
    metrics.verdict = evil
    assert metrics.data is not None
    metrics.data.source["name"] = evil
    for system in metrics.baselines["test"].values():
        system.label = evil
    task = SimpleNamespace(
        intended_use=evil,
        input_columns=["text"],
        example_input={"text": evil},
        limitations=lambda _: [evil],
    )
    write_card(run, metrics, task, Codec({}), evil)  # type: ignore[arg-type]
    card = run.card.read_text(encoding="utf-8")
    page = MarkdownIt("commonmark").enable("table").render(card)
    tags = re.findall(r"<(\w+)", page)
    assert not {"a", "script", "em", "strong"} & set(tags)
    assert tags.count("h1") == 1
    assert tags.count("pre") == card.count("```python") + 1
    shown = "a # b | [x](javascript:y) &lt;script&gt; *c* ␛[31m ``` {{ 7 * 7 }}"
    for around in ("<h1>{}</h1>", "<p>{}</p>", "<li>{}</li>", "<li>name: {}</li>", "<th>{}</th>"):
        assert around.format(shown) in page
    assert "\x1b" not in card
