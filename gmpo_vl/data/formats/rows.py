"""What every format gives: rows that are found by their number, or scanned in order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from gmpo_vl.data.rows import RowError

Row = Mapping[str, Any]


class Rows(Protocol):
    """Random access to rows; `scan` yields them in order, RowError in place of a row that cannot be read.

    A scanned row holds at least those of the asked columns that exist; of bytes it may hold the first one
    only. notes: how the file was read, where that is not what everybody expects.
    """

    @property
    def notes(self) -> Sequence[str]: ...
    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Row: ...
    def scan(self, columns: Sequence[str]) -> Iterator[Row | RowError]: ...


def rows_or_errors(read: Callable[[Any], Row], items: Iterable[Any]) -> Iterator[Row | RowError]:
    """read(item) of every item, or the RowError that it raised."""
    for item in items:
        try:
            row: Row | RowError = read(item)
        except RowError as error:
            row = error
        yield row


def as_object(value: Any) -> Row:
    """The value, if it has columns. Raises RowError."""
    if not isinstance(value, Mapping):
        raise RowError("unreadable_row", f"not an object with columns but of type {type(value).__name__}")
    return value


class ListRows:
    """Rows that a program holds."""

    def __init__(self, rows: Sequence[Any], notes: Sequence[str] = ()):
        self._rows, self.notes = rows, notes

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int, /) -> Row:
        return as_object(self._rows[index])

    def scan(self, columns: Sequence[str]) -> Iterator[Row | RowError]:
        return rows_or_errors(as_object, self._rows)
