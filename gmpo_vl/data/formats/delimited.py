"""Tables as text with a header: separated by commas, tabs or semicolons, whatever the file is called."""

from __future__ import annotations

import csv
from array import array
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from gmpo_vl.data.formats.rows import Row, rows_or_errors
from gmpo_vl.data.formats.text import TextFile, open_text
from gmpo_vl.data.rows import DataError, RowError

# What usually separates the cells of a file with this ending. A .txt is read where it is named as a file: in
# a folder it may hold anything.
DELIMITERS = {".csv": ",", ".tsv": "\t", ".tab": "\t", ".txt": "\t"}
_NAMES = {",": "comma", "\t": "tab", ";": "semicolon"}
_MAX_CELL = 2**31 - 1  # characters; Python's limit is 128 KiB. rows.py refuses longer texts, with their row
_LOOKED_AT = 20  # records by which the separator is chosen
_SHORT = 64  # characters: less than any picture in base64

Record = tuple[int, "list[str] | RowError"]  # (offset, cells or what is wrong with them)


class DelimitedRows:
    """Rows are {column: text}; an empty cell is None. Cells may hold line breaks. Holds 8 bytes a row.

    MMBench's tables: where the cell `image` holds another row's `index`, that row's picture is meant.
    """

    def __init__(self, path: Path):
        self._file: TextFile = open_text(path)
        self.notes = self._file.notes
        csv.field_size_limit(_MAX_CELL)
        self._delimiter = _delimiter(self._file)
        with self._file.open() as file:
            records = self._records(file)
            _, header = next(records, (0, []))
            if isinstance(header, RowError):
                raise DataError(f"{path}: the first line must name the columns: {header}")
            self.columns: list[str] = [name.strip() for name in header]
            self._pictures: dict[str, int] = {}  # {index: offset of the row whose picture it names}
            self._starts = array("q", (start for start, _ in self._with_pictures(records)))
        if "" in self.columns or len(set(self.columns)) < len(self.columns):
            raise DataError(f"{path}: the first line must name every column once; it has {self.columns}")

    def __len__(self) -> int:
        return len(self._starts)

    def __getitem__(self, index: int, /) -> Row:
        return self._row(self._record_at(self._starts[index]))

    def scan(self, columns: Sequence[str]) -> Iterator[Row | RowError]:
        with self._file.open() as file:
            yield from rows_or_errors(self._row, islice(self._records(file), 1, None))

    def _record_at(self, start: int) -> Record:
        with self._file.open() as file:
            file.seek(start)
            return next(self._records(file))

    def _row(self, record: Record) -> Row:
        row = self._cells(record)
        name = row.get("image") or ""
        if name in self._pictures:
            row["image"] = self._cells(self._record_at(self._pictures[name]))["image"]
        return row

    def _cells(self, record: Record) -> dict[str, str | None]:
        _, cells = record
        if isinstance(cells, RowError):
            raise cells
        if len(cells) != len(self.columns):
            raise RowError(
                "unreadable_row",
                f"{len(cells)} cells, the first line names {len(self.columns)} columns: "
                f"is a {_NAMES[self._delimiter]} or a quote missing?",
            )
        return {name: cell or None for name, cell in zip(self.columns, cells)}

    def _records(self, file: BinaryIO) -> Iterator[Record]:
        return _records(self._file.path, file, self._delimiter)

    def _with_pictures(self, records: Iterator[Record]) -> Iterator[Record]:
        """The records; on the way, where each row's picture is, if other rows name it by its index."""
        is_known = "index" in self.columns and "image" in self.columns
        places, is_asked = {}, False
        for start, cells in records:
            if is_known and isinstance(cells, list) and len(cells) == len(self.columns):
                row = dict(zip(self.columns, cells))
                if len(row["image"]) > _SHORT:
                    places[row["index"]] = start
                is_asked = is_asked or row["image"].isdecimal()
            yield start, cells
        if is_asked:
            self._pictures = places


def _delimiter(file: TextFile) -> str:
    """The one by which most of the first rows have as many cells as the header; the usual one first."""
    usual = DELIMITERS[file.path.suffix.lower()]
    counts = {}
    for delimiter in dict.fromkeys((usual, ",", "\t", ";")):
        with file.open() as content:
            try:
                first = list(islice(_records(file.path, content, delimiter), _LOOKED_AT))
            except DataError:  # said again, by whoever reads the table
                continue
        header, *rows = [len(cells) if isinstance(cells, list) else 0 for _, cells in first] or [0]
        if header > 1:
            counts[delimiter] = sum(row == header for row in rows)
    return max(counts, key=lambda delimiter: counts[delimiter], default=usual)


def _records(path: Path, file: BinaryIO, delimiter: str) -> Iterator[Record]:
    """(offset, its cells or what is wrong with it) of every record that is not a blank line.

    Raises DataError for a quote that is never closed, or closed in another row: all lines between would
    be one cell.
    """
    lines = _CountedLines(file)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        start, line = lines.position, reader.line_num + 1
        record: list[str] | RowError
        try:
            record = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            opens = f"{path}: the row that begins in line {line:,} opens a quote that"
            mend = "Close it, and double quotes inside a quoted cell"
            if str(error) == "unexpected end of data":
                raise DataError(
                    f"{opens} nothing closes: all lines behind it would be one cell. {mend}"
                ) from error
            if reader.line_num > line:
                raise DataError(
                    f"{opens} line {reader.line_num:,} closes in the middle of a cell: the lines between "
                    f"would be lost. {mend}"
                ) from error
            record = RowError("unreadable_row", f"no row of a table: {str(error).partition(' - ')[0]}")
        if record:
            yield start, record


class _CountedLines:
    """The lines of a file as text, and the offset of the next one.

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
