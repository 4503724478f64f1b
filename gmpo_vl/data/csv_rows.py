"""Rows of a table in text form: .csv (commas, or semicolons where its first line has no comma) or .tsv (tabs), with a header."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from gmpo_vl.data.rows import DataError, RowError

DELIMITERS = {".csv": ",", ".tsv": "\t"}
# Python refuses cells above 128 KiB; what is too long for a problem is rows.py's to say, with the row.
_MAX_CELL = 2**31 - 1


class CsvRows:
    """A row is {column: text}; an empty cell is None. Cells may hold line breaks. Holds 8 bytes a row."""

    def __init__(self, path: str | Path):
        import numpy as np

        self._path = Path(path)
        self._delimiter = _delimiter(self._path)
        csv.field_size_limit(_MAX_CELL)
        with open(self._path, "rb") as file:
            records = self._records(file)
            _, header = next(records, (0, []))
            if isinstance(header, RowError):
                raise DataError(f"{path}: the first line must name the columns: {header}")
            self.columns: list[str] = [name.strip() for name in header]
            self._starts = np.array([start for start, _ in records], dtype=np.int64)
        if "" in self.columns or len(set(self.columns)) < len(self.columns):
            raise DataError(f"{path}: the first line must name every column once; it has {self.columns}")

    def __len__(self) -> int:
        return len(self._starts)

    def __getitem__(self, index: int, /) -> Mapping[str, Any]:
        with open(self._path, "rb") as file:
            file.seek(int(self._starts[index]))
            return self._row(next(self._records(file))[1])

    def scan(self, columns: Sequence[str]) -> Iterator[Mapping[str, Any] | RowError]:
        with open(self._path, "rb") as file:
            records = self._records(file)
            next(records, None)
            for _, record in records:
                try:
                    yield self._row(record)
                except RowError as error:
                    yield error

    def _row(self, record: list[str] | RowError) -> Mapping[str, Any]:
        if isinstance(record, RowError):
            raise record
        if len(record) != len(self.columns):
            raise RowError(
                "unreadable_row",
                f"{len(record)} cells, the first line names {len(self.columns)} columns: is a comma or a quote missing?",
            )
        return {name: cell or None for name, cell in zip(self.columns, record)}

    def _records(self, file: BinaryIO) -> Iterator[tuple[int, list[str] | RowError]]:
        """(where it begins in the file, its cells or what is wrong with it) of every record that is not a blank line.

        Raises DataError for a quote that nothing closes, or another row's: the lines behind it would be one cell.
        """
        lines = _CountedLines(file)
        reader = csv.reader(lines, delimiter=self._delimiter, strict=True)
        while True:
            start, line = lines.position, reader.line_num + 1
            record: list[str] | RowError
            try:
                record = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                if str(error) == "unexpected end of data":
                    raise DataError(
                        f"{self._path}: the row that begins in line {line:,} opens a quote that nothing closes: all lines behind "
                        "it would be one cell. Close it, and double quotes inside a quoted cell"
                    ) from error
                if reader.line_num > line:
                    raise DataError(
                        f"{self._path}: the row that begins in line {line:,} opens a quote that line {reader.line_num:,} closes in the "
                        "middle of a cell: the lines between would be lost. Close it, and double quotes inside a quoted cell"
                    ) from error
                record = RowError("unreadable_row", f"no row of a table: {str(error).partition(' - ')[0]}")
            if record:
                yield start, record


def _delimiter(path: Path) -> str:
    """By the first line: spreadsheets of countries with a decimal comma write semicolons. Raises DataError for UTF-16."""
    with open(path, "rb") as file:
        first = file.readline()
    if first.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataError(f"{path}: the table is UTF-16; save it as UTF-8")
    usual = DELIMITERS[path.suffix.lower()]
    return ";" if usual == "," and b"," not in first and b";" in first else usual


class _CountedLines:
    """The lines of a file as text, and where the next one begins.

    Bytes that are no UTF-8 become lone surrogates, which rows.py refuses row by row.
    """

    def __init__(self, file: BinaryIO):
        self._file = file
        self.position = file.tell()

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._file.readline()
        if not line:
            raise StopIteration
        text = line.removeprefix(b"\xef\xbb\xbf") if self.position == 0 else line
        self.position += len(line)
        return text.decode("utf-8", errors="surrogateescape")
