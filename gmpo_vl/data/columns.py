"""A table's columns as a whole: those that a mapping reads, one that names splits, those that come along."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gmpo_vl.data.class_labels import has_classes
from gmpo_vl.data.formats import ArrowRows, rows_or_errors
from gmpo_vl.data.mapping import PLACEHOLDER, MappingFile, as_template, columns_of, is_kept, value_of
from gmpo_vl.data.rows import DataError, RowError
from gmpo_vl.data.sources import Table, canonical_split, say_once
from gmpo_vl.data.values import is_empty, texts_in, withheld
from gmpo_vl.data.writing import ColumnType
from gmpo_vl.storage.yaml_text import shown

SPLIT = re.compile(r"[a-z][a-z0-9_]*")
_COLUMNS_SHOWN = 40


def check_columns(tables: Sequence[Table], mapping: MappingFile) -> None:
    """Raises DataError for a placeholder of `data new`, and for a column or template that no row can fill.

    So a misspelt column is told once, before a picture is read: after a table's first row, only the columns
    that are spoken of are read, until a row can be filled, the first one as a rule.
    """
    named = [(key, name) for key, name in _named(mapping)]
    if unedited := [key for key, name in named if name == PLACEHOLDER]:
        keys, columns = " and ".join(unedited), sorted(_columns(tables))
        if PLACEHOLDER not in columns:
            raise DataError(
                f"{keys}: {PLACEHOLDER} stands for a column that is still to be named: {_listed(columns)}"
            )
    for key, name in named:
        _check_some_row(tables, name, lambda row, key=key, name=name: value_of(row, name, key))
    if mapping.keep is not None:
        _check_some_row(tables, as_template(mapping.keep), lambda row: is_kept(row, mapping.keep))


def _named(mapping: MappingFile) -> Iterator[tuple[str, str]]:
    """(key, column or template) of everything that a mapping reads of a row."""
    for key in ("problem", "answer", "images", "choices", "id", "split_by", "split_column", "carry"):
        value = getattr(mapping, key)
        for name in value if isinstance(value, list) else [value]:
            if name is not None:
                yield key, name


def _rows(tables: Sequence[Table], name: str) -> Iterator[Mapping[str, Any] | RowError]:
    """The first row of each table as a whole, then all rows with the columns of a column or template alone.

    A table that has none of these is not scanned: its rows are alike.
    """
    for table in tables:
        yield from rows_or_errors(table.rows.__getitem__, range(min(1, len(table.rows))))
    wanted = columns_of(name)
    for table in tables:
        if not wanted.isdisjoint(getattr(table.rows, "columns", wanted)):
            yield from table.rows.scan(sorted(wanted))


def _check_some_row(tables: Sequence[Table], name: str, read: Callable[..., Any]) -> None:
    first = None
    for row in _rows(tables, name):
        if isinstance(row, RowError):
            continue
        try:
            read(row)
            return
        except RowError as error:
            first = first or error
    if first is not None:
        total = sum(len(table.rows) for table in tables)
        raise DataError(f"{first}. So it is in every row ({total:,})") from first


def _columns(tables: Sequence[Table]) -> set[str]:
    """Those of the first rows."""
    found: set[str] = set()
    for table in tables:
        rows = rows_or_errors(table.rows.__getitem__, range(min(20, len(table.rows))))
        found.update(*(map(str, row) for row in rows if not isinstance(row, RowError)))
    return found


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _COLUMNS_SHOWN} more" if len(names) > _COLUMNS_SHOWN else ""
    return ", ".join(map(str, names[:_COLUMNS_SHOWN])) + more


def rows_of_splits(tables: Sequence[Table], name: str, column: str | None) -> dict[str, list[Sequence[int]]]:
    """{split: of each table, the numbers of its rows}: the split `name`, or what the column says of each row.

    A row that cannot be read goes to the first split, where it is named as a fault. Raises DataError for a
    row without a value, and for a value that can be no split's name.
    """
    if column is None:
        return {name: [range(len(table.rows)) for table in tables]}
    numbers: dict[str, list[list[int]]] = {}
    split = name
    for place, table in enumerate(tables):
        for number, row in enumerate(table.rows.scan([column])):
            if isinstance(row, RowError):
                split = next(iter(numbers), name)
            else:
                split = _split_of(row.get(column), column, f"{table.name}, row {number}")
            numbers.setdefault(split, [[] for _ in tables])[place].append(number)
    return {split: list(parts) for split, parts in numbers.items()}


def lacks_answers(tables: Sequence[Table], parts: Sequence[Sequence[int]], answer: str) -> bool:
    """Whether there are rows and none has an answer: all are empty, or hold a word for one that is not told.

    parts: of each table, the numbers of the rows that count. answer: column or template.
    """
    first = next(_answers_in(tables, parts, answer), None)
    return any(parts) and (first is None or withheld(_answers_in(tables, parts, answer)) is not None)


def _answers_in(tables: Sequence[Table], parts: Sequence[Sequence[int]], answer: str) -> Iterator[Any]:
    """The answers that are not empty; the item of a list of one."""
    wanted = columns_of(answer)
    for table, part in zip(tables, parts, strict=True):
        if wanted.isdisjoint(getattr(table.rows, "columns", wanted)):
            continue
        numbers = set(part)
        for number, row in enumerate(table.rows.scan(sorted(wanted))):
            if number not in numbers or isinstance(row, RowError):
                continue
            try:
                value = value_of(row, answer, "answer")
            except RowError:
                continue
            listed = texts_in(value) if isinstance(value, str) else value
            value = listed[0] if isinstance(listed, list) and len(listed) == 1 else value
            if not is_empty(value) and value != "None" and listed != []:  # None: a template's for null
                yield value


def _split_of(value: Any, column: str, where: str) -> str:
    word = str("" if value is None else value).strip().lower()
    split = canonical_split(word) or word
    if not SPLIT.fullmatch(split):
        raise DataError(
            f"{where}: split_column: {column!r} is {shown(value)}, which names no split: "
            "train, validation, test, or another word of small letters, digits and _"
        )
    return split


@dataclass(frozen=True)
class CarriedColumn:
    """A column that comes along. note: what a person should know about it."""

    type: ColumnType
    note: str = ""

    def value(self, value: Any) -> Any:
        """As it is written: text where the type is text, in JSON where it was a list or a mapping."""
        if self.type != "string" or value is None or isinstance(value, str):
            return value
        if isinstance(value, list | dict):
            return json.dumps(value, ensure_ascii=False, default=str)
        return str(value)


def carried_column(tables: Sequence[Table], name: str) -> CarriedColumn:
    """The type that a column has in all tables; lists and mappings stay what they are.

    Where a format has no types (JSON, CSV), all values are looked at. Where they are of several types, they
    are written as text, and the note says so.
    """
    import pyarrow as pa

    kinds = {_arrow_type(table, name) for table in tables}
    kinds -= {pa.null()} if len(kinds) > 1 else set()
    if len(kinds) == 1 and None not in kinds:
        return CarriedColumn(_column_type(kinds.pop()))
    note = f"carry: {name!r} holds values of several types; they are written as text"
    say_once(note)
    return CarriedColumn("string", note)


def _arrow_type(table: Table, name: str) -> Any:
    """pyarrow's type of a table's column; None for values of several types."""
    import pyarrow as pa

    features: Any = table.rows.dataset.features if isinstance(table.rows, ArrowRows) else {}
    if name in features and not has_classes(features[name]):
        return features.arrow_schema.field(name).type
    values = [row.get(name) for row in table.rows.scan([name]) if not isinstance(row, RowError)]
    try:
        return pa.array(values).type
    except (pa.ArrowException, OverflowError):
        return None


def _column_type(kind: Any) -> ColumnType:
    """The ColumnType of pyarrow's type: numbers, lists and structs as they are, anything else text."""
    import pyarrow as pa
    from datasets.features.features import generate_from_arrow_type

    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_struct(kind):
        return generate_from_arrow_type(_writable(kind))
    feature: Any = generate_from_arrow_type(kind)
    return str(feature.dtype) if _is_number(kind) else "string"


def _is_number(kind: Any) -> bool:
    import pyarrow as pa

    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)


def _writable(kind: Any) -> Any:
    """The type with text in place of columns that hold nothing, which parquet's readers refuse."""
    import pyarrow as pa

    if pa.types.is_struct(kind):
        return pa.struct(
            [(kind.field(i).name, _writable(kind.field(i).type)) for i in range(kind.num_fields)]
        )
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return pa.list_(_writable(kind.value_type))
    return pa.string() if pa.types.is_null(kind) else kind
