"""Rows of JSON files, found by their place and parsed when asked for: one object a line, or an array of objects."""

from __future__ import annotations

import json
import re
from array import array
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from gmpo_vl.data.rows import DataError, RowError

_CHUNK = 2**20
_OUTSIDE_TEXT = re.compile(rb'["{}\[\],]')
_IN_TEXT = re.compile(rb'["\\]')


class JsonLines:
    """One JSON object a line; blank lines are no rows. Holds 8 bytes a row."""

    def __init__(self, path: str | Path):
        import numpy as np

        self._path = Path(path)
        starts, position = [], 0
        with open(self._path, "rb") as file:
            for line in file:
                if line.strip():
                    starts.append(position)
                position += len(line)
        self._starts = np.array(starts, dtype=np.int64)

    def __len__(self) -> int:
        return len(self._starts)

    def __getitem__(self, index: int, /) -> Mapping[str, Any]:
        with open(self._path, "rb") as file:
            file.seek(int(self._starts[index]))
            return _json_row(file.readline())

    def scan(self, columns: Sequence[str]) -> Iterator[Mapping[str, Any] | RowError]:
        with open(self._path, "rb") as file:
            for line in file:
                if line.strip():
                    yield row_or_error(lambda line=line: _json_row(line))


class JsonArray:
    """The elements of one JSON array. Holds 16 bytes a row."""

    def __init__(self, path: str | Path):
        self._path = Path(path)
        self._starts, self._ends = array("q"), array("q")
        for start, end in _elements(self._path):
            self._starts.append(start)
            self._ends.append(end)

    def __len__(self) -> int:
        return len(self._starts)

    def __getitem__(self, index: int, /) -> Mapping[str, Any]:
        with open(self._path, "rb") as file:
            file.seek(self._starts[index])
            return _json_row(file.read(self._ends[index] - self._starts[index]))

    def scan(self, columns: Sequence[str]) -> Iterator[Mapping[str, Any] | RowError]:
        with open(self._path, "rb") as file:
            for start, end in zip(self._starts, self._ends):
                file.seek(start)
                yield row_or_error(lambda size=end - start: _json_row(file.read(size)))


def _elements(path: Path) -> Iterator[tuple[int, int]]:
    """(start, end) of each element of the array, by its brackets, commas and quotes alone. Raises DataError for a torn file."""
    depth, start, in_text = 0, 0, False
    position = 0  # of the next byte to look at
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            base = file.tell() - len(chunk)
            at = max(0, position - base)
            while match := (_IN_TEXT if in_text else _OUTSIDE_TEXT).search(chunk, at):
                sign, at = match[0], match.end()
                if in_text:
                    in_text = sign != b'"'
                    at += sign == b"\\"  # what follows belongs to it, in the next chunk as well
                elif sign == b'"':
                    in_text = True
                elif sign in b"[{":
                    depth += 1
                    start = base + at if depth == 1 else start
                elif sign == b"," and depth == 1:
                    yield start, base + at - 1
                    start = base + at
                elif sign in b"]}":
                    depth -= 1
                    if depth == 0:
                        if not _is_blank(path, start, base + at - 1):
                            yield start, base + at - 1
                        _check_end(path, base + at, sign)
                        return
            position = max(base + len(chunk), base + at)
    raise DataError(f"{path}: not a JSON array of rows: it ends in the middle of one")


def _check_end(path: Path, end: int, sign: bytes) -> None:
    """Raises DataError where something follows the array: another array, for one, whose rows nobody would miss."""
    if sign != b"]":
        raise DataError(f"{path}: not a JSON array of rows: at byte {end:,} a {sign.decode()} closes it")
    with open(path, "rb") as file:
        file.seek(end)
        while chunk := file.read(_CHUNK):
            if chunk.strip():
                raise DataError(
                    f"{path}: the array of rows ends at byte {end:,}, and more follows: {chunk.strip()[:40]!r}. Write all rows "
                    "into one array, or one row a line into a .jsonl file"
                )


def _is_blank(path: Path, start: int, end: int) -> bool:
    """Is there nothing between? An empty array has no element."""
    with open(path, "rb") as file:
        file.seek(start)
        return not file.read(end - start).strip()


def _json_row(line: bytes) -> Mapping[str, Any]:
    try:
        return as_object(json.loads(line))
    except RowError:
        raise
    except (ValueError, RecursionError) as error:
        raise RowError("unreadable_row", f"not JSON: {str(error)[:200]}") from error


def as_object(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise RowError("unreadable_row", f"not an object with columns but of type {type(value).__name__}")
    return value


def row_or_error(read: Any) -> Mapping[str, Any] | RowError:
    try:
        return read()
    except RowError as error:
        return error
