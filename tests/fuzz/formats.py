"""What a file consists of, as far as damaging it needs to know: values, or parts with checksums."""

from __future__ import annotations

import gzip
import io
import json
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import yaml

Parts = dict[str, bytes]


class Format(NamedTuple):
    """How a file can be taken apart and put together; what isn't given can't be.

    parse, write   between the file and lists, dicts, texts and numbers.
    unpack, pack   between the file and its parts by name, with right lengths and checksums.
    inner          formats of the parts, by the end of their names.
    """

    parse: Callable[[bytes], Any] | None = None
    write: Callable[[Any], str] | None = None
    unpack: Callable[[bytes], Parts] | None = None
    pack: Callable[[Parts], bytes] | None = None
    inner: Mapping[str, Format] = {}

    def of(self, part: str) -> Format:
        return next((f for end, f in self.inner.items() if part.endswith(end)), BINARY)


def _parse_lines(content: bytes) -> list[Any]:
    return [json.loads(line) for line in content.splitlines()]


def _write_lines(values: Any) -> str:
    return "".join(f"{json.dumps(value)}\n" for value in values)


def _unzip(content: bytes) -> Parts:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _zip(parts: Parts) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return file.getvalue()


_PNG = b"\x89PNG\r\n\x1a\n"


def _unpack_png(content: bytes) -> Parts:
    parts, place = {}, len(_PNG)
    while place < len(content):
        (length,) = struct.unpack_from(">I", content, place)
        kind = content[place + 4 : place + 8].decode("latin-1")
        parts[f"{len(parts)} {kind}"] = content[place + 8 : place + 8 + length]
        place += length + 12
    return parts


def _pack_png(parts: Parts) -> bytes:
    chunks = [_PNG]
    for name, body in parts.items():
        kind = name.partition(" ")[2].encode("latin-1")
        chunks += [struct.pack(">I", len(body)), kind, body]
        chunks.append(struct.pack(">I", zlib.crc32(kind + body)))
    return b"".join(chunks)


BINARY = Format()
TEXT = Format()
JSON = Format(json.loads, json.dumps)
JSON_LINES = Format(_parse_lines, _write_lines)
YAML = Format(yaml.safe_load, yaml.safe_dump)
ZIP = Format(unpack=_unzip, pack=_zip, inner={".json": JSON})
PNG = Format(unpack=_unpack_png, pack=_pack_png)
GZIP = Format(
    unpack=lambda content: {"content": gzip.decompress(content)},
    pack=lambda parts: gzip.compress(b"".join(parts.values()), 1),
    inner={"content": TEXT},
)
