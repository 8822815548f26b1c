"""Files of words with tags, as people have them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tiny_task import configure

from pipelines.core.contracts import RowIssues
from pipelines.core.errors import UserError
from pipelines.core.types import Example
from pipelines.data.sources.tagged_files import TaggedFiles


def source(path: Path, **settings: Any) -> TaggedFiles:
    given = [f"data.{name}={value}" for name, value in settings.items()]
    made = configure("task=tagging", "data=tagged_files", f"data.path={path}", *given).data
    assert isinstance(made, TaggedFiles)
    return made


def write(folder: Path, content: str, name: str = "words.conll") -> Path:
    path = folder / name
    path.write_text(content, encoding="utf-8")
    return path


def read(made: TaggedFiles, part: str = "all") -> tuple[list[Example], list[str]]:
    issues = RowIssues()
    return list(made.read(part, issues)), issues.first


ADA = {"tokens": ["Ada", "ran"], "tags": ["B-PER", "O"]}


@pytest.mark.parametrize(
    "content",
    [
        "Ada B-PER\nran O\n",
        "Ada\tB-PER\nran\tO",
        "\n\n  \nAda   B-PER \n ran O\n \t \n\n",
        "-DOCSTART- O\n\nAda B-PER\nran O\n",
        "# a remark of several words\nAda B-PER\nran O\n",
        "Ada NNP x B-PER\nran VBD y O\n",
        "\ufeffAda B-PER\r\nran O\r\n",
    ],
)
def test_words_in_lines(content: str, tmp_path: Path) -> None:
    assert read(source(write(tmp_path, content))) == ([ADA], [])


def test_lines_of_spaces_end_sentences_and_tabs_may_be_mixed_with_spaces(tmp_path: Path) -> None:
    content = "Ada\tB-PER\nran\tO\n   \nAda B-PER\nran O\n\t\nAda\tB-PER\nran\tO\n"
    assert read(source(write(tmp_path, content))) == ([ADA] * 3, [])


def test_a_word_with_a_space_in_it_between_tabs(tmp_path: Path) -> None:
    made, _ = read(source(write(tmp_path, "New York\tB-LOC\nran\tO\n")))
    assert made == [{"tokens": ["New York", "ran"], "tags": ["B-LOC", "O"]}]


def test_a_sign_for_numbers_is_a_word(tmp_path: Path) -> None:
    made, _ = read(source(write(tmp_path, "Ada B-PER\n# O\n\n# O\nran O\n")))
    assert [example["tokens"] for example in made] == [["Ada", "#"], ["#", "ran"]]


CONLLU = """\
# sent_id = 1
# text = Ada can't run
1\tAda\tAda\tPROPN\tNNP\t_\t2\tnsubj\t_\t_
2-3\tcan't\t_\t_\t_\t_\t_\t_\t_\t_
2\tca\tcan\tAUX\tMD\t_\t0\troot\t_\t_
3\tn't\tnot\tPART\tRB\t_\t2\tadvmod\t_\t_
3.1\trun\trun\tVERB\tVB\t_\t_\t_\t_\t_
4\trun\trun\tVERB\tVB\t_\t2\txcomp\t_\t_
"""


def test_conllu_has_words_of_ranges_and_no_empty_nodes(tmp_path: Path) -> None:
    made, issues = read(source(write(tmp_path, CONLLU)))
    assert made == [
        {"tokens": ["Ada", "ca", "n't", "run"], "tags": ["PROPN", "AUX", "PART", "VERB"]}
    ]
    assert issues == []


def test_columns_of_conllu_have_names(tmp_path: Path) -> None:
    made, _ = read(source(write(tmp_path, CONLLU), token_column="lemma", tag_column="xpos"))
    assert made == [{"tokens": ["Ada", "can", "not", "run"], "tags": ["NNP", "MD", "RB", "VB"]}]


def test_lists_in_json_lines_and_in_parquet(tmp_path: Path) -> None:
    lines = write(tmp_path, json.dumps(ADA) + "\n", "words.jsonl")
    pq.write_table(pa.table({name: [values] for name, values in ADA.items()}), tmp_path / "w.pq")
    assert read(source(lines)) == read(source(tmp_path / "w.pq")) == ([ADA], [])
    renamed = {"words": ADA["tokens"], "ner": ADA["tags"]}
    other = write(tmp_path, json.dumps(renamed) + "\n", "other.jsonl")
    assert read(source(other, token_column="words", tag_column="ner")) == ([ADA], [])


def test_a_tag_too_few_is_told_with_its_place(tmp_path: Path) -> None:
    lines = [json.dumps(ADA), json.dumps({"tokens": ["a", "b"], "tags": ["O"]})]
    made, issues = read(source(write(tmp_path, "\n".join(lines), "words.jsonl")))
    assert made == [ADA]
    assert issues == [
        "words.jsonl, sentence 2: there must be a tag for each word; their numbers differ"
    ]


def test_a_line_without_a_column_is_told_with_its_place(tmp_path: Path) -> None:
    made, issues = read(source(write(tmp_path, "Ada B-PER\nran O\n\nAda B-PER\nran\n")))
    assert made == [ADA]
    assert issues == ["words.conll:5: the line has no column 1"]


@pytest.mark.parametrize(
    ("tags", "scheme"),
    [("I-A B-A O I-A I-A", "iob1"), ("S-A S-A O B-A E-A", "bioes"), ("U-A U-A O B-A L-A", "bilou")],
)
def test_schemes_are_recognized_and_come_as_bio(tags: str, scheme: str, tmp_path: Path) -> None:
    content = "\n".join(f"w {tag}" for tag in tags.split())
    made = source(write(tmp_path, content))
    assert made.found_scheme == scheme
    (example,), _ = read(made)
    assert example["tags"] == ["B-A", "B-A", "O", "B-A", "I-A"]


def test_a_scheme_can_be_told(tmp_path: Path) -> None:
    """All entities begin with I-, which might be IOB1, or BIO with faults."""
    path = write(tmp_path, "a I-A\nb O\n")
    assert read(source(path, scheme="bio"))[0][0]["tags"] == ["I-A", "O"]
    assert read(source(path, scheme="iob1"))[0][0]["tags"] == ["B-A", "O"]


@pytest.mark.parametrize("scheme", ["iob1", "bio"])
@pytest.mark.parametrize("tag", ["E-A", "B", "NOUN"])
def test_a_tag_of_another_scheme_is_told(scheme: str, tag: str, tmp_path: Path) -> None:
    path = write(tmp_path, f"a B-A\nb {tag}\n\nc O\n")
    made, issues = read(source(path, scheme=scheme))
    assert [example["tokens"] for example in made] == [["c"]]
    assert issues == [f"words.conll:1: '{tag}' is no tag of {scheme}"]


def test_the_scheme_that_was_seen_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    read(source(write(tmp_path, "a I-A\nb O\n")))
    assert "words.conll: tags mark entities in IOB1, which are read as BIO" in caplog.text
    caplog.clear()
    read(source(write(tmp_path, "a NOUN\nb VERB\n")))
    assert caplog.text == ""


@pytest.mark.parametrize(
    "names",
    [
        ("train.conll", "dev.conll", "test.conll"),
        ("eng.train", "eng.testa", "eng.testb"),
        ("en_ewt-ud-train.conllu", "en_ewt-ud-dev.conllu", "en_ewt-ud-test.conllu"),
        ("Train.txt", "valid.txt", "test.txt"),
    ],
)
def test_a_folder_of_parts(names: tuple[str, ...], tmp_path: Path) -> None:
    for number, name in enumerate(names):
        write(tmp_path, f"w{number} A\n", name)
    made = source(tmp_path)
    assert made.parts() == ("train", "validation", "test")
    for number, part in enumerate(made.parts()):
        assert read(made, part)[0] == [{"tokens": [f"w{number}"], "tags": ["A"]}]


@pytest.mark.parametrize(
    ("content", "settings", "message"),
    [
        ("", {}, "must hold a word a line; it holds nothing"),
        ("a B\n", {"tag_column": 2}, "data.tag_column must be a number from 0 to 1"),
        ("a B\n", {"tag_column": "upos"}, "has 2 columns; received 'upos'"),
        ("a\nb\n", {"tag_column": 1}, "from 0 to 0"),
        (CONLLU, {"token_column": "word"}, "or one of id, form, lemma"),
        ("# only a remark\n", {}, "it holds only comments"),
    ],
)
def test_what_cant_be_read(
    content: str, settings: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        source(write(tmp_path, content), **settings).check()


def test_a_folder_without_a_training_file(tmp_path: Path) -> None:
    write(tmp_path, "a B\n", "dev.conll")
    with pytest.raises(UserError, match="a file whose name says train"):
        source(tmp_path).check()


def test_words_that_are_no_text_are_told(tmp_path: Path) -> None:
    path = tmp_path / "words.conll"
    path.write_bytes(b"Ada B-PER\nran O\n\nA\xff B-PER\nran O\n")
    made, issues = read(source(path))
    assert made == [ADA]
    assert issues == ["words.conll:4: column 0 is not valid UTF-8"]


def test_inputs_to_predict_for_need_no_tags(tmp_path: Path) -> None:
    made = source(write(tmp_path, "Ada B-PER\nran O\n"))
    field = {
        "tokens": made
        and configure("task=tagging", "data=tagged_files", "data.path=x").task.codec()["words"].raw
    }
    path = write(tmp_path, "Grace\nmet\nAda\n\nHi\n", "new.txt")
    assert list(made.read_inputs(path, field, RowIssues())) == [
        {"tokens": ["Grace", "met", "Ada"]}, {"tokens": ["Hi"]}
    ]  # fmt: skip
    assert made.parse_input("Grace met Ada", field) == {"tokens": ["Grace", "met", "Ada"]}
    assert made.parse_input('{"tokens": ["New York"]}', field) == {"tokens": ["New York"]}
    with pytest.raises(UserError, match="a word at least"):
        made.parse_input("  ", field)


def test_the_embedded_treebank_has_the_parts_of_its_package() -> None:
    made = configure("task=tagging", "data=turkish_pos").data
    made.check()
    counts = dict.fromkeys(made.parts(), 0)
    issues = RowIssues()
    for part in counts:
        for example in made.read(part, issues):
            counts[part] += 1
            assert len(example["tokens"]) == len(example["tags"])
    # Of 2,541 and of 2,310 sentences.
    assert counts == {"train": 2033 + 1848, "validation": 254 + 231, "test": 254 + 231}
    assert issues.first == []
