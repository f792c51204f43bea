"""Open data files, unpacked while they are read, and refuse files without rows."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from longwatt.datasets.records import DatasetError
from longwatt.disk_space import DISK_FULL

HEAD_BYTES = 512  # enough for every signature below; tar has the last one, at byte 257
PACKED_ENDINGS = (".gz", ".bz2", ".xz", ".zst")
PARQUET = b"PAR1"
_UTF_8_ADVICE = "save it as UTF-8 (iconv -f UTF-16 -t UTF-8)"
_PARQUET_ADVICE = "give it a name that ends in .parquet, as a file of the source `labelled`"
# First bytes -> what such a file is, and what to do.
_FOREIGN: tuple[tuple[bytes, str, str], ...] = (
    (PARQUET, "a parquet file", _PARQUET_ADVICE),
    (b"version https://git-lfs", "a Git LFS pointer", "fetch the file with git lfs pull"),
    (b"%PDF", "a PDF", "extract its text into JSON lines"),
    (b"\xff\xfe", "UTF-16 text", _UTF_8_ADVICE),
    (b"\xfe\xff", "UTF-16 text", _UTF_8_ADVICE),
    (b"\x00\x00\xfe\xff", "UTF-32 text", "save it as UTF-8 (iconv -f UTF-32 -t UTF-8)"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it"),
    (b"Rar!", "a RAR archive", "unpack it"),
    (b"\x04\x22\x4d\x18", "packed as lz4", "unpack it, or pack it as gzip or zstd"),
    (b"\x5d\x00\x00", "packed as old lzma", "unpack it, or pack it as xz"),
    (b"\x1f\x9d", "packed by compress (.Z)", "unpack it, or pack it as gzip"),
    (b"ARROW1", "an Arrow file", "save it as parquet"),
    (b"\x89HDF", "an HDF5 file", "save it as parquet or JSON lines"),
    (b"SQLite format 3", "an SQLite database", "export the table as CSV or JSON lines"),
    (b"\x80\x04", "a Python pickle", "save its rows as JSON lines"),
    (b"\x80\x05", "a Python pickle", "save its rows as JSON lines"),
)
_PAGE = (b"<!doctype html", b"<html", b"<head", b"<?xml")


@contextmanager
def open_data(path: Path, name: str) -> Iterator[IO[bytes]]:
    """Open a file for its bytes, unpacked if it is gzip, bzip2, xz or zstd.

    Raises:
        DatasetError: the file cannot be read, is empty, damaged or has no rows. Names it.
    """
    with damage_named(name), path.open("rb") as stream:
        yield unpacked(stream, name)


@contextmanager
def damage_named(name: str) -> Iterator[None]:
    """Turn what a damaged or unreadable file raises into a DatasetError with its name."""
    try:
        yield
    except zipfile.BadZipFile as error:
        raise DatasetError(f"{name} is damaged or no zip ({error}); fetch it again") from None
    except (zlib.error, lzma.LZMAError, EOFError, gzip.BadGzipFile) as error:
        raise DatasetError(f"{name} is damaged ({error}); fetch it again") from None
    except OSError as error:
        if error.errno in DISK_FULL:  # the temporary copy that parquet is read from does not fit
            raise
        if error.errno is None:  # the decompressors' own, which name no system call
            raise DatasetError(f"{name} is damaged ({error}); fetch it again") from None
        raise DatasetError(f"{name} cannot be read: {error.strerror or error}") from None


def unpacked(stream: IO[bytes], name: str) -> IO[bytes]:
    """Return a stream unpacked once, as its first bytes say.

    Raises:
        DatasetError: the stream is empty, or packed twice. Names it.
    """
    head = _head(stream)
    for signature, (kind, unpack) in _PACKED.items():
        if head.startswith(signature):
            inner = unpack(stream)
            if any(_head(inner).startswith(other) for other in _PACKED):
                raise DatasetError(f"{name} is packed twice ({kind}); unpack it once")
            stream, head = inner, _head(inner)
            break
    if not head:
        raise DatasetError(f"{name} is empty: it has no bytes; give a file with rows")
    return stream


def refuse_foreign(stream: IO[bytes], name: str, advice: str = "") -> None:
    """Refuse a stream whose first bytes show that it is not text with rows.

    Raises:
        DatasetError: names the file, its kind and what to do (`advice` for a zip).
    """
    if found := _foreign(_head(stream), advice or "unpack it"):
        raise DatasetError(f"{name} is {found[0]}, not text with rows; {found[1]}")


def holds_parquet(stream: IO[bytes]) -> bool:
    """Return whether a stream begins as parquet does."""
    return _head(stream).startswith(PARQUET)


def _foreign(head: bytes, zip_advice: str) -> tuple[str, str] | None:
    for signature, kind, advice in (*_FOREIGN, (b"PK\x03\x04", "a zip", zip_advice)):
        if head.startswith(signature):
            return kind, advice
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith(_PAGE):
        return "a web page or XML", "the download gave a page instead of the data; fetch it again"
    if head[257:262] == b"ustar":
        return "a tar archive", "unpack it"
    if b"\x00" in head:
        return "UTF-16 without a mark, or binary", _UTF_8_ADVICE
    return None


def _head(stream: Any) -> bytes:
    found: bytes = stream.peek(HEAD_BYTES)[:HEAD_BYTES]
    return found


def _zstd(stream: IO[bytes]) -> IO[bytes]:
    import pyarrow  # the standard library has no zstd before Python 3.14

    return io.BufferedReader(pyarrow.CompressedInputStream(stream, "zstd"))


_PACKED: dict[bytes, tuple[str, Callable[[IO[bytes]], Any]]] = {
    b"\x1f\x8b": ("gzip", lambda stream: gzip.GzipFile(fileobj=stream)),
    b"BZh": ("bzip2", bz2.BZ2File),
    b"\xfd7zXZ\x00": ("xz", lzma.LZMAFile),
    b"\x28\xb5\x2f\xfd": ("zstd", _zstd),
    b"\x50\x2a\x4d\x18": ("zstd", _zstd),  # as pzstd begins: with a frame that is skipped
}
