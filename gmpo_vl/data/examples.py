"""A data set as the engine sees it: `load_examples` checks every row once; an Example is made when it is
asked for.

Host memory holds row numbers and faults, not rows: files are memory-mapped (sources.py) and pictures stay
encoded. `EpochOrder` says which examples a step takes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import islice
from typing import Any

import numpy as np

from gmpo_vl.data.formats import ArrowRows, ListRows
from gmpo_vl.data.images import MAX_IMAGE_PIXELS, ImageError, decode_image
from gmpo_vl.data.rows import (
    GAME_COLUMN,
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
from gmpo_vl.data.sources import Table, locate, open_tables
from gmpo_vl.data.templates import IMAGE_TAG
from gmpo_vl.storage.names import closest
from gmpo_vl.types import Example

FIRST = 20  # rows of a table that tell what its columns are


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

    def __getitem__(self, index: int) -> Example:  # type: ignore[override]
        """No slices: they would read every row."""
        table, row = self.place(index)
        try:
            return example_from_row(table.rows[row], self.columns, f"{table.label}:{row}")
        except RowError as error:  # checked before: the file or a picture has changed since
            raise RowError(error.reason, f"{table.name}, row {row}: {error}") from error

    def place(self, index: int) -> tuple[Table, int]:
        """The table an example comes from, and its row there."""
        return locate(self.tables, int(self.rows_K[index]))

    def fault(self, index: int, reason: str, detail: str) -> Fault:
        """The fault of an example that is found later: too long, or an image that does not decode."""
        table, row = self.place(index)
        default = f"{table.label}:{row}"
        return Fault(table.name, row, row_id(table.rows[row], self.columns, default), reason, detail)

    def texts(self) -> Iterator[tuple[str, str, str]]:
        """(id, problem, answer) of every example in order. Reads no picture."""
        return ((example.id, example.problem, example.answer) for example in self.without_pictures())

    def without_pictures(self) -> Iterator[Example]:
        """Every example in order; of its pictures at most the first byte is read, and no column of `meta`."""
        kept = set(self.rows_K.tolist())
        for number, (table, row, content) in enumerate(_scanned(self.tables, self.columns)):
            if number in kept and not isinstance(content, RowError):
                yield example_from_row(content, self.columns, f"{table.label}:{row}")

    def drop(self, faulty: Mapping[int, tuple[str, str]], on_bad_row: OnBadRow) -> ExampleSet:
        """The set without the examples {index: (reason, detail)}; `faults` gets their faults.

        Raises BadRowsError if the policy is `error` and there are any, or if nothing would be left.
        """
        if not faulty:
            return self
        found = RowFaults(self.fault(i, *faulty[i]) for i in sorted(faulty))
        faults = RowFaults([*self.faults, *found])
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
    """Read sources (see sources.py) and check every row: columns, text, answer, tags against images, ids.

    on_bad_row: `error` raises BadRowsError when all rows have been looked at; `skip` leaves bad rows out and
    lists them in `.faults`. A data set without a usable row is an error under both. check_images: also decode
    every picture; otherwise a bad picture is found when its prompt is made. max_image_pixels: a larger
    picture counts as bad. Raises DataError for a source that cannot be read, and for a problem or answer
    column that is not there.
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
    """The same for rows that a program holds: dicts (pictures may be PIL images), a `datasets.Dataset`."""
    table = Table(name, name, ArrowRows(rows) if hasattr(rows, "with_format") else ListRows(rows))
    limit = MAX_IMAGE_PIXELS if check_images else None
    return _checked([table], columns or Columns(), on_bad_row, limit)


def _checked(tables: list[Table], columns: Columns, on_bad_row: OnBadRow, limit: int | None) -> ExampleSet:
    """limit: pixels of the largest picture that is decoded; None decodes no picture."""
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
    """The tables of a source, before any row is checked. Raises DataError as `load_examples` does."""
    tables = tuple(open_tables(files))
    _check_tables(tables, columns)
    return tables


def _check_tables(tables: Sequence[Table], columns: Columns) -> None:
    for setting in ("prompt_key", "answer_key"):
        for table in tables:
            if isinstance(table.rows, ArrowRows):
                _check_column([table], columns, setting)
        _check_column(tables, columns, setting)
    if columns.id_key not in (None, Columns.id_key):  # the usual one need not be there
        _check_column(tables, columns, "id_key")
    problems = [row.get(columns.prompt_key) for table in tables for row in _first_rows(table)]
    if any(isinstance(text, str) and IMAGE_TAG in text for text in problems):
        _check_column(tables, columns, "image_key")
    if not any(len(table.rows) for table in tables):
        names = ", ".join(table.name for table in tables)
        raise BadRowsError(
            f"{names}: no usable row: there is none in it at all. Name another source, or make this one again"
        )


def _check_column(tables: Sequence[Table], columns: Columns, setting: str) -> None:
    """Raise DataError where no row of any table has the column: said once, not row by row."""
    key: str = getattr(columns, setting)
    if any(_has_column(table, key) for table in tables):
        return
    table = tables[0]
    present = (
        table.rows.columns
        if isinstance(table.rows, ArrowRows)
        else list(dict.fromkeys(name for row in _first_rows(table) for name in row))
    )
    close = closest(key, present)
    value = f"={close}" if close else ""
    if present:  # else its rows cannot be read, which is said of each
        raise DataError(
            f"{table.name}: no column {key!r}; it has {', '.join(present)}. "
            f"Set {columns.called(setting)}{value}."
        )


def _has_column(table: Table, key: str) -> bool:
    """JSON has columns per row: some row must have it."""
    if isinstance(table.rows, ArrowRows):
        return key in table.rows.columns
    return any(key in row for row in table.rows.scan([key]) if not isinstance(row, RowError))


def _first_rows(table: Table) -> list[Mapping[str, Any]]:
    """The readable ones; of pictures they may hold the first byte only."""
    rows = islice(table.rows.scan(getattr(table.rows, "columns", [])), FIRST)
    return [row for row in rows if not isinstance(row, RowError)]


def _scanned(
    tables: Sequence[Table], columns: Columns
) -> Iterator[tuple[Table, int, Mapping[str, Any] | RowError]]:
    """(table, row in it, content of the checked columns) of every row, in order."""
    keys = (columns.prompt_key, columns.answer_key, columns.image_key, columns.id_key, GAME_COLUMN)
    for table in tables:
        for row, content in enumerate(table.rows.scan([key for key in keys if key is not None])):
            yield table, row, content


def _scan(tables: Sequence[Table], columns: Columns) -> tuple[list[int], RowFaults, int]:
    """(numbers of the usable rows, faults of the others, rows in all)."""
    good: list[int] = []
    faults = RowFaults()
    first_with: dict[str, str] = {}
    for number, (table, row, content) in enumerate(_scanned(tables, columns)):
        default = example_id = f"{table.label}:{row}"
        try:
            if isinstance(content, RowError):
                raise content
            example_id = row_id(content, columns, default)
            if example_id in first_with:
                other = f"the same id as {first_with[example_id]}"
                raise RowError(
                    "duplicate_id", f"{other} ({columns.called('id_key')} names another column, or null)"
                )
            example_from_row(content, columns, default)
            first_with[example_id] = default
            good.append(number)
        except RowError as error:
            faults.append(Fault(table.name, row, example_id, error.reason, str(error)))
    return good, faults, len(good) + len(faults)


def undecodable(examples: ExampleSet, limit: int) -> dict[int, tuple[str, str]]:
    """{index: (reason, detail)} of examples with a picture that does not decode or has more pixels than the
    limit.

    Decodes in threads and keeps no picture.
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


@dataclass(frozen=True)
class EpochOrder:
    """Which examples a step takes: a pure function of (seed, position), so a resumed run goes on where it
    stopped.

    Passes over `num_examples` examples without an end, each in its own order if `shuffle` is set. A position
    counts the examples taken since the start of the run; a checkpoint keeps nothing else. No example is
    dropped: where an epoch does not divide into batches, its last examples share a batch with the first of
    the next epoch (EasyR1 drops them). Such a batch can hold an example twice; a batch of more than
    `num_examples` must.
    """

    num_examples: int
    seed: int
    shuffle: bool = True

    def __post_init__(self) -> None:
        if self.num_examples < 1:
            raise ValueError("there are no examples to order")

    def epoch(self, position: int) -> int:
        """The epoch, from 0, that the example at this position belongs to."""
        return position // self.num_examples

    def take(self, position: int, count: int) -> list[int]:
        """Indices of the `count` examples from `position` on."""
        indices: list[int] = []
        while len(indices) < count:
            epoch, start = divmod(position + len(indices), self.num_examples)
            order = _permutation(self.num_examples, self.seed, epoch if self.shuffle else None)
            indices.extend(order[start : start + count - len(indices)].tolist())
        return indices


@lru_cache(maxsize=4)
def _permutation(num_examples: int, seed: int, epoch: int | None) -> np.ndarray:
    """By random keys: numpy keeps Philox's raw stream for ever, but not `shuffle`. None: in order."""
    if epoch is None:
        return np.arange(num_examples)
    key = np.array([seed % 2**64, epoch], dtype=np.uint64)
    return np.argsort(np.random.Philox(key=key).random_raw(num_examples), kind="stable")
