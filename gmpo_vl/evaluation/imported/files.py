"""Which harness wrote a file, by its content, and its rows one after the other. Nothing in it is run."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from gmpo_vl.data.formats import DELIMITERS, DelimitedRows, ListRows, Row, Rows, json_rows, rows_or_errors
from gmpo_vl.data.rows import DataError, RowError
from gmpo_vl.evaluation.imported.lmms_eval import LmmsEval
from gmpo_vl.evaluation.imported.rows import Reader
from gmpo_vl.evaluation.imported.vlmevalkit import VlmEvalKit
from gmpo_vl.storage.files import parse_object

_FIRST = 20  # rows that tell what a file holds
_LARGEST = 2**32  # bytes of a text file
_LONGEST_LINE = 2**26  # bytes
_LARGEST_UNPACKED = 2**30  # bytes of a workbook's parts: a small file can unpack to any size
_MOST_PARTS = 10_000  # of a workbook
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
        raise ValueError(f"{path}: no row can be read in it. {_FORMS}")
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


def _rows(path: Path) -> Rows:
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
        if start.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] in (b"{", b"["):
            return _only_line(path) or json_rows(path)
        if path.suffix.lower() not in DELIMITERS:
            raise ValueError(f"{path}: neither JSON nor a workbook, nor called .tsv or .csv. {_FORMS}")
        return DelimitedRows(path)
    except DataError as error:
        raise ValueError(f"{error}. {_FORMS}") from error


def _only_line(path: Path) -> Rows | None:
    """The row of a file of JSON lines that has one line: alone it reads as an object with lists in it. None
    for any other file."""
    with path.open("rb") as file:
        first = file.readline(_LONGEST_LINE)
        if path.suffix.lower() != ".jsonl" or file.read(1):
            return None
    try:
        return ListRows([parse_object(first)])
    except ValueError as error:
        raise ValueError(f"{path}: {error}. {_FORMS}") from error


class WorkbookRows:
    """The rows of a workbook's first sheet; its first row names the columns. A formula is its text.

    Raises ValueError for what is no workbook, unpacks to too much, or declares entities.
    """

    def __init__(self, path: Path):
        _check_workbook(path)
        self._path = path

    def __len__(self) -> int:
        return sum(1 for _ in self.scan(()))

    def __getitem__(self, index: int, /) -> Row:
        row = next(islice(self.scan(()), index, None))
        if isinstance(row, RowError):
            raise row
        return row

    @property
    def notes(self) -> tuple[str, ...]:
        return ()

    def scan(self, columns: Sequence[str]) -> Iterator[Row | RowError]:
        from openpyxl import load_workbook  # pyright: ignore[reportMissingModuleSource]

        book = load_workbook(self._path, read_only=True, data_only=False, keep_links=False)
        try:
            cells = book.worksheets[0].iter_rows(values_only=True)
            header = [None if name is None else str(name).strip() for name in next(cells, ())]
            filled = (row for row in cells if any(cell is not None for cell in row))
            yield from rows_or_errors(lambda row: _named(header, row), filled)
        finally:
            book.close()


def _named(header: Sequence[str | None], row: Sequence[Any]) -> dict[str, Any]:
    if any(cell is not None for cell in row[len(header) :]):
        raise RowError("unreadable_row", f"it has {len(row)} cells, and {len(header)} columns have a name")
    return {name: _unescaped(value) for name, value in zip(header, row) if name}


# What XML cannot hold, and the mark that an escape stands for itself. No others: openpyxl has removed that
# mark by now, so _x0041_ in a model's answer looks as an escaped A would.
_ESCAPED = re.compile(r"_x(00[01][0-9A-Fa-f]|005[Ff]|[Ff]{3}[EeFf])_")


def _unescaped(value: Any) -> Any:
    """A text with the control characters for which workbooks have an escape: _x000D_ is a carriage return."""
    if not isinstance(value, str) or "_x" not in value:
        return value
    return _ESCAPED.sub(lambda match: chr(int(match[1], 16)), value)


def _check_workbook(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as packed:
            parts = packed.infolist()
            if not any(part.filename == "xl/workbook.xml" for part in parts):
                names = ", ".join(part.filename for part in parts[:5])
                raise ValueError(f"{path} is a zip file and no workbook: it holds {names[:200]}. {_FORMS}")
            if len(parts) > _MOST_PARTS or sum(part.file_size for part in parts) > _LARGEST_UNPACKED:
                size = sum(part.file_size for part in parts)
                raise ValueError(
                    f"{path} unpacks to {size:,} bytes in {len(parts):,} parts, more than "
                    f"{_LARGEST_UNPACKED:,} or {_MOST_PARTS:,}: save it as .tsv or .json"
                )
            for part in parts:
                with packed.open(part) as content:
                    head = content.read(4096).replace(b"\0", b"")
                if b"<!DOCTYPE" in head or b"<!ENTITY" in head:
                    raise ValueError(f"{path}: {part.filename} declares entities, as no workbook does")
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise ValueError(f"{path} is a damaged workbook: {error}") from error
