"""Kinds of damage that a file can come to, each a hypothesis strategy of what it becomes."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from formats import BINARY, Format
from hypothesis import strategies as st

Contents = st.SearchStrategy[bytes]

MARK = "MARKMARKMARK"
"""Stands for a value that a library wouldn't write."""

FRAGMENTS = [
    b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\\ud800", b"\\u0000", b'"', b"\r",
    b"\n\n\n", b"\x1b[31m", b"{", b"[", b"&a *a", b"!!python/object/apply:os.system [true]", b"%",
    b"9" * 5000, b"1e999", b"[" * 50_000, b'{"a":' * 20_000, b"a" * 100_000, b",\t;" * 500,
    b"/dev/zero", b"../../../etc/passwd", b"NaN", b"-Infinity",
]  # fmt: skip

BOMB = "[&b0 [x,x,x,x,x,x,x,x,x]" + "".join(
    f",&b{n + 1} [{','.join([f'*b{n}'] * 9)}]" for n in range(12)
)
"""YAML of 600 bytes that stands for 9^13 values."""

NAMES = [
    "\0",
    "a\0b",
    "\ud800",
    "\x1b[31m",
    "",
    " ",
    "../x",
    "/dev/zero",
    "x" * 5000,
    "​",
    "é" * 300,
]

HUGE = ["9" * 4000, "9" * 5000, "1e999", "-1e999", "NaN", "-1", "0", "1e308", str(10**15)] + [
    str(sign * 2**bits) for bits in (31, 32, 53, 63, 64, 130) for sign in (1, -1)
]

EXTREMES = [bytes([byte]) * size for byte in (0x00, 0x7F, 0x80, 0xFF) for size in (1, 2, 4, 8)]

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
    | st.sampled_from(NAMES),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)  # fmt: skip


def places(content: bytes) -> st.SearchStrategy[int]:
    """Anywhere, but often where a format has its header or its directory."""
    last = max(len(content) - 1, 0)
    ends = st.integers(0, min(64, last)) | st.integers(max(0, last - 400), last)
    return ends | st.integers(0, last)


# Of any file


@st.composite
def flipped(draw: Any, content: bytes, form: Format) -> bytes:
    changed = bytearray(content)
    for place in draw(st.lists(places(content), min_size=1, max_size=8)):
        changed[place] ^= 1 << draw(st.integers(0, 7))
    return bytes(changed)


@st.composite
def overwritten(draw: Any, content: bytes, form: Format) -> bytes:
    """Numbers of a binary format at their limits."""
    place, number = draw(places(content)), draw(st.sampled_from(EXTREMES))
    return content[:place] + number + content[place + len(number) :]


@st.composite
def cut(draw: Any, content: bytes, form: Format) -> bytes:
    """Something is missing, at the end or within."""
    place = draw(places(content))
    return content[:place] + content[place + draw(st.sampled_from([1, 7, 64, 1 << 30])) :]


@st.composite
def extended(draw: Any, content: bytes, form: Format) -> bytes:
    more = draw(
        st.binary(min_size=1, max_size=64) | st.sampled_from([content, b"\0" * 4096, b"\n"])
    )
    return content + more


@st.composite
def swapped(draw: Any, content: bytes, form: Format) -> bytes:
    """Two blocks in each other's place, as on a disk; or one twice."""
    size = draw(st.sampled_from([4, 64, 512]))
    a, b = sorted([draw(places(content)), draw(places(content))])
    first, second = content[a : a + size], content[b : b + size]
    middle = content[a + size : b]
    if draw(st.booleans()):
        first = second
    return content[:a] + second + middle + first + content[b + size :]


@st.composite
def inserted(draw: Any, content: bytes, form: Format) -> bytes:
    """Bytes that mean something to a parser, at any place."""
    place = draw(places(content))
    return content[:place] + draw(st.sampled_from(FRAGMENTS)) + content[place:]


def made(content: bytes, form: Format) -> Contents:
    """Nothing of the file, or its first bytes, is left."""
    texts = st.text('{}[]":,&*!a1 \n-\t;<>').map(lambda text: text.encode("utf-8", "surrogatepass"))
    starts = st.sampled_from([b"", content[:4], content[:16]])
    return st.tuples(starts, st.binary() | texts).map(b"".join)


# Of a file with values


@st.composite
def of_other_types(draw: Any, content: bytes, form: Format) -> bytes:
    """One value, or all of them, is another."""
    tree = form.parse(content)
    return _write(form, _replace(tree, draw(_paths(tree)), draw(values)))


@st.composite
def without(draw: Any, content: bytes, form: Format) -> bytes:
    """One value is missing, or there twice."""
    tree = form.parse(content)
    path = draw(_paths(tree))
    if not path:
        return _write(form, draw(st.sampled_from([None, [], {}, "", 0])))
    parent = _at(tree, path[:-1])
    if isinstance(parent, list) and draw(st.booleans()):
        parent.insert(path[-1], parent[path[-1]])
    else:
        del parent[path[-1]]
    return _write(form, tree)


@st.composite
def huge(draw: Any, content: bytes, form: Format) -> bytes:
    """A number that fits nowhere."""
    tree = form.parse(content)
    return _spell(form, _replace(tree, draw(_paths(tree)), MARK), draw(st.sampled_from(HUGE)))


@st.composite
def deep(draw: Any, content: bytes, form: Format) -> bytes:
    """A value nested beyond the interpreter's stack, or aliases that stand for billions."""
    tree = form.parse(content)
    depth = draw(st.sampled_from([100, 900, 1100, 20_000]))
    text = draw(
        st.sampled_from(
            ["[" * depth + "]" * depth, '{"a":' * depth + "1" + "}" * depth, BOMB + "]"]
        )
    )
    return _spell(form, _replace(tree, draw(_paths(tree)), MARK), text)


@st.composite
def odd_names(draw: Any, content: bytes, form: Format) -> bytes:
    """Text that can't be written, or no file can have as a name; as a value or as a key."""
    tree, name = form.parse(content), draw(st.sampled_from(NAMES))
    path = draw(_paths(tree))
    value = _at(tree, path)
    if isinstance(value, dict):
        value[name] = draw(values)
        return _write(form, tree)
    return _write(form, _replace(tree, path, name))


# Of a file with parts


@st.composite
def damaged_inside(draw: Any, content: bytes, form: Format) -> bytes:
    """One part is damaged, with right checksums all around."""
    parts = form.unpack(content)
    name = draw(st.sampled_from(sorted(parts)))
    inner = form.of(name)
    kinds = [kind for kind in KINDS.values() if kind is not damaged_inside and applies(kind, inner)]
    kind = draw(st.sampled_from(kinds))
    parts[name] = draw(kind(parts[name] or b" ", inner))
    return form.pack(parts)


def _npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def _npy_header(shape: str, kind: str) -> bytes:
    header = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header


OTHER_PARTS = [
    b"", b"[]", b"null", _npy(np.zeros(())), _npy(np.zeros((2, 3), complex)), _npy(np.array("x")),
    _npy(np.array([{}, None], object)), _npy(np.zeros((0, 5), np.int8)), _npy(np.full(40, np.nan)),
    _npy_header("(1000000000000,)", "<f8"), _npy_header("(9223372036854775807, 8)", "<f4"),
    _npy_header("(-1,)", "<f4"), _npy_header("(100000000,)", "<f4"), _npy_header("()", "O"),
    *(_npy(np.frombuffer(text.encode(), np.uint8)) for text in
      ("[]", "null", '"x"', "{}", '{"step": "x"}', "[" * 50_000, '{"epoch": -1}',
       '{"history": [1]}')),
]  # fmt: skip
"""Parts of other kinds, most of them arrays of NumPy."""


@st.composite
def other_parts(draw: Any, content: bytes, form: Format) -> bytes:
    """A part is of another kind, is missing, or has another name."""
    parts = form.unpack(content)
    name = draw(st.sampled_from(sorted(parts)))
    old = parts.pop(name)
    change = draw(st.sampled_from(["kind", "missing", "name"]))
    if change == "kind":
        parts[name] = draw(st.sampled_from(OTHER_PARTS))
    elif change == "name":
        parts[draw(st.sampled_from(["x", "../x", "/etc/x", f"{name}.npy"]))] = old
    return form.pack(parts)


Kind = Callable[[bytes, Format], Contents]

KINDS: dict[str, Kind] = {
    "bits flipped": flipped,
    "numbers overwritten": overwritten,
    "cut": cut,
    "extended": extended,
    "blocks swapped": swapped,
    "fragments inserted": inserted,
    "made up": made,
    "other types": of_other_types,
    "values missing": without,
    "huge numbers": huge,
    "deep, bombs": deep,
    "odd names": odd_names,
    "damaged inside": damaged_inside,
    "other parts": other_parts,
}
OTHER = "another file"
"""The kind of damage that needs other files: one of these, or nothing."""

OF_VALUES = (of_other_types, without, huge, deep, odd_names)
OF_PARTS = (damaged_inside, other_parts)


def applies(kind: Kind, form: Format) -> bool:
    return not (
        (kind in OF_VALUES and form.parse is None) or (kind in OF_PARTS and form.unpack is None)
    )


def kinds_for(content: bytes, form: Format, others: Sequence[bytes]) -> dict[str, Contents]:
    """By name, all damage that a file of this format can come to."""
    found = {name: kind(content, form) for name, kind in KINDS.items() if applies(kind, form)}
    return {**found, OTHER: st.sampled_from([b"", *others])}


# Places in values

Path = tuple[Any, ...]


def _walk(tree: Any, path: Path = ()) -> Iterator[Path]:
    yield path
    items = (
        tree.items()
        if isinstance(tree, dict)
        else enumerate(tree)
        if isinstance(tree, list)
        else ()
    )
    for key, value in items:
        yield from _walk(value, (*path, key))


def _paths(tree: Any) -> st.SearchStrategy[Path]:
    return st.sampled_from(list(_walk(tree)))


def _at(tree: Any, path: Path) -> Any:
    for key in path:
        tree = tree[key]
    return tree


def _replace(tree: Any, path: Path, value: Any) -> Any:
    if not path:
        return value
    _at(tree, path[:-1])[path[-1]] = value
    return tree


def _write(form: Format, tree: Any) -> bytes:
    try:
        text = form.write(tree)
    except (TypeError, ValueError):  # such as lines of what is no list
        text = json.dumps(tree)
    return text.encode("utf-8", "surrogatepass")


def _spell(form: Format, tree: Any, text: str) -> bytes:
    """As _write, with MARK spelt so."""
    written = _write(form, tree).decode("utf-8", "surrogatepass")
    return written.replace(f'"{MARK}"', text).replace(MARK, text).encode("utf-8", "surrogatepass")


__all__ = ["BINARY", "KINDS", "OTHER", "kinds_for"]
