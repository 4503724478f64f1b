"""How each file format gives rows: parquet and arrow (through `datasets`), JSON lines, a JSON array, CSV and
TSV.

Rows of JSON and CSV are found by their offsets and parsed when they are asked for. So one broken line, or a
column of mixed types, costs that row only.
"""

from __future__ import annotations

import csv
import json
import mmap
import re
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from gmpo_vl.data.class_labels import class_names, has_classes
from gmpo_vl.data.rows import DataError, RowError

DELIMITERS = {".csv": ",", ".tsv": "\t"}
_MAX_CELL = (
    2**31 - 1
)  # characters; Python's own limit is 128 KiB. rows.py refuses longer texts, with their row
_CHUNK = 2**20
_OUTSIDE_TEXT = re.compile(rb'["{}\[\],]')
_IN_TEXT = re.compile(rb'["\\]')
_ARROW_MAGIC, _ARROW_FILE_START = b"ARROW1", 8  # the magic is padded to a multiple of 8
_END_OF_STREAM = b"\xff\xff\xff\xff\0\0\0\0"

Row = Mapping[str, Any]


class Rows(Protocol):
    """Random access to rows; `scan` yields them in order, RowError in place of a row that cannot be read.

    A scanned row holds at least those of the asked columns that exist; of bytes it may hold the first one
    only.
    """

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

    def __init__(self, rows: Sequence[Any]):
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int, /) -> Row:
        return as_object(self._rows[index])

    def scan(self, columns: Sequence[str]) -> Iterator[Row | RowError]:
        return rows_or_errors(as_object, self._rows)


class ArrowRows:
    """A `datasets.Dataset` read as arrow. Pictures stay encoded, and a scan does not read their bytes."""

    def __init__(self, dataset: Any):
        self.dataset = dataset.with_format("arrow")
        self.columns: list[str] = list(dataset.column_names)
        self._classes = {n: f for n, f in dataset.features.items() if has_classes(f)}

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int, /) -> Row:
        row = self.dataset[index].to_pylist()[0]
        return row | {name: class_names(row[name], feature) for name, feature in self._classes.items()}

    def scan(self, columns: Sequence[str]) -> Iterator[Row | RowError]:
        present = [name for name in dict.fromkeys(columns) if name in self.columns]
        if not present:
            yield from ({} for _ in range(len(self)))
            return
        for batch in self.dataset.select_columns(present).iter(batch_size=1000):
            scanned = [chain.from_iterable(map(_scanned, batch.column(name).chunks)) for name in present]
            classes = [(name, self._classes[name]) for name in present if name in self._classes]
            for values in zip(*scanned, strict=True):
                row = dict(zip(present, values, strict=True))
                yield row | {name: class_names(row[name], feature) for name, feature in classes}


def _scanned(values: Any) -> list[Any]:
    """An arrow array as Python values. Of bytes only the length is read; arrow stores it apart."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_binary(values.type) or pa.types.is_large_binary(values.type):
        lengths = pc.call_function("binary_length", [values]).to_pylist()
        return [None if n is None else b"x"[:n] for n in lengths]
    if pa.types.is_struct(values.type) and values.type.num_fields > 0:
        names = [field.name for field in values.type]
        rows = zip(values.is_valid().to_pylist(), *map(_scanned, values.flatten()), strict=True)
        return [dict(zip(names, row, strict=True)) if valid else None for valid, *row in rows]
    if pa.types.is_list(values.type) or pa.types.is_large_list(values.type):
        items = iter(_scanned(values.flatten()))
        lengths = pc.call_function("list_value_length", [values]).to_pylist()
        return [None if n is None else list(islice(items, n)) for n in lengths]
    return values.to_pylist()


class JsonRows:
    """JSON objects of a file, by their (start, end) in it. Holds 16 bytes a row."""

    def __init__(self, path: Path, places: Iterable[tuple[int, int]]):
        self._path = path
        both = array("q", chain.from_iterable(places))
        self._starts, self._ends = both[::2], both[1::2]

    def __len__(self) -> int:
        return len(self._starts)

    def __getitem__(self, index: int, /) -> Row:
        with open(self._path, "rb") as file:
            return _json_row(file, (self._starts[index], self._ends[index]))

    def scan(self, columns: Sequence[str]) -> Iterator[Row | RowError]:
        with open(self._path, "rb") as file:
            yield from rows_or_errors(lambda place: _json_row(file, place), zip(self._starts, self._ends))


def json_rows(path: Path) -> JsonRows:
    """The rows of one JSON array or of a file with an object a line. Raises DataError for a torn array."""
    is_array = path.suffix.lower() == ".json" and _is_json_array(path)
    return JsonRows(path, _elements(path) if is_array else _lines(path))


def _json_row(file: BinaryIO, place: tuple[int, int]) -> Row:
    start, end = place
    file.seek(start)
    try:
        value = json.loads(file.read(end - start))
    except (ValueError, RecursionError) as error:
        raise RowError("unreadable_row", f"not JSON: {str(error)[:200]}") from error
    return as_object(value)


def _is_json_array(path: Path) -> bool:
    with open(path, "rb") as file:
        start = file.read(1000).removeprefix(b"\xef\xbb\xbf").lstrip()
        while not start and (start := file.read(1000)):
            start = start.lstrip()
        return start.startswith(b"[")


def _lines(path: Path) -> Iterator[tuple[int, int]]:
    """(start, end) of every line that is not blank."""
    end = 0
    with open(path, "rb") as file:
        for line in file:
            start, end = end, end + len(line)
            if line.strip():
                yield start, end


def _elements(path: Path) -> Iterator[tuple[int, int]]:
    """(start, end) of each element, by brackets, commas and quotes. Raises DataError for a torn array."""
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
                    at += sign == b"\\"  # the escaped byte belongs to it, even in the next chunk
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
                        end = base + at
                        if not _is_blank(path, start, end - 1):  # an empty array has no element
                            yield start, end - 1
                        _check_end(path, end, sign)
                        return
            position = max(base + len(chunk), base + at)
    raise DataError(f"{path}: not a JSON array of rows: it ends in the middle of one")


def _is_blank(path: Path, start: int, end: int) -> bool:
    with open(path, "rb") as file:
        file.seek(start)
        return not file.read(end - start).strip()


def _check_end(path: Path, end: int, sign: bytes) -> None:
    """Raises DataError where something follows the array, for example a second array with more rows."""
    if sign != b"]":
        raise DataError(f"{path}: not a JSON array of rows: at byte {end:,} a {sign.decode()} closes it")
    with open(path, "rb") as file:
        file.seek(end)
        while chunk := file.read(_CHUNK):
            if chunk.strip():
                raise DataError(
                    f"{path}: the array of rows ends at byte {end:,}, and more follows: "
                    f"{chunk.strip()[:40]!r}. Write all rows into one array, "
                    "or one row a line into a .jsonl file"
                )


class CsvRows:
    """A table with a header: .csv (semicolons where its first line has no comma) or .tsv. Holds 8 bytes a
    row.

    A row is {column: text}; an empty cell is None. Cells may hold line breaks.
    """

    def __init__(self, path: Path):
        self._path = path
        self._delimiter = _delimiter(path)
        csv.field_size_limit(_MAX_CELL)
        with open(path, "rb") as file:
            records = self._records(file)
            _, header = next(records, (0, []))
            if isinstance(header, RowError):
                raise DataError(f"{path}: the first line must name the columns: {header}")
            self.columns: list[str] = [name.strip() for name in header]
            self._starts = array("q", (start for start, _ in records))
        if "" in self.columns or len(set(self.columns)) < len(self.columns):
            raise DataError(f"{path}: the first line must name every column once; it has {self.columns}")

    def __len__(self) -> int:
        return len(self._starts)

    def __getitem__(self, index: int, /) -> Row:
        with open(self._path, "rb") as file:
            file.seek(self._starts[index])
            return self._row(next(self._records(file)))

    def scan(self, columns: Sequence[str]) -> Iterator[Row | RowError]:
        with open(self._path, "rb") as file:
            yield from rows_or_errors(self._row, islice(self._records(file), 1, None))

    def _row(self, record: tuple[int, list[str] | RowError]) -> Row:
        _, cells = record
        if isinstance(cells, RowError):
            raise cells
        if len(cells) != len(self.columns):
            raise RowError(
                "unreadable_row",
                f"{len(cells)} cells, the first line names {len(self.columns)} columns: "
                "is a comma or a quote missing?",
            )
        return {name: cell or None for name, cell in zip(self.columns, cells)}

    def _records(self, file: BinaryIO) -> Iterator[tuple[int, list[str] | RowError]]:
        """(offset, its cells or what is wrong with it) of every record that is not a blank line.

        Raises DataError for a quote that is never closed, or closed in another row: all lines between would
        be one cell.
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
                opens = f"{self._path}: the row that begins in line {line:,} opens a quote that"
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


def _delimiter(path: Path) -> str:
    """By the first line; where the decimal sign is a comma, tables have semicolons. DataError for UTF-16."""
    with open(path, "rb") as file:
        first = file.readline()
    if first.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataError(f"{path}: the table is UTF-16; save it as UTF-8")
    usual = DELIMITERS[path.suffix.lower()]
    return ";" if usual == "," and b"," not in first and b";" in first else usual


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


def check_arrow(path: Path) -> None:
    """Raises DataError for a stream that was cut between two batches, or that is followed by more bytes.

    The reader itself stops at the first end that it finds, without an error. Reads no column.
    """
    import pyarrow as pa

    with pa.memory_map(str(path)) as file:
        is_file = file.read(len(_ARROW_MAGIC)) == _ARROW_MAGIC
        file.seek(-len(_ARROW_MAGIC), 2)
        if is_file and file.read() != _ARROW_MAGIC:
            raise DataError(
                f"{path}: the file is cut, or something follows it: it does not end as an arrow file"
            )
        file.seek(_ARROW_FILE_START if is_file else 0)
        for _ in pa.ipc.open_stream(file):
            pass
        end, size = file.tell(), file.size()
        file.seek(max(0, end - len(_END_OF_STREAM)))
        if file.read(len(_END_OF_STREAM)) != _END_OF_STREAM:
            raise DataError(f"{path}: the file is cut: it has no end mark. Fetch or write it again")
        if is_file:  # at its end: a footer, the footer's length, and the magic
            file.seek(size - 10)
            end += int.from_bytes(file.read(4), "little") + 10
        if end != size:
            raise _more_follows(path, "arrow", end, size)


def check_parquet(path: Path) -> None:
    """Raises DataError for two parquet files in one: the reader looks at the footer of the last one only."""
    import pyarrow.parquet as pq

    facts, size = pq.read_metadata(path), path.stat().st_size
    groups = [facts.row_group(i) for i in range(facts.num_row_groups)]
    columns = [group.column(i) for group in groups for i in range(group.num_columns)]
    end = max((_start(column) + column.total_compressed_size for column in columns), default=0)
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        # Indices may stand between the columns and the footer, but never the end of another file.
        seam = content.find(b"PAR1PAR1", end)
    if seam >= 0:
        raise _more_follows(path, "parquet", seam + 4, size)


def _start(column: Any) -> int:
    offsets = (column.dictionary_page_offset, column.data_page_offset)
    return min(offset for offset in offsets if offset is not None)


def _more_follows(path: Path, kind: str, end: int, size: int) -> DataError:
    return DataError(
        f"{path}: the {kind} file ends at byte {end:,} of {size:,}: what follows would be lost. "
        "Were several files put together? Name their folder instead"
    )
