"""Lines of text files, plain or compressed, in bounded memory for any content."""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import IO, Any

from pipelines.core.errors import UserError
from pipelines.core.files import special_kind

MAX_LINE_BYTES = 16 << 20
"""Most bytes of a line, and characters of a field. Beyond it, a quote or a line never ends."""

MOST_WHOLE = 512 << 20
"""Most bytes of a file that is read whole, such as one of JSON. Blanks pack to a thousandth."""

COMPRESSIONS: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}

_BLOCK = 1 << 20
_UTF8_MARK = b"\xef\xbb\xbf"
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")

_SIGNATURES = {
    b"PK\x03\x04": "a ZIP archive, such as an Excel workbook: export its table as CSV",
    b"\xd0\xcf\x11\xe0": "an Excel workbook of old: export its table as CSV",
    b"%PDF": "a PDF: take its text out first",
    b"PAR1": "a Parquet file: give it a name that ends in .parquet",
    b"SQLite format 3": "a SQLite database: export a table as CSV",
    b"\x1f\x8b": "compressed with gzip: give it a name that ends in .gz",
    b"\x89PNG": "an image",
    b"\xff\xd8\xff": "an image",
}
"""How files begin that people take for text, and what to do."""

_MOST_ZEROS, _MOST_ZERO_SHARE = 8, 0.002
"""NUL bytes in a file's first block, and their share of it, above which it is no text."""


def extension(path: Path) -> str:
    """Lower-case and with its dot; of "Reviews.CSV.gz" it is ".csv"."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in COMPRESSIONS:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def read_lines(path: Path) -> Iterator[str]:
    """Every line, blank ones too, without its end: the i-th is line i of the file."""
    return (line.rstrip("\r\n") for line in raw_lines(path, "\n"))


def read_bytes(path: Path) -> bytes:
    """All of a file. UserError if it is, unpacked, larger than MOST_WHOLE bytes."""
    parts, size = [], 0
    with _open(path) as file:
        while block := _read(file, path):
            parts.append(block)
            size += len(block)
            if size > MOST_WHOLE:
                raise UserError(
                    f"{path} must have at most {MOST_WHOLE >> 20} MB, unpacked; it has more"
                )
    return b"".join(parts)


def raw_lines(path: Path, newline: str) -> Iterator[str]:
    r"""Lines with their ends. `newline` is "\n", or "" where "\r" alone ends a line too.

    Bytes that aren't UTF-8 become lone surrogates, so that only their own rows are lost.
    """
    return chain.from_iterable(io.StringIO(text, newline) for text in _blocks(path))


def _blocks(path: Path) -> Iterator[str]:
    """The file in pieces that end where a line ends."""
    held, lines = b"", 0
    with _open(path) as file:
        while block := _read(file, path):
            block = block if lines or held else _strip_mark(block, path)
            end = block.rfind(b"\n") + 1
            if end:
                yield (held + block[:end]).decode("utf-8", "surrogateescape")
                lines += block.count(b"\n")
                held = block[end:]
            else:
                held += block
            if len(held) > MAX_LINE_BYTES:
                raise UserError(
                    f"{path}: a line must be shorter than {MAX_LINE_BYTES >> 20} MB; line "
                    f"{lines + 1} is longer: is this a text file with one record a line?"
                )
        if held:
            yield held.decode("utf-8", "surrogateescape")


def _strip_mark(start: bytes, path: Path) -> bytes:
    """A file's start without the byte-order mark that some programs write."""
    if start.startswith(_UTF16_MARKS):
        raise UserError(
            f"{path}: text must be UTF-8; this file is UTF-16: save it as UTF-8, "
            "or convert it with iconv -f UTF-16 -t UTF-8"
        )
    zeros = start.count(0)
    kind = next((kind for mark, kind in _SIGNATURES.items() if start.startswith(mark)), None)
    # A text may well begin with letters such as PAR1.
    binary = zeros > 0 or not _is_utf8(start)
    if (kind and binary) or zeros > max(_MOST_ZEROS, _MOST_ZERO_SHARE * len(start)):
        raise UserError(f"{path} must be a text file; it is {kind or 'in a binary format'}")
    return start.removeprefix(_UTF8_MARK)


def _is_utf8(start: bytes) -> bool:
    """Whether a file's first bytes are; its last character may be cut off."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(start)
    except UnicodeDecodeError:
        return False
    return True


def check_regular(path: Path) -> None:
    """Raises UserError for a pipe, a device and the like, which might never end."""
    if kind := special_kind(path):
        raise UserError(f"{path} must be a regular file; it is {kind}")


def _open(path: Path) -> IO[bytes]:
    check_regular(path)
    opener = COMPRESSIONS.get(path.suffix.lower(), open)
    try:
        return opener(path, "rb")
    except OSError as error:
        raise unreadable_error(path, error) from None


def _read(file: IO[bytes], path: Path) -> bytes:
    try:
        return file.read(_BLOCK)
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise unreadable_error(path, error) from None


def unreadable_error(path: Path, error: Exception) -> UserError:
    reason = getattr(error, "strerror", None) or " ".join(str(error).split())
    return UserError(f"{path} can't be read ({reason}): check its permissions and that it is whole")
