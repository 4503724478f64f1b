"""JSON in the layouts that data sets have, whatever the file is called:

    {...}\\n{...}\\n                  an object a line          [{...}, {...}]    one array
    {"q1": {...}, "q2": {...}}      rows by their key: it becomes the column `key`, where a row has none
    {"info": ..., "data": [{...}]}  the one list of objects   {"question": [...], "answer": [...]}   columns

An object that is none of these is a single row. Only columns are held in memory.
"""

from __future__ import annotations

import json
import re
from array import array
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

from gmpo_vl.data.formats.rows import ListRows, Row, Rows, as_object, rows_or_errors
from gmpo_vl.data.formats.text import TextFile, open_text
from gmpo_vl.data.rows import DataError, NoTable, RowError

KEY = "key"
_CHUNK = 2**20
_MARK = b"\xef\xbb\xbf"
_LONGEST_LINE = 2**26  # a longer first line is the whole file, not one of its rows
_OUTSIDE_TEXT = re.compile(rb'["{}\[\],]')
_IN_TEXT = re.compile(rb'["\\]')
_NAME_AND_SIGN = re.compile(rb'\s*("(?:[^"\\]|\\.)*")\s*:\s*(.)(?:\s*(.))?', re.DOTALL)
_NUMBERED = re.compile(rb'\s*"(?:[^"\\]|\\.)*"\s*:\s*\{\s*"\d+"\s*:', re.DOTALL)
_LONGEST_NAME = 2**16  # bytes
# Lists of objects that one row has.
_OF_A_ROW = ("conversations", "messages", "options", "choices")

Place = tuple[int, int]  # (start, end) in the file


class JsonRows:
    """JSON objects of a file, by their places. Holds 16 bytes a row.

    has_keys: a place holds `"key": {...}`.
    """

    def __init__(
        self, file: TextFile, places: Iterable[Place], has_keys: bool = False, notes: Sequence[str] = ()
    ):
        self._file, self._has_keys = file, has_keys
        self.notes = (*file.notes, *notes)
        both = array("q", chain.from_iterable(places))
        self._starts, self._ends = both[::2], both[1::2]

    def __len__(self) -> int:
        return len(self._starts)

    def __getitem__(self, index: int, /) -> Row:
        with self._file.open() as file:
            return self._row(file, (self._starts[index], self._ends[index]))

    def scan(self, columns: Sequence[str]) -> Iterator[Row | RowError]:
        with self._file.open() as file:
            yield from rows_or_errors(lambda place: self._row(file, place), zip(self._starts, self._ends))

    def _row(self, file: BinaryIO, place: Place) -> Row:
        try:
            if not self._has_keys:
                return as_object(json.loads(_bytes_at(file, place)))
            key, value = _member(file, place)
        except (ValueError, RecursionError) as error:
            if isinstance(error, RowError):
                raise
            raise RowError("unreadable_row", f"not JSON: {str(error)[:200]}") from error
        return {KEY: key, **as_object(value)}


def json_rows(path: Path, part: str | None = None) -> Rows:
    """The rows of a JSON file. part: the list of an object with several that is meant.

    Raises DataError for a torn array or object, for one that more follows, and where several lists could be
    meant.
    """
    file = open_text(path)
    start, sign = _first_sign(file)
    if sign == b"{" and not _has_lines(file):
        return _rows_of_object(file, start, part)
    if part not in (None, "train"):
        raise no_part(path, part)
    return JsonRows(file, _whole(file, start) if sign == b"[" else _lines(file))


def no_part(path: Path, part: str | None) -> DataError:
    return DataError(f"{path}: a single file has no split {part!r}; leave @{part} away")


def _bytes_at(file: BinaryIO, place: Place) -> bytes:
    start, end = place
    file.seek(start)
    return file.read(end - start)


def _head(file: BinaryIO, place: Place) -> bytes:
    start, end = place
    return _bytes_at(file, (start, min(end, start + _LONGEST_NAME)))


def _member(file: BinaryIO, place: Place) -> tuple[str, Any]:
    """(name, value) of an object's member. Raises ValueError, RecursionError."""
    ((name, value),) = json.loads(b"{" + _bytes_at(file, place) + b"}").items()
    return name, value


def _first_sign(file: TextFile) -> tuple[int, bytes]:
    """(place, sign) of the first byte that is no blank and no byte order mark; b"" for a blank file."""
    with file.open() as content:
        offset = len(_MARK) if content.read(len(_MARK)) == _MARK else 0
        content.seek(offset)
        while chunk := content.read(_CHUNK):
            if rest := chunk.lstrip():
                return offset + len(chunk) - len(rest), rest[:1]
            offset += len(chunk)
    return offset, b""


def _has_lines(file: TextFile) -> bool:
    """Are there rows in lines, not one object? The first is whole, or it is broken and another begins."""
    with file.open() as content:
        first = content.readline(_LONGEST_LINE).removeprefix(_MARK)
        while first and not first.strip():
            first = content.readline(_LONGEST_LINE)
        second = content.readline(_CHUNK) if first.endswith(b"\n") else b""
        while second and not second.strip():
            second = content.readline(_CHUNK)
    if not second:
        return False
    try:
        json.loads(first)
    except (ValueError, RecursionError):
        goes_on = first.rstrip().endswith((b"{", b"[", b",", b":"))
        return second.lstrip().startswith(b"{") and not goes_on
    return True


def _lines(file: TextFile) -> Iterator[Place]:
    """The place of every line that is not blank."""
    end = 0
    with file.open() as content:
        for line in content:
            start, end = end, end + len(line)
            start += len(_MARK) if start == 0 and line.startswith(_MARK) else 0
            if line.strip():
                yield start, end


def _rows_of_object(file: TextFile, start: int, part: str | None) -> Rows:
    """The layout follows from what the members are: objects, lists of objects, other lists, or values."""
    places, kinds, lists = _survey(file, start)
    if part in lists:
        return _rows_of_list(file, part, lists[part])
    named = [name for name in lists if name not in _OF_A_ROW]
    if part is not None and named:
        raise DataError(
            f"{file.path}: it has no list {part!r}, but {', '.join(map(repr, named[:5]))}; "
            f"name the one that is meant: {file.path}@{named[0]}"
        )
    if part not in (None, "train"):
        raise no_part(file.path, part)
    if kinds["{"] > 9 * (kinds.total() - kinds["{"]):  # of many rows, one may be null
        columns = _numbered_columns(file, places) if set(kinds) == {"{"} else None
        if columns is not None:
            return ListRows(columns, (*file.notes, "its objects, with a value for each row, are the columns"))
        note = f"the rows are the values of one object; their keys are the column {KEY!r}"
        return JsonRows(file, places, has_keys=True, notes=[note])
    has_lists_only = kinds.total() > 0 and kinds["{"] == kinds["value"] == 0
    if kinds["["] and has_lists_only and (columns := _columns(file, places)) is not None:
        return ListRows(columns, (*file.notes, "its lists are the columns"))
    if len(named) == 1:
        return _rows_of_list(file, named[0], lists[named[0]])
    if named:
        lists_named = ", ".join(map(repr, named[:5]))
        raise DataError(
            f"{file.path}: its lists {lists_named} can all be the rows. If one of them is, write "
            f"{file.path}@{named[0]}; if a row is spread over them, join them first"
        )
    if has_lists_only:
        raise NoTable(f"{file.path}: its lists are no columns of one table: their lengths differ")
    return JsonRows(file, [(start, _size(file))])


def _survey(file: TextFile, start: int) -> tuple[list[Place], Counter[str], dict[str, int]]:
    """Of an object's members: places, kinds, and {name: where it begins} of the lists of objects."""
    places: list[Place] = []
    kinds: Counter[str] = Counter()
    lists: dict[str, int] = {}
    with file.open() as content:
        for place in _whole(file, start):
            name, kind, at = _kind(file, place[0], _head(content, place))
            if kind == "[{":
                if name in lists:
                    raise DataError(f"{file.path}: it has two lists {name!r}; give each its own name")
                lists[name] = at
            places.append(place)
            kinds[kind] += 1
    return places, kinds, lists


def _kind(file: TextFile, start: int, head: bytes) -> tuple[str, str, int]:
    """(name, kind, where the value begins) of the member that begins so. Raises DataError."""
    match = _NAME_AND_SIGN.match(head)
    try:
        name = json.loads(match[1], strict=False) if match else None
    except ValueError:  # a wrong escape, or no UTF-8
        name = None
    if match is None or name is None:
        raise DataError(
            f'{file.path}: at byte {start:,}, where `"name": value` is to stand, is {head.strip()[:40]!r}'
        )
    kind = {b"{": "{", b"[": "["}.get(match[2], "value")
    if kind == "[" and match[3] in (b"{", b"]"):
        kind = "[{" if match[3] == b"{" else "[]"
    return name, kind, start + match.start(2)


def _rows_of_list(file: TextFile, name: str, start: int) -> JsonRows:
    return JsonRows(file, _members(file, start), notes=[f"the rows are its list {name!r}"])


def _columns(file: TextFile, places: Sequence[Place]) -> list[Row] | None:
    """Rows of an object of lists; None where their lengths differ."""
    columns = _loaded(file, places)
    if len({len(values) for values in columns.values()}) != 1:
        return None
    return [dict(zip(columns, values)) for values in zip(*columns.values())]


def _numbered_columns(file: TextFile, places: Sequence[Place]) -> list[Row] | None:
    """Rows of {column: {"0": value, "1": value, ...}}, as pandas writes them; None for another object."""
    with file.open() as content:
        if not _NUMBERED.match(_head(content, places[0])):
            return None
    columns = _loaded(file, places)
    numbers = list(next(iter(columns.values())))
    if any(list(values) != numbers for values in columns.values()) or not all(map(str.isdecimal, numbers)):
        return None
    return [{name: values[number] for name, values in columns.items()} for number in numbers]


def _loaded(file: TextFile, places: Sequence[Place]) -> dict[str, Any]:
    """All members of an object. Raises DataError where one is no JSON, or a name comes twice."""
    members: dict[str, Any] = {}
    with file.open() as content:
        for place in places:
            try:
                name, value = _member(content, place)
            except (ValueError, RecursionError) as error:
                raise DataError(
                    f"{file.path}: no JSON in the column at byte {place[0]:,}: {str(error)[:200]}"
                ) from error
            if name in members:
                raise DataError(f"{file.path}: it has two columns {name!r}; give each its own name")
            members[name] = value
    return members


def _size(file: TextFile) -> int:
    with file.open() as content:
        return content.seek(0, 2)


def _whole(file: TextFile, start: int) -> Iterator[Place]:
    """The places of what the file's one array or object holds. Raises DataError where more follows it."""
    end = yield from _members(file, start)
    with file.open() as content:
        content.seek(end)
        while chunk := content.read(_CHUNK):
            if chunk.strip():
                raise DataError(
                    f"{file.path}: the rows end at byte {end:,}, and more follows: {chunk.strip()[:40]!r}. "
                    "Write all rows into one array, or one row a line into a .jsonl file"
                )


def _members(file: TextFile, start: int) -> Generator[Place, None, int]:
    """The place of each member of the array or object that begins at `start`, by brackets, commas and quotes.

    Returns where it ends. Raises DataError for one that is torn, or that another bracket closes.
    """
    depth, first, in_text, opening = 0, start, False, b""
    position = start  # of the next byte to look at
    with file.open() as content:
        content.seek(start)
        while chunk := content.read(_CHUNK):
            base = content.tell() - len(chunk)
            at = max(0, position - base)
            while match := (_IN_TEXT if in_text else _OUTSIDE_TEXT).search(chunk, at):
                sign, at = match[0], match.end()
                if in_text:
                    in_text = sign != b'"'
                    at += sign == b"\\"  # the escaped byte belongs to it, even in the next chunk
                elif sign == b'"':
                    in_text = True
                elif sign in b"[{":
                    depth += 1
                    if depth == 1:
                        first, opening = base + at, sign
                elif sign == b"," and depth == 1:
                    yield first, base + at - 1
                    first = base + at
                elif sign in b"]}":
                    depth -= 1
                    if depth == 0:
                        end = base + at
                        if opening + sign not in (b"[]", b"{}"):
                            raise DataError(
                                f"{_no_rows(file, opening)}: at byte {end:,} a {sign.decode()} closes it"
                            )
                        if not _is_blank(file, first, end - 1):  # an empty one has no member
                            yield first, end - 1
                        return end
            position = max(base + len(chunk), base + at)
    raise DataError(f"{_no_rows(file, opening)}: it ends in the middle of one")


def _no_rows(file: TextFile, opening: bytes) -> str:
    return f"{file.path}: not a JSON {'array' if opening == b'[' else 'object'} of rows"


def _is_blank(file: TextFile, start: int, end: int) -> bool:
    with file.open() as content:
        return not _bytes_at(content, (start, end)).strip()
