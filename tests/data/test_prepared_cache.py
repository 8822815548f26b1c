"""The cache of prepared data: reused, verified, made by one process, and never left half made."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prepared_rows import Memory, left, prepare_options, rows, run

from pipelines.core.contracts import RowIssues
from pipelines.core.errors import UserError
from pipelines.core.paths import ROOT
from pipelines.core.types import Example
from pipelines.data import arrow as arrow_module
from pipelines.data.prepare import Prepared


@pytest.fixture
def options(tmp_path: Path) -> dict[str, Any]:
    return prepare_options(tmp_path / "cache")


def test_second_call_reuses_without_reading(options: dict[str, Any]) -> None:
    first, again, other = (Memory({"all": rows(40)}) for _ in range(3))
    made = run(first, options)
    data = run(again, options)
    assert (made.reused, data.reused, again.reads) == (False, True, 0)
    assert data.directory.name == made.directory.name
    assert data.report == made.report
    assert data.codec.spec == made.codec.spec
    assert run(other, options, text={"max_tokens": 5}).directory.name != made.directory.name
    assert other.reads == 1
    assert run(Memory({"all": rows(41)}), options).directory.name != made.directory.name


def test_reuse_needs_no_tensorflow(options: dict[str, Any]) -> None:
    run(Memory({"all": rows(40)}), options)
    script = (
        "import sys; sys.path[:0] = sys.argv[2:]; sys.modules['tensorflow'] = None\n"
        "from pipelines.data.codecs.text import *; from pipelines.data.codecs.labels import *\n"
        "from pipelines.data.batches import *; from pipelines.data import prepare, splits\n"
        "import json, pathlib\n"
        "from pipelines.core.contracts import Codec\n"
        "d = pathlib.Path(sys.argv[1]); state = json.loads((d / 'codec/tokens.json').read_text())\n"
        "c = Codec({'tokens': TextCodec('text', TextSettings(**state['settings'])),"
        " 'label': LabelCodec('label')}).load(d / 'codec')\n"
        "s = splits.open_splits(d, ['train'], c.spec)['train']\n"
        "print(len(s), s.gather(s.rows[:3] * 0)['tokens'].shape[0])\n"
    )
    directory = run(Memory({"all": rows(40)}), options).directory
    result = subprocess.run(
        [sys.executable, "-c", script, str(directory), str(ROOT)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.split() == ["28", "3"]


def flip_a_bit(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


DAMAGE: dict[str, tuple[str, Callable[[bytes], bytes | None]]] = {
    "missing": ("train.arrow", lambda _: None),
    "truncated": ("train.arrow", lambda content: content[:-40]),
    "a label changed": ("test.arrow", lambda content: flip_a_bit(content, len(content) // 2)),
    "a footer changed": ("raw.arrow", lambda content: flip_a_bit(content, len(content) - 12)),
    "a codec changed": ("codec/label.json", lambda content: content.swapcase()),
    "meta truncated": ("meta.json", lambda content: content[:-40]),
    "meta with other numbers": ("meta.json", lambda content: content.replace(b"28", b"29")),
    "meta of another kind": ("meta.json", lambda _: b"[]"),
    "meta too deep": ("meta.json", lambda _: b"[" * 100_000),
    "meta with other files": ("meta.json", lambda _: b'{"files": {"train.arrow": 3}}'),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_cache_is_made_again(
    options: dict[str, Any], damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    made = run(Memory({"all": rows(40)}), options)
    name, change = DAMAGE[damage]
    changed = change((made.directory / name).read_bytes())
    (made.directory / name).unlink()
    if changed is not None:
        (made.directory / name).write_bytes(changed)
    source = Memory({"all": rows(40)})
    data = run(source, options)
    assert (data.reused, source.reads) == (False, 1)
    assert len(data.splits["train"]) == 28
    assert data.content == made.content
    assert left(options) == [made.directory.name]
    assert f"the cache {made.directory}" in caplog.text
    assert "is damaged" in caplog.text


def test_full_disk(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(arrow_module.ArrowWriter, "write", full)
        with pytest.raises(UserError, match=r"No space left on device.*prepare\.cache_dir"):
            run(Memory({"all": rows(40)}), options)
    assert left(options) == []
    assert not run(Memory({"all": rows(40)}), options).reused


def test_cache_that_cannot_be_made(options: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"can't write the cache .*: Not a directory"):
        run(Memory({"all": rows(40)}), {**options, "cache_dir": str(tmp_path / "file" / "cache")})


def test_source_errors_are_not_blamed_on_the_cache(options: dict[str, Any]) -> None:
    class Gone(Memory):
        def read(self, part: str, issues: RowIssues) -> Iterator[Example]:
            yield from rows(3)
            raise FileNotFoundError("reviews.csv")

    with pytest.raises(FileNotFoundError):
        run(Gone({"all": []}), options)
    assert left(options) == []


def test_killed_in_the_middle(options: dict[str, Any]) -> None:
    """A killed process leaves a temporary directory, which the next one removes."""
    cache = Path(options["cache_dir"])
    script = (
        "import sys, time; from pathlib import Path; from pipelines.data import cache\n"
        "d = Path(sys.argv[1])\n"
        "with cache.lock_directory(d), cache.atomic_directory(d) as t:\n"
        "    (t / 'half').write_text('x'); print('ready', flush=True); time.sleep(60)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(cache / "other")],
        stdout=subprocess.PIPE,
        cwd=ROOT,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    alive = left(options)
    assert len(alive) == 1
    assert ".tmp-" in alive[0]
    data = run(Memory({"all": rows(40)}), options)
    assert left(options) == sorted([*alive, data.directory.name])
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    again = run(Memory({"all": rows(41)}), options)
    assert left(options) == sorted([data.directory.name, again.directory.name])


def test_two_at_once_prepare_once(options: dict[str, Any]) -> None:
    sources = [Memory({"all": rows(60)}) for _ in range(3)]
    made: list[Prepared] = []
    workers = [threading.Thread(target=lambda s=s: made.append(run(s, options))) for s in sources]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sum(source.reads for source in sources) == 1
    assert sorted(data.reused for data in made) == [False, True, True]
