"""Whether `answer_is` counts the choices as the answers do: from 0 (index), or from 1 (number)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gmpo_vl.data.mapping import MappingFile, as_template, columns_of, is_kept, value_of
from gmpo_vl.data.options import choices_of_row, readings
from gmpo_vl.data.rows import DataError, RowError
from gmpo_vl.data.sources import Table

_FIRST = {"index": 0, "number": 1}
_PROOF = {
    "index": "is the number of its choices, and no answer is 0",
    "number": "is 0, and no answer is the number of its row's choices",
}
Part = tuple[Table, Sequence[int]]  # a table, and the numbers of its rows that count


def check_counting(parts: Sequence[Part], mapping: MappingFile) -> None:
    """Raises DataError where answers show that they count the other way than `answer_is` says.

    A 0 can be an index alone, and the number of choices a number alone. Where they count the other way, such
    rows would be dropped, and every other answer would name the choice beside the right one. Rows are read
    until one can be read only as the mapping says.
    """
    form = mapping.answer_is
    if mapping.choices is None or form not in _FIRST:
        return
    other = next(name for name in _FIRST if name != form)
    against: str | None = None
    for where, row in _rows(parts, mapping):
        found = _read(row, mapping)
        if form in found and other not in found:
            return
        if other in found and form not in found and against is None:
            shown = str(value_of(row, mapping.answer, "answer"))[:60]
            against = f"the answer {shown} of {where} {_PROOF[form]}"
    if against is not None:
        raise DataError(
            f"answer_is: {form} counts choices from {_FIRST[form]}, but {against}: the answers count from "
            f"{_FIRST[other]}. Write `answer_is: {other}`; where such an answer is none, `keep` leaves out "
            "its rows"
        )


def _rows(parts: Sequence[Part], mapping: MappingFile) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(where, the columns that are needed) of every row that can be read."""
    choices = mapping.choices if isinstance(mapping.choices, list) else [str(mapping.choices)]
    keep = [as_template(mapping.keep)] if mapping.keep is not None else []
    wanted = sorted({name for spec in (mapping.answer, *choices, *keep) for name in columns_of(spec)})
    for table, numbers in parts:
        counted = set(numbers)
        for number, row in enumerate(table.rows.scan(wanted)):
            if number in counted and not isinstance(row, RowError):
                yield f"{table.name}, row {number}", row


def _read(row: Mapping[str, Any], mapping: MappingFile) -> dict[str, list[int]]:
    """What the answer can mean; nothing for a row that `keep` leaves out, or that is refused."""
    try:
        options = choices_of_row(row, mapping) if is_kept(row, mapping.keep) else None
        return readings(value_of(row, mapping.answer, "answer"), options) if options else {}
    except RowError:
        return {}
