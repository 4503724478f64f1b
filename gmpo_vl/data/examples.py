"""A data set as the engine sees it: `load_examples` reads and checks every row once; an Example is made when asked for.

Host memory holds row numbers and faults, not rows: files are memory-mapped (see sources.py) and pictures stay encoded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from gmpo_vl.data.images import MAX_IMAGE_PIXELS, ImageError, decode_image
from gmpo_vl.data.rows import (
    BadRowsError,
    Columns,
    DataError,
    Fault,
    OnBadRow,
    RowError,
    RowFaults,
    example_from_row,
    row_id,
)
from gmpo_vl.data.sources import ArrowRows, ListRows, Table, locate, open_tables
from gmpo_vl.types import Example


@dataclass(frozen=True)
class ExampleSet(Sequence[Example]):
    """The usable rows of some tables, in their order. `faults` says what became of the others.

    rows_K: int64, the kept rows, numbered through all tables.   num_rows: rows read, bad ones included.
    """

    tables: tuple[Table, ...]
    columns: Columns
    rows_K: np.ndarray
    num_rows: int
    faults: RowFaults = field(default_factory=RowFaults)

    def __len__(self) -> int:
        return len(self.rows_K)

    def __iter__(self) -> Iterator[Example]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index: int) -> Example:  # type: ignore[override]  # no slices: they would read every row
        table, row = self.place(index)
        try:
            return example_from_row(table.rows[row], self.columns, f"{table.label}:{row}")
        except RowError as error:  # checked before: the file or a picture has changed since
            raise RowError(error.reason, f"{table.name}, row {row}: {error}") from error

    def place(self, index: int) -> tuple[Table, int]:
        """The table an example comes from, and its row there."""
        return locate(self.tables, int(self.rows_K[index]))

    def fault(self, index: int, reason: str, detail: str) -> Fault:
        """The fault of an example found out later: too long, an image that does not decode."""
        table, row = self.place(index)
        default = f"{table.label}:{row}"
        return Fault(table.name, row, row_id(table.rows[row], self.columns, default), reason, detail)

    def texts(self) -> Iterator[tuple[str, str, str]]:
        """(id, problem, answer) of every example, in order, without reading a picture: for fingerprints and look-ups."""
        kept, number = set(self.rows_K.tolist()), 0
        for table in self.tables:
            for row, content in enumerate(table.rows.scan(_checked_keys(self.columns))):
                if number in kept and not isinstance(content, RowError):
                    example = example_from_row(content, self.columns, f"{table.label}:{row}")
                    yield example.id, example.problem, example.answer
                number += 1

    def drop(self, faulty: Mapping[int, tuple[str, str]], on_bad_row: OnBadRow) -> ExampleSet:
        """Without the examples {index: (reason, detail)}, whose faults are added to `faults`.

        Raises BadRowsError where the policy is `error` and there are any, and where nothing would be left.
        """
        if not faulty:
            return self
        found = RowFaults([self.fault(i, *faulty[i]) for i in sorted(faulty)])
        faults = RowFaults(self.faults.faults + found.faults)
        kept = np.array([i not in faulty for i in range(len(self))], dtype=bool)
        (found if on_bad_row == "error" else faults).settle(on_bad_row, int(kept.sum()), self.columns.called)
        return replace(self, rows_K=self.rows_K[kept], faults=faults)


def load_examples(
    files: str | Sequence[str],
    columns: Columns | None = None,
    on_bad_row: OnBadRow = "error",
    check_images: bool = False,
    max_image_pixels: int = MAX_IMAGE_PIXELS,
) -> ExampleSet:
    """Read sources (sources.py says what a source is) and check every row: columns, text, answer, tags against images, ids.

    on_bad_row: `error` raises BadRowsError when all rows have been looked at; `skip` leaves bad rows out and lists them in
    `.faults`. A data set without a usable row is an error under both. check_images: also decode every picture; otherwise a
    picture that does not decode shows up when its prompt is made. max_image_pixels: a larger picture counts as one of these.
    Raises DataError for a source that cannot be read, and for a problem or answer column that is not there.
    """
    limit = max_image_pixels if check_images else None
    return _checked(open_tables(files), columns or Columns(), on_bad_row, limit)


def examples_from_rows(
    rows: Sequence[Mapping[str, Any]] | Any,
    name: str,
    columns: Columns | None = None,
    on_bad_row: OnBadRow = "error",
    check_images: bool = False,
) -> ExampleSet:
    """The same for rows a program holds: a list of dicts (pictures may be PIL images) or a `datasets.Dataset`."""
    table = Table(name, name, ArrowRows(rows) if hasattr(rows, "with_format") else ListRows(rows))
    limit = MAX_IMAGE_PIXELS if check_images else None
    return _checked([table], columns or Columns(), on_bad_row, limit)


def _checked(tables: list[Table], columns: Columns, on_bad_row: OnBadRow, limit: int | None) -> ExampleSet:
    """limit: pixels of the largest picture that is decoded; None: none is decoded."""
    if on_bad_row not in ("error", "skip"):
        raise DataError(f"on_bad_row must be 'error' or 'skip', not {on_bad_row!r}")
    _check_tables(tables, columns)
    good, faults, num_rows = _scan(tables, columns)
    examples = ExampleSet(tuple(tables), columns, np.array(good, dtype=np.int64), num_rows, faults)
    if limit is not None and len(examples) > 0:
        examples = examples.drop(undecodable(examples, limit), "skip")
    # The faults of rows and of pictures are told together.
    examples.faults.settle(on_bad_row, len(examples), columns.called)
    return examples


def open_checked(files: str | Sequence[str], columns: Columns) -> tuple[Table, ...]:
    """The tables of a source, none of whose rows has been looked at yet. Raises DataError as `load_examples` does."""
    tables = tuple(open_tables(files))
    _check_tables(tables, columns)
    return tables


def _check_tables(tables: Sequence[Table], columns: Columns) -> None:
    for table in tables:
        _check_columns(table, columns)
    if not any(len(table.rows) for table in tables):
        names = ", ".join(table.name for table in tables)
        raise BadRowsError(
            f"{names}: no usable row: there is none in it at all. Name another source, or make this one again"
        )


def _checked_keys(columns: Columns) -> list[str]:
    keys = [columns.prompt_key, columns.answer_key, columns.image_key, columns.id_key]
    return [key for key in keys if key is not None]


def _check_columns(table: Table, columns: Columns) -> None:
    if not isinstance(table.rows, ArrowRows):
        return  # JSON has columns per row
    for key, setting in ((columns.prompt_key, "prompt_key"), (columns.answer_key, "answer_key")):
        if key not in table.rows.columns:
            raise DataError(
                f"{table.name}: no column {key!r}; it has {', '.join(table.rows.columns)}. "
                f"Set {columns.called(setting)}."
            )


def _scan(tables: Sequence[Table], columns: Columns) -> tuple[list[int], RowFaults, int]:
    good: list[int] = []
    faults = RowFaults()
    first_with: dict[str, str] = {}
    number = 0
    for table in tables:
        for row, content in enumerate(table.rows.scan(_checked_keys(columns))):
            default = example_id = f"{table.label}:{row}"
            try:
                if isinstance(content, RowError):
                    raise content
                example_id = row_id(content, columns, default)
                if example_id in first_with:
                    raise RowError(
                        "duplicate_id",
                        f"the same id as {first_with[example_id]} ({columns.called('id_key')} names another column, or null)",
                    )
                example_from_row(content, columns, default)
                first_with[example_id] = f"{table.label}:{row}"
                good.append(number)
            except RowError as error:
                faults.faults.append(Fault(table.name, row, example_id, error.reason, str(error)))
            number += 1
    return good, faults, number


def undecodable(examples: ExampleSet, limit: int) -> dict[int, tuple[str, str]]:
    """{index: (reason, detail)} of the examples with a picture that does not decode, or of more pixels than the limit.

    Decodes in threads, holds none.
    """

    def check(index: int) -> tuple[str, str] | None:
        for i, source in enumerate(examples[index].images, start=1):
            try:
                decode_image(source, limit)
            except ImageError as error:
                return "image_unreadable", f"image {i}: {error}"
        return None

    found: dict[int, tuple[str, str]] = {}
    with ThreadPoolExecutor() as threads:
        for start in range(0, len(examples), 1024):  # `map` makes a future of every index at once
            block = range(start, min(start + 1024, len(examples)))
            found.update(
                (i, fault) for i, fault in zip(block, threads.map(check, block), strict=True) if fault
            )
    return found
