"""Which harness wrote a file, by its content, and its rows one after the other. Nothing in it is run."""

from __future__ import annotations

import re
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO
from xml.etree.ElementTree import ParseError

from gmpo_vl.data.formats import DELIMITERS, DelimitedRows, ListRows, Row, json_rows, rows_or_errors
from gmpo_vl.data.formats.text import open_text
from gmpo_vl.data.rows import DataError, RowError
from gmpo_vl.evaluation.imported.lmms_eval import LmmsEval
from gmpo_vl.evaluation.imported.rows import FULL_CELLS, Reader, Scanned, fills_a_cell
from gmpo_vl.evaluation.imported.vlmevalkit import VlmEvalKit
from gmpo_vl.storage.files import parse_object

_FIRST = 20  # rows that tell what a file holds
_LARGEST = 2**32  # bytes of a text file
_LONGEST_LINE = 2**26  # bytes
_LARGEST_UNPACKED = 2**30  # bytes of a workbook's parts: a small file can unpack to any size
_MOST_PARTS = 10_000  # of a workbook
_MOST_COLUMNS = 256  # that are read: one cell in the last of 16,384 columns would make rows of as many
_MOST_ROWS = 2**20  # of a sheet: a row's number may be any
# What openpyxl and the libraries below it raise for a workbook that is not as it should be.
_DAMAGE = (
    *(
        AttributeError,
        IndexError,
        KeyError,
        LookupError,
        TypeError,
        ValueError,
        OverflowError,
        AssertionError,
    ),
    *(NotImplementedError, RuntimeError, EOFError, OSError, ParseError, struct.error, zlib.error),
    *(zipfile.BadZipFile, zipfile.LargeZipFile),
)
_PICKLE = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
_FORMS = (
    "lmms-eval's DATE_samples_TASK.jsonl (doc_id, target, filtered_resps or resps) and VLMEvalKit's "
    "MODEL_DATASET.xlsx, .tsv or .json (index, question, answer, prediction) can be imported"
)


def open_answers(path: Path, official: str | None = None) -> Reader:
    """The file's reader. official: the metric or column that holds the harness's verdicts; None: the first
    that does; "none": no verdicts. Raises ValueError, with what was found, for anything else than a harness's
    answers."""
    rows = _rows(path)
    first = list(islice((row for row in rows.scan(()) if not isinstance(row, RowError)), _FIRST))
    if not first:
        read = "".join(f" ({note})" for note in rows.notes)
        raise ValueError(f"{path}: no row can be read in it{read}. {_FORMS}")
    columns = list(dict.fromkeys(str(key) for row in first for key in row))
    reader: Reader | None = None
    if "doc_id" in columns and {"resps", "filtered_resps"} & set(columns):
        reader = LmmsEval(path, rows, first, official)
    elif "prediction" in (column.strip().lower() for column in columns):
        reader = VlmEvalKit(path, rows, first, official)
    if reader is not None:
        reader.facts["read_as"] = "; ".join(rows.notes) or None
        return reader
    found = ", ".join(columns[:20]) + ", ..." * (len(columns) > 20)
    raise ValueError(f"{path}: no harness's answers: its rows have {found[:400]}. {_FORMS}")


def _rows(path: Path) -> Scanned:
    if not path.is_file():
        raise ValueError(f"{path}: there is no such file. {_FORMS}")
    with path.open("rb") as file:
        start = file.read(512)
    if path.suffix.lower() in (".pkl", ".pickle") or start.startswith(_PICKLE):
        raise ValueError(
            f"{path} is a pickle, and reading one runs whatever code stands in it. Give the table that "
            "VLMEvalKit wrote beside it (MODEL_DATASET.xlsx, .tsv or .json), or in an environment that you "
            "trust save it as JSON: records of index, question, answer and prediction"
        )
    if start.startswith(b"PK\x03\x04"):
        return WorkbookRows(path)
    if start.startswith(b"PAR1"):
        raise ValueError(f"{path} is a parquet file: rows for --data, perhaps. {_FORMS}")
    if not start.strip():
        raise ValueError(f"{path} is empty. {_FORMS}")
    if (size := path.stat().st_size) > _LARGEST:
        raise ValueError(f"{path} has {size:,} bytes, more than {_LARGEST:,}: part it")
    try:
        if path.suffix.lower() in DELIMITERS:  # also one whose first column is called [...]
            return DelimitedRows(path)
        head = start.removeprefix(b"\xef\xbb\xbf").replace(b"\0", b"").lstrip(b"\xff\xfe \t\r\n")
        if head[:1] in (b"{", b"["):
            return _only_line(path) or json_rows(path)
    except DataError as error:
        raise ValueError(f"{error}. {_FORMS}") from error
    raise ValueError(f"{path}: neither JSON nor a workbook, nor called .tsv or .csv. {_FORMS}")


def _only_line(path: Path) -> ListRows | None:
    """The row of a .jsonl file that has one line: alone it reads as an object with lists in it. None for any
    other file."""
    if path.suffix.lower() != ".jsonl":
        return None
    text = open_text(path)
    with text.open() as file:
        lines = list(islice(_filled_lines(file), 2))
    if len(lines) != 1:
        return None
    try:
        return ListRows([parse_object(lines[0])], text.notes)
    except ValueError as error:
        raise ValueError(f"{path}: {error}. {_FORMS}") from error


def _filled_lines(file: BinaryIO) -> Iterator[bytes]:
    while line := file.readline(_LONGEST_LINE):
        if line.strip(b" \t\r\n\xef\xbb\xbf"):
            yield line.removeprefix(b"\xef\xbb\xbf")


# --- workbooks, which anybody may have made: damaged, or unpacking to any size -----------------------------
class WorkbookRows:
    """The rows of a workbook's first sheet; its first row names the columns. A formula is its text. A row
    with full cells has their columns under FULL_CELLS, since escaped characters make a text shorter.

    Raises ValueError with the path for what is no workbook, is damaged, unpacks to too much, declares
    entities, or has two columns of one name.
    """

    def __init__(self, path: Path):
        _check_workbook(path)
        self._path = path
        self.notes: tuple[str, ...] = ()

    def scan(self, columns: Sequence[str]) -> Iterator[Row | RowError]:
        cells = self._cells()
        header = self._names(next(cells, ()))
        filled = (row for row in cells if any(cell is not None for cell in row))
        yield from rows_or_errors(lambda row: _named(header, row), filled)

    def _cells(self) -> Iterator[Sequence[Any]]:
        """The sheet's rows. Every error of the file becomes one that names it."""
        from openpyxl import load_workbook  # pyright: ignore[reportMissingModuleSource]

        book = None
        try:
            book = load_workbook(self._path, read_only=True, data_only=False, keep_links=False)
            sheet, names = book.worksheets[0], book.sheetnames
            if len(names) > 1:
                self.notes = (
                    f"the sheet {sheet.title!r} of {len(names)} was read: {', '.join(names)[:200]}",
                )
            sheet.reset_dimensions()  # what the file states of its size may be anything
            for number, row in enumerate(sheet.iter_rows(max_col=_MOST_COLUMNS + 1, values_only=True)):
                if number >= _MOST_ROWS:
                    raise ValueError(f"it has rows beyond {_MOST_ROWS:,}, as no workbook does")
                yield row
        except _DAMAGE as error:
            what = type(error).__name__ if isinstance(error, LookupError) else ""
            raise ValueError(
                f"{self._path} is a damaged workbook: {what} {error}".replace(":  ", ": ")
            ) from error
        finally:
            if book is not None:
                book.close()

    def _names(self, row: Sequence[Any]) -> list[str | None]:
        """The columns. Raises ValueError where two have one name, which is read without case and spaces."""
        names = [None if cell is None else str(cell).strip() or None for cell in row]
        while names and names[-1] is None:
            names.pop()
        if len(names) > _MOST_COLUMNS:
            raise ValueError(
                f"{self._path}: its first row has cells beyond column {_MOST_COLUMNS}: take them out"
            )
        folded = [name.lower() if len(name) > 1 else name for name in names if name]
        if twice := sorted({name for name in folded if folded.count(name) > 1}):
            raise ValueError(f"{self._path}: several columns are called {', '.join(twice)}: keep one of each")
        return names


def _named(header: Sequence[str | None], row: Sequence[Any]) -> dict[str, Any]:
    if any(cell is not None for cell in row[len(header) :]):
        raise RowError("unreadable_row", f"it has more cells than the {len(header)} columns that have a name")
    named = {name: getattr(value, "text", value) for name, value in zip(header, row) if name}  # a formula's
    full = [name for name, value in named.items() if isinstance(value, str) and fills_a_cell(value)]
    return {name: _unescaped(value) for name, value in named.items()} | ({FULL_CELLS: full} if full else {})


# What XML cannot hold, and the mark that an escape stands for itself. No others: openpyxl has removed that
# mark by now, so _x0041_ in a model's answer looks as an escaped A would.
_ESCAPED = re.compile(r"_x(00[01][0-9A-Fa-f]|005[Ff]|[Ff]{3}[EeFf])_")


def _unescaped(value: Any) -> Any:
    """A text with the control characters for which workbooks have an escape: _x000D_ is a carriage return."""
    if not isinstance(value, str) or "_x" not in value:
        return value
    return _ESCAPED.sub(lambda match: chr(int(match[1], 16)), value)


def _check_workbook(path: Path) -> None:
    """Raises ValueError before anything is unpacked whole."""
    try:
        with zipfile.ZipFile(path) as packed:
            parts = packed.infolist()
            heads = {part.filename: _head(packed, part) for part in parts[:_MOST_PARTS]}
    except _DAMAGE as error:
        raise ValueError(f"{path} is a damaged workbook: {error}") from error
    if "xl/workbook.xml" not in heads:
        raise ValueError(
            f"{path} is a zip file and no workbook: it holds {', '.join([*heads][:5])[:200]}. {_FORMS}"
        )
    size = sum(part.file_size for part in parts)
    if len(parts) > _MOST_PARTS or size > _LARGEST_UNPACKED:
        raise ValueError(
            f"{path} unpacks to {size:,} bytes in {len(parts):,} parts, more than {_LARGEST_UNPACKED:,} or "
            f"{_MOST_PARTS:,}: save it as .tsv or .json"
        )
    for name, head in heads.items():
        if b"<!DOCTYPE" in head or b"<!ENTITY" in head:
            raise ValueError(f"{path}: {name} declares entities, as no workbook does")


def _head(packed: zipfile.ZipFile, part: zipfile.ZipInfo) -> bytes:
    with packed.open(part) as content:
        return content.read(4096).replace(b"\0", b"")
