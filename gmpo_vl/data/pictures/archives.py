"""Pictures inside a .zip or .tar file, read where they lie. Nothing is ever written under a member's name.

A zip file and a plain tar file give any member at once. In a compressed tar file everything before a member
has to be unpacked first, so it is unpacked as a whole, into a nameless temporary file, up to 2 GiB.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import struct
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from gmpo_vl.data.formats.text import is_chinese
from gmpo_vl.data.rows import DataError, RowError

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst")
_LARGEST_MEMBER = 2**29  # bytes of an encoded picture
_LARGEST_UNPACKED = 2**31
_LARGEST_HEADER = 2**24
_CHUNK = 2**20
# How compressed files begin: Python's reader, and the command that unpacks them.
_COMPRESSIONS = {
    b"\x1f\x8b": (gzip.open, "gunzip --keep"),
    b"BZh": (bz2.open, "bunzip2 --keep"),
    b"\xfd7zXZ\0": (lzma.open, "unxz --keep"),
    b"\x28\xb5\x2f\xfd": (None, "unzstd"),
}
_UNICODE_NAME = 0x800  # the flag of a zip member
# What Python's readers raise for archives that are damaged, or of a kind that they do not know.
_UNREADABLE = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    OSError,
    RuntimeError,  # NotImplementedError is one
    ValueError,  # a name that is no UTF-8
    LookupError,  # an empty name
    ArithmeticError,  # a place in the file that no file has
)


class Archive(Protocol):
    """names: the members that are files below the archive, as paths with `/`."""

    names: dict[str, Any]

    def read(self, name: str) -> bytes:
        """A member's content. Raises RowError."""
        ...


def stem_of(path: Path) -> str | None:
    """The file's name without an archive's ending; None for a file that is no archive."""
    ending = next((s for s in sorted(SUFFIXES, key=len, reverse=True) if path.name.lower().endswith(s)), None)
    return None if ending is None else path.name[: -len(ending)]


def open_archive(path: Path) -> Archive:
    """Raises DataError for a damaged archive, and for a compressed tar file that is too large."""
    try:
        return _Zip(path) if path.name.lower().endswith(".zip") else _Tar(path)
    except DataError:
        raise
    except _UNREADABLE as error:
        raise DataError(
            f"{path} cannot be read as an archive of pictures: {error}. Fetch it again; if it is none, move "
            "it out of image_folder"
        ) from error


def _name_below(name: str) -> str | None:
    """A member's path; None for one that leads out of the archive, and for what macOS adds to a picture."""
    parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]
    leads_out = name.startswith(("/", "\\")) or ".." in parts or ":" in name.partition("/")[0]
    if leads_out or not parts or parts[0] == "__MACOSX" or parts[-1].startswith("._"):
        return None
    return "/".join(parts)


class _Zip:
    def __init__(self, path: Path):
        # A file that it did not open itself is not closed by one of several readers.
        self._path, self._zip = path, zipfile.ZipFile(open(path, "rb"))  # noqa: SIM115
        members = [info for info in self._zip.infolist() if not info.is_dir()]
        below = [(_name_below(name), info) for name, info in zip(_zip_names(members), members)]
        self.names = {name: info for name, info in below if name is not None}

    def read(self, name: str) -> bytes:
        info = self.names[name]
        _check_size(self._path, name, info.file_size)
        try:
            return self._zip.read(info)
        except _UNREADABLE as error:  # encrypted (RuntimeError), of an unknown method, or damaged
            raise RowError("image_unreadable", f"{name} in {self._path}: {error}") from error


def _zip_names(members: Sequence[zipfile.ZipInfo]) -> list[str]:
    """Names without the flag are in the encoding of whoever wrote them; Python takes them for cp437."""
    unknown = [info.filename for info in members if not info.flag_bits & _UNICODE_NAME]
    raw = "/".join(name for name in unknown if not name.isascii()).encode("cp437")
    encoding = "gb18030" if is_chinese(raw) else "utf-8"
    try:
        raw.decode(encoding)
    except UnicodeDecodeError:
        encoding = "cp437"
    return [
        info.filename if info.flag_bits & _UNICODE_NAME else info.filename.encode("cp437").decode(encoding)
        for info in members
    ]


class _Tar:
    """Members by their places in the file; of a name that comes twice the last one, as `tar` unpacks it."""

    def __init__(self, path: Path):
        self._path, self._file = path, _uncompressed(path)
        self.names: dict[str, tuple[int, int]] = {}
        with tarfile.open(fileobj=_Headers(self._file), mode="r:") as tar:  # type: ignore[arg-type]
            for member in tar:
                if tar.offset <= member.offset:  # type: ignore[attr-defined]  # of the next header
                    raise tarfile.ReadError("a member of negative size")
                name = _name_below(member.name)
                if name is None or not (member.isreg() or member.islnk()) or member.issparse():
                    continue
                place = self.names.get(_name_below(member.linkname) or "") if member.islnk() else None
                self.names[name] = place or (member.offset_data, member.size)

    def read(self, name: str) -> bytes:
        offset, size = self.names[name]
        _check_size(self._path, name, size)
        try:
            return os.pread(self._file.fileno(), size, offset)  # threads share the file, but no position
        except _UNREADABLE as error:
            raise RowError("image_unreadable", f"{name} in {self._path}: {error}") from error


class _Headers:
    """A tar file while its members are listed: a header is held in memory, so a very large one is refused."""

    def __init__(self, file: BinaryIO):
        self._file, self.tell, self.seek = file, file.tell, file.seek

    def read(self, size: int) -> bytes:
        if not 0 <= size <= _LARGEST_HEADER:
            raise tarfile.ReadError(f"a header of {size:,} bytes")
        return self._file.read(size)


def _uncompressed(path: Path) -> BinaryIO:
    with open(path, "rb") as file:
        head = file.read(6)
    found = next((how for magic, how in _COMPRESSIONS.items() if head.startswith(magic)), None)
    if found is None:
        return open(path, "rb")
    opened, command = found
    advice = f"unpack it once to a .tar file, which is read as it is: {command} '{path}'"
    if opened is None:
        raise DataError(f"{path}: Python does not know its compression; {advice}")
    target = tempfile.TemporaryFile()  # noqa: SIM115 (it lives as long as the archive)
    with opened(path, "rb") as content:
        while chunk := content.read(_CHUNK):
            if target.tell() + len(chunk) > _LARGEST_UNPACKED:
                raise DataError(
                    f"{path}: more than {_LARGEST_UNPACKED:,} bytes when unpacked; move it out of "
                    f"image_folder, or {advice}"
                )
            try:
                target.write(chunk)
            except OSError as error:
                where = f"{tempfile.gettempdir()} ({error.strerror}); TMPDIR names another folder"
                raise DataError(f"{path} cannot be unpacked into {where}, or {advice}") from error
    target.seek(0)
    return target


def _check_size(path: Path, name: str, size: int) -> None:
    if size > _LARGEST_MEMBER:
        raise RowError(
            "image_unreadable", f"{name} in {path} has {size:,} bytes, more than {_LARGEST_MEMBER:,}"
        )
