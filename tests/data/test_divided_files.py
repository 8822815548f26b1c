"""Divisions from a CSV file to splits: by users, by neighbours, by time, and what can't be."""

from __future__ import annotations

import csv
import datetime
import itertools
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hydra import compose, initialize_config_dir
from only_data import OnlyData

from pipelines.config.restore import to_plain_values
from pipelines.config.schema import Config, check, parse
from pipelines.core.errors import UserError
from pipelines.core.paths import ROOT
from pipelines.data.codecs.labels import LabelCodec
from pipelines.data.keys import time_number
from pipelines.data.prepare import Prepared, prepare

Rows = Sequence[dict[str, Any]]
SHARES = ["prepare.validation=0.1", "prepare.test=0.2", "task.text.minimum_count=1"]


def review(number: int, **more: Any) -> dict[str, Any]:
    """A row, whose word "no<number>" no other row has."""
    label = "good" if number % 2 else "bad"
    return {"text": f"a {label} film no{number}", "label": label, **more}


def write(path: Path, rows: Rows) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    return path


def config(path: Path, *overrides: str) -> Config:
    given = ["data=text_files", f"data.path={path}", *SHARES, *overrides]
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return parse(to_plain_values(compose("config", given)))


def prepared(path: Path, *overrides: str) -> Prepared:
    made = config(path, *overrides)
    check(made)
    return prepare(made.data, made.task, made.prepare)


def fails(path: Path, *overrides: str) -> str:
    with pytest.raises(UserError) as error:
        prepared(path, *overrides)
    assert "\n" not in str(error.value)
    return str(error.value)


def members(data: Prepared) -> dict[str, list[int]]:
    """Numbers of the rows in each split."""
    return {
        name: sorted(
            int(row["text"].rpartition("no")[2]) for row in split.examples(range(len(split)))
        )
        for name, split in data.splits.items()
    }


# Groups


def of_users(count: int = 200) -> list[dict[str, Any]]:
    """Some 4 reviews a user."""
    return [review(n, user=f"u{n * 7 % 50}", film=f"f{n % 100}") for n in range(count)]


def test_a_users_reviews_are_all_in_one_split(tmp_path: Path) -> None:
    rows = of_users()
    data = prepared(write(tmp_path / "a.csv", rows), "prepare.group_by=user")
    found = members(data)
    assert sorted(itertools.chain(*found.values())) == list(range(200))
    users = {name: {rows[n]["user"] for n in numbers} for name, numbers in found.items()}
    assert users["train"] | users["validation"] | users["test"] == {f"u{n}" for n in range(50)}
    assert sum(map(len, users.values())) == 50
    assert {name: len(numbers) for name, numbers in found.items()} == {
        "train": 140, "validation": 20, "test": 40,
    }  # fmt: skip
    assert data.report["division"] == "groups by user"
    assert data.report["splits"]["test"] == 40


def test_what_is_tied_by_either_of_two_columns_stays_together(tmp_path: Path) -> None:
    """A user has two films of their own, which one other user has seen too."""
    rows = [review(n, user=f"u{n // 2}", film=f"f{n // 4}") for n in range(120)]
    path = write(tmp_path / "a.csv", rows)
    data = prepared(path, "prepare.group_by=[user,film]")
    assert data.report["division"] == "groups by user, film"
    for numbers in members(data).values():
        assert {n ^ 1 for n in numbers} == {n ^ 3 for n in numbers} == set(numbers)


def test_without_groups_users_are_on_both_sides(tmp_path: Path) -> None:
    """So that the tests above could fail."""
    rows = of_users()
    found = members(prepared(write(tmp_path / "a.csv", rows)))
    train, test = ({rows[n]["user"] for n in found[name]} for name in ("train", "test"))
    assert train & test


@pytest.mark.parametrize("how", [[], ["prepare.group_by=user"]], ids=["hash", "groups"])
def test_the_order_of_a_files_rows_does_not_matter(tmp_path: Path, how: list[str]) -> None:
    rows = of_users(80)
    shuffled = list(rows)
    random.Random(0).shuffle(shuffled)
    found = [
        members(prepared(write(tmp_path / name, one), *how))
        for name, one in (("a.csv", rows), ("b.csv", shuffled))
    ]
    assert found[0] == found[1]


def test_of_a_folder_with_a_test_file_only_the_training_rows_are_grouped(tmp_path: Path) -> None:
    rows = of_users()
    write(tmp_path / "train.csv", rows[:150])
    write(tmp_path / "test.csv", rows[150:])
    found = members(prepared(tmp_path, "prepare.group_by=user"))
    assert found["test"] == list(range(150, 200))
    assert len(found["validation"]) == 15
    train, validation = ({rows[n]["user"] for n in found[name]} for name in ("train", "validation"))
    assert not train & validation


# Related rows


def of_films(count: int = 400) -> list[dict[str, Any]]:
    """4 reviews a film, of which 2 are good; sorted by label, as often in packages."""
    rows = [review(n) for n in range(count)]
    for n, row in enumerate(rows):
        names = [f"{chr(97 + n // 4 % 26)}{chr(97 + n // 104)}{end}" for end in "xyz"]
        row |= {"text": f"{' '.join(names)} {row['text']}", "user": f"u{n // 8}"}
    return sorted(rows, key=lambda row: row["label"])


def test_texts_that_share_rare_words_are_in_one_split(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", of_films())
    data = prepared(path, "prepare.division=related")
    assert data.report["division"] == "rows that share rare words"
    assert (data.report["groups"], data.report["largest_group"]) == (100, 4)
    assert data.report["splits"] == {"train": 280, "validation": 40, "test": 80}
    for numbers in members(data).values():
        assert {n ^ 1 for n in numbers} == {n ^ 2 for n in numbers} == set(numbers)
    apart = prepared(path)
    assert apart.report["groups"] is apart.report["largest_group"] is None
    assert {n ^ 2 for n in members(apart)["test"]} != set(members(apart)["test"])


def test_related_texts_and_a_users_rows_stay_together(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", of_films())
    data = prepared(path, "prepare.division=related", "prepare.group_by=user")
    assert data.report["division"] == "rows that share rare words, or user"
    assert data.report["groups"] == 50
    for numbers in members(data).values():
        assert {n ^ 4 for n in numbers} == set(numbers)


def test_only_texts_can_be_related() -> None:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        made = parse(
            to_plain_values(compose("config", ["task=captioning", "prepare.division=related"]))
        )
    with pytest.raises(UserError) as error:
        prepare(made.data, made.task, made.prepare)
    assert "prepare.division=related goes with texts" in str(error.value)


@pytest.mark.parametrize(
    ("overrides", "division"),
    [
        ([], "related"),
        (["experiment=imdb_best"], "related"),
        (["prepare.division=hash"], "hash"),
        (["data=rotten_tomatoes"], "hash"),
        (["experiment=rotten_tomatoes_transfer"], "hash"),
        (["data=text_files"], "hash"),
        (["task=translation"], "hash"),
    ],
)
def test_the_data_says_how_it_is_divided_unless_a_setting_does(
    overrides: list[str], division: str
) -> None:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        assert to_plain_values(compose("config", overrides))["prepare"]["division"] == division


# Blocks


def test_neighbours_stay_together_and_a_sorted_file_has_both_labels_everywhere(
    tmp_path: Path,
) -> None:
    rows = sorted((review(n) for n in range(200)), key=lambda row: row["label"])
    place = {int(row["text"].rpartition("no")[2]): at for at, row in enumerate(rows)}
    path = write(tmp_path / "a.csv", rows)
    data = prepared(path, "prepare.division=blocks", "prepare.block_rows=5")
    for name, size in (("train", 140), ("validation", 20), ("test", 40)):
        numbers = members(data)[name]
        blocks = [place[n] // 5 for n in numbers]
        assert len(numbers) == size
        assert all(blocks.count(block) == 5 for block in blocks)
        assert data.report["strata"][name] == {"bad": size // 2, "good": size // 2}
    assert data.report["division"] == "blocks of 5 neighbouring rows"


# Time


def dated(count: int) -> list[dict[str, Any]]:
    """Row n is of day n of 2024, counted from 0; rows stand in no order."""
    first = datetime.date(2024, 1, 1)
    rows = [review(n, date=str(first + datetime.timedelta(n))) for n in range(count)]
    random.Random(1).shuffle(rows)
    return rows


TIME = ["prepare.division=time", "prepare.time_column=date"]


def test_the_test_is_the_latest_and_the_validation_before_it(tmp_path: Path) -> None:
    data = prepared(write(tmp_path / "a.csv", dated(50)), *TIME)
    assert members(data) == {
        "train": list(range(35)),
        "validation": list(range(35, 40)),
        "test": list(range(40, 50)),
    }
    assert data.report["division"] == "time, by date"


def test_numbers_and_dates_with_a_time_of_day_are_in_order_too(tmp_path: Path) -> None:
    numbers = [{**row, "date": 10 ** (n % 9) * n} for n, row in enumerate(dated(50))]
    order = sorted(numbers, key=lambda row: row["date"])
    found = members(prepared(write(tmp_path / "a.csv", numbers), *TIME))
    assert found["test"] == sorted(int(row["text"].rpartition("no")[2]) for row in order[40:])
    # The same moment in another zone, and later within a day.
    times = [f"2024-01-01T{n % 24:02}:30:00+0{n % 10}:00" for n in range(50)]
    zoned = [review(n, date=time) for n, time in enumerate(times)]
    found = members(prepared(write(tmp_path / "b.csv", zoned), *TIME))
    hours = {name: [n % 24 - n % 10 for n in numbers] for name, numbers in found.items()}
    assert max(hours["train"]) < min(hours["validation"])
    assert max(hours["validation"]) < min(hours["test"])


def test_dates_of_a_parquet_file_are_taken_as_they_are(tmp_path: Path) -> None:
    rows = dated(50)
    table = pa.Table.from_pylist(rows)
    expected = members(prepared(write(tmp_path / "a.csv", rows), *TIME))
    for kind in (pa.date32(), pa.timestamp("us")):
        column = table["date"].cast(pa.date32()).cast(kind)
        pq.write_table(table.set_column(2, "date", column), tmp_path / "a.parquet")
        assert members(prepared(tmp_path / "a.parquet", *TIME)) == expected


def test_without_a_column_rows_stand_in_the_order_of_time(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", [review(n) for n in range(50)])
    data = prepared(path, "prepare.division=time")
    assert members(data)["test"] == list(range(40, 50))
    assert data.report["division"] == "time, by the order of the rows"


def test_a_row_without_a_usable_date_is_a_bad_row(tmp_path: Path) -> None:
    rows = dated(50)
    for number, wrong in ((3, "yesterday"), (7, ""), (9, "nan")):
        rows[number] = {**rows[number], "date": wrong}
    path = write(tmp_path / "a.csv", rows)
    data = prepared(path, *TIME, "prepare.bad_rows=0.1")
    assert (data.report["rows"], data.report["bad_rows"]) == (50, 3)
    reason = "column 'date' is neither a number nor a date in ISO 8601"
    assert data.report["bad_row_reasons"] == {"column 'date' is empty": 1, reason: 2}
    assert sum(map(len, members(data).values())) == 47
    assert "can't be read (6.0%, allowed 1.0%): a.csv" in fails(path, *TIME)


def test_a_limit_takes_what_is_first_in_time(tmp_path: Path) -> None:
    data = prepared(write(tmp_path / "a.csv", dated(50)), *TIME, "prepare.limit=20")
    assert list(itertools.chain(*members(data).values())) == list(range(20))
    assert data.report["left_out_by_limit"] == 30


def test_no_text_of_the_future_changes_what_is_fitted(tmp_path: Path) -> None:
    rows = dated(50)
    states = []
    for day in ("2024-02-10", "2024-02-05", "2024-01-04", "none"):  # days 40, 35 and 3
        changed = [
            {**row, "text": f"strange{n} {row['text']}"} if row["date"] >= day else row
            for n, row in enumerate(rows)
        ]
        data = prepared(write(tmp_path / f"{day}.csv", changed), *TIME)
        states.append({name: part.state() for name, part in data.codec.fields.items()})
    assert states[0] == states[1] == states[3]
    assert states[2] != states[3]


@pytest.mark.parametrize(
    "values",
    [
        (-1, "0", "0.5", 1e3, "1e4"),
        ("2023-12-31", "2024-01-01", "2024-01-01T00:00:01", "2024-01-02 00:00", "20240103T10"),
        ("2024-01-01T00:00:00+02:00", "2023-12-31T23:00:00Z", "2024-01-01"),
    ],
)
def test_times_are_in_order(values: tuple[Any, ...]) -> None:
    numbers = [time_number(value) for value in values]
    assert numbers == sorted(set(numbers))


@pytest.mark.parametrize("value", ["", "nan", "inf", "yesterday", "2024-13-01", "01.02.2024", None])
def test_what_is_no_time_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=r"isoformat|month must be"):
        time_number(value)


# Duplicates


def test_a_task_that_tells_no_rows_apart_keeps_them_all(tmp_path: Path) -> None:
    rows = [review(n % 10) for n in range(100)]
    made = config(write(tmp_path / "a.csv", rows))
    task = OnlyData({"label": LabelCodec("label")}, stratify_by="label")
    data = prepare(made.data, task, made.prepare)
    assert data.report["splits"] == {"train": 70, "validation": 10, "test": 20}
    assert data.report["strata"]["test"] == {"bad": 10, "good": 10}
    assert data.report["duplicates"] == data.report["kept_duplicates"] == 0
    other = OnlyData({"label": LabelCodec("label")}, dedupe_by=("text",), stratify_by="label")
    assert prepare(made.data, other, made.prepare).report["duplicates"] == 90


# What can't be


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["prepare.group_by=usr"], "a.csv has no column 'usr'; did you mean 'user'?"),
        (["prepare.group_by=[user,film]"], "a.csv has no column 'film'"),
        (
            ["prepare.division=time", "prepare.time_column=dat"],
            "a.csv has no column 'dat'; did you mean 'date'?",
        ),
        (
            ["prepare.group_by=user", "prepare.division=time"],
            "prepare.group_by goes with prepare.division=hash or related; received time",
        ),
        (
            ["prepare.group_by=user", "prepare.division=blocks"],
            "prepare.group_by goes with prepare.division=hash or related; received blocks",
        ),
        (["prepare.time_column=date"], "prepare.time_column goes with prepare.division=time"),
        (
            ["prepare.division=time", "prepare.time_column=user"],
            "column 'user' is neither a number nor a date in ISO 8601",
        ),
        (["prepare.group_by=one"], "the validation split is empty: a.csv has 40 rows"),
        (
            ["prepare.division=time", "prepare.time_column=one"],
            "the train split is empty: a.csv has 40 rows",
        ),
        (
            ["prepare.division=blocks", "prepare.block_rows=40"],
            "or change prepare.block_rows, prepare.validation",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_divided_so_is_reported_in_one_line(
    tmp_path: Path, overrides: list[str], message: str
) -> None:
    rows = [
        review(n, user=f"u{n % 9}", date=f"2024-01-{1 + n % 28:02}", one="1") for n in range(40)
    ]
    assert message in fails(write(tmp_path / "a.csv", rows), *overrides)


def test_data_without_further_columns_says_which_it_has() -> None:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        made = parse(to_plain_values(compose("config", ["task=probe", "prepare.group_by=user"])))
    with pytest.raises(UserError) as error:
        check(made)
    assert "prepare.group_by and prepare.time_column must name columns" in str(error.value)
    assert "received user" in str(error.value)
