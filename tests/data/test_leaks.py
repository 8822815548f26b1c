"""What flatters is found and named with its remedy; where nothing does, nothing is said."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from test_divided_files import prepared, write

from pipelines.data.near_duplicates import NearDuplicateFinder, nearly_repeated
from pipelines.data.unused_columns import OWNERS, ROWS, _grouping

Row = dict[str, str]


def sentence(draw: random.Random, *more: str) -> str:
    """Twelve everyday words, each in many rows, and others."""
    words = [f"w{number}x" for number in draw.choices(range(120), k=12)] + list(more)
    return " ".join(draw.sample(words, len(words)))


def rows(change: Callable[[int, random.Random], Row], count: int = 600) -> list[Row]:
    draw = random.Random(0)
    made = []
    for number in range(count):
        label = draw.choice(["good", "bad"])
        made.append({"text": sentence(draw), "label": label} | change(number, draw))
    return made


def leaks_of(path: Path, made: Sequence[Row], *overrides: str) -> dict[str, str]:
    report = prepared(write(path / "a.csv", made), *overrides).report
    return {leak["kind"]: leak["sentence"] for leak in report["leaks"]}


def test_nothing_is_said_of_independent_rows(tmp_path: Path) -> None:
    assert leaks_of(tmp_path, rows(lambda number, draw: {"year": str(draw.randint(1, 9))})) == {}


def named(film: int) -> list[str]:
    return ["f" + "".join(chr(97 + int(digit)) for digit in f"{film:03}") + end for end in "klm"]


def of_films(number: int, draw: random.Random) -> Row:
    """Six neighbours are about one film."""
    return {"text": sentence(draw, *named(number // 6))}


def test_neighbours_that_share_rare_words_until_they_stay_together(tmp_path: Path) -> None:
    made = rows(of_films)
    found = leaks_of(tmp_path, made)
    assert list(found) == ["neighbours"]
    assert "of the validation and test rows share rare words" in found["neighbours"]
    assert "prepare.division=related" in found["neighbours"]
    assert leaks_of(tmp_path, made, "prepare.division=related") == {}
    assert leaks_of(tmp_path, random.Random(1).sample(made, len(made))) == {}


def test_near_duplicates_of_held_out_rows(tmp_path: Path) -> None:
    """Every other row repeats the one before it but for a word."""
    made = rows(lambda number, draw: {})
    for number in range(1, len(made), 2):
        words = [*made[number - 1]["text"].split(), "besides"]
        made[number] |= {"text": " ".join(words), "label": made[number - 1]["label"]}
    random.Random(1).shuffle(made)
    found = leaks_of(tmp_path, made)
    assert list(found) == ["near_duplicates"]
    assert "nearly repeat a training row" in found["near_duplicates"]


@pytest.mark.parametrize("name", ["user", "user_id", "reviewerID", "Films"])
def test_a_column_that_groups_rows_until_it_is_used(tmp_path: Path, name: str) -> None:
    made = rows(lambda number, draw: {name: str(draw.randint(1, 80))})
    found = leaks_of(tmp_path, made)
    assert list(found) == ["column"]
    assert f"prepare.group_by={name} keeps them in one split" in found["column"]
    assert "in common with 6." in found["column"] or "in common with 7." in found["column"]
    assert leaks_of(tmp_path, made, f"prepare.group_by={name}") == {}


def test_a_column_of_names_groups_rows_whatever_it_is_called(tmp_path: Path) -> None:
    assert not OWNERS.fullmatch("shop")
    found = leaks_of(tmp_path, rows(lambda number, draw: {"shop": f"No. {draw.randint(1, 80)}"}))
    assert "prepare.group_by=shop" in found["column"]


@pytest.mark.parametrize(
    "value",
    [
        lambda number, draw: str(number),  # a row's own name
        lambda number, draw: "en",  # the same for all
        lambda number, draw: sentence(draw),  # another text
    ],
)
def test_other_columns_group_nothing(tmp_path: Path, value: Callable[..., str]) -> None:
    assert leaks_of(tmp_path, rows(lambda number, draw: {"id": value(number, draw)})) == {}


def test_numbers_and_dates_are_measured_and_categories_are_many(tmp_path: Path) -> None:
    def more(number: int, draw: random.Random) -> Row:
        day = f"2024-01-{draw.randint(1, 28):02}"
        return {"stars": str(draw.randint(1, 50)), "day": day, "country": draw.choice(["a", "b"])}

    assert leaks_of(tmp_path, rows(more)) == {}


def test_a_word_that_gives_the_label_away(tmp_path: Path) -> None:
    made = rows(lambda number, draw: {})
    for row in made:
        if row["label"] == "bad":
            row["text"] = " ".join(["#Refund", *row["text"].split()[2:]])
    found = leaks_of(tmp_path, made)
    assert list(found) == ["word"]
    expected = "the word '#refund' is in 100% of the texts labelled 'bad' and in 0% of the others"
    assert expected in found["word"]


def test_a_character_gives_the_label_away_where_words_have_no_spaces(tmp_path: Path) -> None:
    def chinese(number: int, draw: random.Random) -> Row:
        text = "".join(draw.choices([chr(0x4E00 + place) for place in range(200)], k=20))
        if number % 2:
            text = "退" + text[1:]
        return {"text": text, "label": "ab"[number % 2]}

    found = leaks_of(tmp_path, rows(chinese))
    assert list(found) == ["word"]
    assert "the word '退' is in 100% of the texts labelled 'b'" in found["word"]


def test_a_length_that_gives_the_label_away(tmp_path: Path) -> None:
    made = rows(lambda number, draw: {})
    for row in made:
        if row["label"] == "good":
            row["text"] = " ".join(row["text"].split()[:5])
    found = leaks_of(tmp_path, made)
    assert list(found) == ["length"]
    assert "texts of more than" in found["length"]
    assert "labelled 'bad' (F1 1.00)" in found["length"]


def test_a_word_that_helps_is_no_leak(tmp_path: Path) -> None:
    """In 60% of the texts with one label and 20% of those with the other."""
    made = rows(lambda number, draw: {})
    draw = random.Random(2)
    for row in made:
        if draw.random() < (0.6 if row["label"] == "bad" else 0.2):
            row["text"] += " dull"
    assert leaks_of(tmp_path, made) == {}


def test_near_duplicates_by_hand() -> None:
    text = "one two three four five six seven eight nine ten eleven twelve"
    texts = [
        text,  # training
        text + " thirteen",  # 10 of 11 shingles
        " ".join(reversed(text.split())),  # the same words, no shingle
        "one two three",  # too short to say
        "one two three",
        "twelve " + text,
    ]
    training = np.array([True, False, False, True, False, True])
    finder = NearDuplicateFinder()
    finder.add([pa.array(texts)])
    assert set(finder.finish().flatten().tolist()) == {0, 1, 5}
    found = nearly_repeated([pa.array(texts)], training)
    assert found.tolist() == [False, True, False, False, False, False]
    assert not nearly_repeated([pa.array(texts)], np.ones(6, bool)).any()
    assert not nearly_repeated([pa.array(texts)], np.zeros(6, bool)).any()


@pytest.mark.parametrize("share", [0.2, 0.9])
def test_what_share_of_shingles_makes_near_duplicates(share: float) -> None:
    """Of 200 pairs of texts of 60 words: nearly all that share 0.9 are found, none with 0.2."""
    draw = random.Random(0)
    texts = []
    for _ in range(200):
        words = [f"w{draw.randrange(10**6)}" for _ in range(60)]
        same = round(60 * 2 * share / (1 + share))
        others = [f"w{draw.randrange(10**6)}" for _ in range(60 - same)]
        texts += [" ".join(words), " ".join(words[:same] + others)]
    found = nearly_repeated([pa.array(texts)], np.arange(400) % 2 == 0)
    assert found.mean() * 2 > 0.95 if share > 0.5 else not found.any()


@pytest.mark.parametrize("order", ["sorted", "shuffled"])
def test_what_rows_have_in_common_with_rows_that_were_not_read(order: str) -> None:
    """30,000 rows, 10 a user: a row has 9 others, whatever the order."""
    users = [f"u{row // 10}" for row in range(30_000)]
    if order == "shuffled":
        random.Random(0).shuffle(users)
    leak = _grouping("user", users[:ROWS], len(users))
    assert leak is not None
    others = float(leak.sentence.partition("in common with ")[2].partition(" ")[0])
    assert others == pytest.approx(9, rel=0.15)
    assert _grouping("user", [f"u{row}" for row in range(ROWS)], len(users)) is None
