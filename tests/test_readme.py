"""Every command that README.md and conf/ show can be given: its settings exist and go together."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, Command, FinishedRun
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser

from main import _command_line
from pipelines.config.restore import resolve_config
from pipelines.config.schema import check, parse
from pipelines.core.errors import UserError

START = "python main.py"
README = (ROOT / "README.md").read_text(encoding="utf-8")


def whole_lines(text: str) -> list[str]:
    """Lines that end in a backslash are joined with the next."""
    return re.sub(r"\\\n[\s#]*", "", text).splitlines()


def find_commands() -> list[str]:
    """What README.md shows in blocks of code or within a line, and what conf/ says in comments."""
    commands, fenced = [], False
    for line in whole_lines(README):
        fenced ^= line.startswith("```")
        if (fenced or line.startswith("    ")) and line.strip().startswith(START):
            commands.append(line.strip())
        commands += re.findall(rf"`({START}[^`]*)`", line)
    for path in sorted((ROOT / "conf").rglob("*.yaml")):
        for line in whole_lines(path.read_text(encoding="utf-8")):
            if line.startswith("#") and START in line:
                commands.append(line[line.index(START) :])
    return list(dict.fromkeys(commands))


COMMANDS = find_commands()


def arguments_of(command: str) -> list[str]:
    return shlex.split(command, comments=True)[2:]


def first_value(argument: str) -> str:
    """Of a setting that is swept over, its first value."""
    override = OverridesParser.create().parse_override(argument)
    if not override.is_sweep_override():
        return argument
    if not override.is_discrete_sweep():
        return f"{override.get_key_element()}={override.value().start}"
    return f"{override.get_key_element()}={next(override.sweep_string_iterator())}"


def write_files(data: dict[str, Any], folder: Path) -> None:
    """Writes, with two rows, the files that the command names and the folder lacks."""
    if data["format"] == "image_captions":
        write_images(data, folder)
    if data["format"] == "tagged_files":
        write_tags(data, folder)
    columns = [value for key, value in data.items() if key.endswith("_column")]
    for key, value in data.items():
        named = isinstance(value, str) and re.fullmatch(r"[^\s:]+\.\w+", value)
        path = folder / str(value)
        # What lies in a package is there.
        if key.endswith("_column") or not named or path.exists() or key == "file":
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        mark = {".csv": ",", ".tsv": "\t"}.get(path.suffix)
        rows = (
            [columns, *([f"{c} {n}" for c in columns] for n in "ab")] if mark else [["a."], ["b."]]
        )
        path.write_text("".join(f"{(mark or '').join(row)}\n" for row in rows))


def write_tags(data: dict[str, Any], folder: Path) -> None:
    """A file of words with tags in four columns or as lists, or a folder with the file."""
    path = folder / data["path"]
    if path.suffix == ".jsonl":
        names = data["token_column"] or "tokens", data["tag_column"] or "tags"
        path.write_text(json.dumps({name: ["a", "b"] for name in names}) + "\n")
        return
    if not path.suffix:
        path.mkdir()
        path /= "train.conll"
    columns = 10 if data["tag_column"] == "upos" else 4
    path.write_text("".join("\t".join([str(n), *"w" * (columns - 1)]) + "\n" for n in (1, 2)))


def write_images(data: dict[str, Any], folder: Path) -> None:
    """Files with the names of images, and their captions."""
    names = [f"{number:03}.png" for number in range(300)]
    for part in ("", "validation_", "test_"):
        images, captions = data[f"{part}images"], data[f"{part}captions"]
        if images is not None:
            (folder / images).mkdir(parents=True, exist_ok=True)
            for name in names:
                (folder / images / name).touch()
        if captions is not None:
            (folder / captions).parent.mkdir(parents=True, exist_ok=True)
            listed = [{"id": name, "file_name": name} for name in names]
            notes = [{"image_id": name, "caption": "a dog"} for name in names]
            rows = "".join(f"{name},a dog\n" for name in names)
            (folder / captions).write_text(
                json.dumps({"images": listed, "annotations": notes})
                if captions.endswith(".json")
                else f"image,caption\n{rows}"
            )


def test_commands_are_found() -> None:
    assert f"{START} task=sentiment model=gru" in COMMANDS
    assert any("run=DIR" in command for command in COMMANDS)
    assert len(COMMANDS) > 30


@pytest.mark.parametrize("command", [c for c in COMMANDS if "=" in c])
def test_a_command_that_is_shown_can_be_given(
    command: str, finished_run: FinishedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tagged = "tagging" in command or "ewt_pos" in command or "conll2003" in command
    run = "tagged" if tagged else str(finished_run.directory)
    given = [re.sub(r"\bDIR\b(?!/)", run, text) for text in arguments_of(command)]
    given = [text.replace("DIR/", "") for text in given]
    overrides = [
        first_value(text) for text in _command_line(given) if not text.startswith(("-", "hydra"))
    ]
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        values = resolve_config(compose("config", overrides), overrides)
    config = parse(values)
    write_files(values["data"], tmp_path)
    try:
        check(config)
    except UserError as error:
        # What isn't installed, or has to be downloaded, need not be here.
        if not re.search(r"pip install|network|download", str(error)):
            raise


@pytest.mark.parametrize(
    "command", [c for c in COMMANDS if re.search(r" -", c) and " -m " not in c]
)
def test_a_question_that_is_shown_is_answered(command: str, command_here: Command) -> None:
    result = command_here(*arguments_of(command))
    assert result.returncode == 0, result.stderr
    assert result.stdout


MISTAKES = re.findall(rf"^    \$ ({START}.*)\n    (error: .*)$", README, re.MULTILINE)


@pytest.mark.parametrize(("command", "message"), MISTAKES)
def test_a_mistake_that_is_shown_is_answered_as_shown(
    command: str, message: str, command_here: Command
) -> None:
    result = command_here(*arguments_of(command))
    assert result.returncode == 1
    assert result.stderr == f"{message}\n"
