"""Every reader of files against every kind of damage: a result or one line, within bounds."""

from __future__ import annotations

import importlib
from functools import partial
from pathlib import Path
from pkgutil import iter_modules

import pytest
from codec_readers import CODECS
from damage import kinds_for
from judging import RESULT, bounded, judge, try_inputs
from reader import Reader
from readers import all_readers, others

from pipelines.core.contracts import FieldCodec
from pipelines.data import codecs

EXAMPLES = 8
"""Of each kind of damage, to a reader that is quick; `python tests/fuzz` tries many more."""


@pytest.fixture(scope="module")
def table(run: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Reader]:
    return all_readers(run, tmp_path_factory.mktemp("readers"))


def test_every_codec_is_among_the_readers() -> None:
    names = [f"{codecs.__name__}.{module.name}" for module in iter_modules(codecs.__path__)]
    modules = map(importlib.import_module, names)
    known = {type(make()).__mro__ for make, _ in CODECS.values()}
    for module in modules:
        for name, cls in vars(module).items():
            own = isinstance(cls, type) and cls.__module__ == module.__name__
            if own and issubclass(cls, FieldCodec) and not name.startswith("_"):
                assert any(cls in classes for classes in known), name


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
