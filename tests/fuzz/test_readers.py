"""Every reader of files against every kind of damage: a result or one line, within bounds."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
from damage import kinds_for
from judging import RESULT, bounded, judge, try_inputs
from reader import Reader
from readers import all_readers, others

EXAMPLES = 8
"""Of each kind of damage, to a reader that is quick; `python tests/fuzz` tries many more."""


@pytest.fixture(scope="module")
def table(run: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Reader]:
    return all_readers(run, tmp_path_factory.mktemp("readers"))


def test_every_valid_file_gives_a_result(table: list[Reader]) -> None:
    assert len({reader.name for reader in table}) == len(table)
    for reader in table:
        assert judge(reader, reader.path.read_bytes()) == RESULT


def test_no_damage_ends_in_a_traceback_or_takes_the_machine(
    table: list[Reader], subtests: pytest.Subtests
) -> None:
    other = list(others(table).values())
    for reader in table:
        whole = reader.path.read_bytes()
        cells = list(kinds_for(whole, reader.format, other).items())
        for kind, contents in cells[:: max(1, reader.cost // 100)]:
            count = max(1, EXAMPLES // reader.cost)
            with subtests.test(reader=reader.name, kind=kind), bounded():
                try_inputs(contents, count, 1, partial(judge, reader))
        reader.path.write_bytes(whole)
