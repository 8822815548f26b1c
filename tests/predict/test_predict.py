"""mode=predict by the command line: from any text, file or folder, also when it is killed."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, Command
from whole_runs import kill, start_main, wait_for


@pytest.mark.parametrize(
    "text", ["a superb film", "it's \"dull\", isn't it? ${x} \\", "日本語 👍", "  "]
)
def test_any_text_is_predicted_on_the_command_line(
    run: Path, command_here: Command, text: str
) -> None:
    result = command_here("mode=predict", f"run={run}", f"input={text}")
    assert result.returncode == 0, result.stderr
    (line,) = result.stdout.splitlines()
    prediction = json.loads(line)
    assert prediction["text"] == text
    assert prediction["label"] in ("negative", "positive")
    assert sum(prediction["probabilities"].values()) == pytest.approx(1, abs=1e-5)


def test_predict_reads_files_and_standard_input_alike(
    run: Path, command_here: Command, tmp_path: Path
) -> None:
    texts = ["a superb film", "an awful film, really", "people in town"]
    (tmp_path / "texts.txt").write_text("\n".join(texts) + "\n")
    (tmp_path / "texts.csv").write_text(
        "id,text\n" + "".join(f'{i},"{t}"\n' for i, t in enumerate(texts))
    )
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in texts))
    outputs = [
        command_here("mode=predict", f"run={run}", f"input={name}").stdout
        for name in ("texts.txt", "texts.csv", "texts.jsonl")
    ]
    outputs.append(command_here("mode=predict", f"run={run}", stdin="\n".join(texts)).stdout)
    command_here("mode=predict", f"run={run}", "input=texts.txt", "output=predictions.jsonl")
    outputs.append((tmp_path / "predictions.jsonl").read_text())
    assert [json.loads(line)["text"] for line in outputs[0].splitlines()] == texts
    assert len(set(outputs)) == 1


def test_each_line_that_is_not_predicted_has_its_reason(run: Path) -> None:
    result = subprocess.run(
        [sys.executable, str(ROOT / "main.py"), "mode=predict", f"run={run}"],
        input=b"a superb film\n\xff\xfe\x00\n\ncaf\xc3\xa9\n",
        capture_output=True,
        check=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line.get("text") for line in lines] == ["a superb film", None, None, "café"]
    assert lines[1] == {"error": "standard input:2: is not valid UTF-8"}
    assert lines[2] == {"error": "standard input:3: is empty"}
    assert b"2 of 4 rows have no prediction" in result.stderr


def test_each_file_of_a_folder_is_predicted(
    run: Path, command_here: Command, tmp_path: Path
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "b.jsonl").write_text('{"text": "a superb film"}\n{"texts": 1}\n')
    (folder / "a.csv").write_text("text,id\nan awful film,7\n")
    (folder / "notes.md").write_text("of no interest")
    result = command_here("mode=predict", f"run={run}", "input=folder")
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line.get("file") for line in lines] == ["a.csv", "b.jsonl", None]
    assert lines[2] == {"error": "b.jsonl:2: column 'text' has no value"}
    (folder / "a.csv").unlink()
    (folder / "b.jsonl").unlink()
    result = command_here("mode=predict", f"run={run}", "input=folder")
    assert result.returncode == 1
    assert result.stderr.startswith("error: input=folder: the folder must hold .csv")


def test_predict_killed_at_any_moment_resumes_to_the_same_predictions(
    run: Path, command_here: Command, tmp_path: Path
) -> None:
    rng = random.Random(5)
    texts = [" ".join(rng.choices(["superb", "awful", "film"], k=k % 9 + 1)) for k in range(60_000)]
    (tmp_path / "texts.txt").write_text("\n".join([*texts[:30_000], "", *texts[30_000:]]))
    whole = tmp_path / "whole.jsonl"
    command = ["mode=predict", f"run={run}", f"input={tmp_path}/texts.txt"]
    assert not command_here(*command, f"output={whole}").returncode
    predictions = [json.loads(line) for line in whole.read_text().splitlines()]
    assert [prediction.get("text", "") for prediction in predictions] == [
        *texts[:30_000],
        "",
        *texts[30_000:],
    ]

    output, log = tmp_path / "predictions.jsonl", tmp_path / "log"
    note = tmp_path / "predictions.jsonl.partial.json"
    process = start_main(*command, f"output={output}", log=log)
    wait_for(note.exists, process)
    kill(process)
    assert not output.exists(), "it was killed too late to show anything"
    result = command_here(*command, f"output={output}")
    assert "resuming after" in result.stderr
    assert output.read_bytes() == whole.read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {
        "texts.txt", "whole.jsonl", "predictions.jsonl", "log",
    }  # fmt: skip


def test_predict_reads_a_file_in_another_format(
    run: Path, command_here: Command, tmp_path: Path
) -> None:
    (tmp_path / "other.csv").write_text("id;review\n1;a superb film\n")
    options = ["data.delimiter=semicolon", "data.text_column=review"]
    result = command_here("mode=predict", f"run={run}", "input=other.csv", *options)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["text"] == "a superb film"


def test_an_empty_input_is_a_mistake(run: Path, command_here: Command) -> None:
    """As of an environment variable that isn't set: it doesn't name the working directory."""
    result = command_here("mode=predict", f"run={run}", "input=")
    assert result.returncode == 1
    assert "input must be a text, a file or a folder" in result.stderr


@pytest.mark.parametrize(
    ("name", "message"),
    [("missing.csv", "there is no such file"), ("empty.csv", "the file is empty")],
)
def test_a_file_without_rows_is_reported_before_tensorflow_is_imported(
    name: str, message: str, run: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty.csv").write_bytes(b"")
    command = ["mode=predict", f"run={run}", f"input={tmp_path / name}"]
    result = subprocess.run(
        [sys.executable, "-X", "importtime", str(ROOT / "main.py"), *command],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert f"{name}: {message}" in result.stderr
    assert re.search(r"\| +json$", result.stderr, re.M)
    assert not re.search(r"\| +tensorflow$", result.stderr, re.M)
