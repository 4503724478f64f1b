"""Some rows of a table, and which columns have a usual name for something."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gmpo_vl.data.formats import rows_or_errors
from gmpo_vl.data.mapping import value_of
from gmpo_vl.data.rows import DataError, RowError
from gmpo_vl.data.sources import Table, locate
from gmpo_vl.data.values import is_empty

LOOKED_AT = 200  # rows: half of them the first ones, the others spread over the table
MOST = 0.9  # of the rows: what is true of so many is true of the column

# Words in a name that make it a column about something, not the thing itself: question_type, image_id.
_ABOUT = frozenset(
    "id ids type types index idx format length len count num number nums width height size source level lang "
    "language version key category class unit split hash score rate time date name_id explanation".split()
)


@dataclass(frozen=True)
class Guess:
    """A line of the mapping, and why. value None: nothing was found, and the user is asked."""

    key: str
    value: Any
    why: str


@dataclass(frozen=True)
class Sample:
    """Rows of a table that could be read, and how many rows there are."""

    rows: list[Mapping[str, Any]]
    total: int

    @property
    def columns(self) -> list[str]:
        return list(dict.fromkeys(str(name) for row in self.rows for name in row))

    def values(self, spec: str) -> list[Any]:
        """What a column or template gives, row by row; None where it is empty or gives nothing."""
        return [_value(row, spec) for row in self.rows]

    def filled(self, spec: str) -> list[Any]:
        return [value for value in self.values(spec) if value is not None]


def read_sample(tables: Sequence[Table]) -> Sample:
    """Raises DataError, with the first fault, where no row can be read."""
    total = sum(len(table.rows) for table in tables)
    numbers = sorted({*range(min(total, LOOKED_AT // 2)), *_spread(total, LOOKED_AT // 2)})
    rows: list[Mapping[str, Any]] = []
    fault = ""
    for number in numbers:
        table, place = locate(tables, number)
        for row in rows_or_errors(table.rows.__getitem__, [place]):
            if isinstance(row, RowError):
                fault = fault or f"; {table.name}, row {place}: {row}"
            else:
                rows.append(row)
    if not rows:
        names = ", ".join(table.name for table in tables[:3])
        raise DataError(f"{names}: no row of it can be read{fault}")
    return Sample(rows, total)


def _spread(total: int, count: int) -> Iterable[int]:
    return (i * total // count for i in range(count)) if total else ()


def _value(row: Mapping[str, Any], spec: str) -> Any:
    try:
        value = value_of(row, spec, "")
    except RowError:
        return None
    return None if is_empty(value) else value


def words(name: str) -> list[str]:
    """imageFile2 and image_file-2 are image, file, 2."""
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
    return [word.lower() for word in re.findall(r"[A-Za-z]+|\d+|[^\W\d_]+", parted)]


def named(
    columns: Sequence[str], usual: Sequence[str], telling: Iterable[str] = (), about: bool = False
) -> list[str]:
    """The columns of a usual name, in the order of `usual`; behind them those with a telling word in the
    name, unless another word says that they are about the thing, and `about` does not ask for these.
    """
    by_words = {"_".join(words(column)): column for column in reversed(columns)}
    exact = [by_words[name] for name in usual if name in by_words]
    rest = [c for c in columns if c not in exact and set(words(c)) & set(telling)]
    rest = [c for c in rest if about or not set(words(c)) & _ABOUT]
    return exact + rest


def series(columns: Sequence[str], stems: Iterable[str], from_bare: bool = False) -> list[str]:
    """image_1, image_2, ... or option_a, option_b, ... (A, B, ... for the empty stem): the longest run of two
    and more that begins with its first, in order. from_bare: image, image2, ... is one, too.
    """
    found: list[str] = []
    for stem in stems:
        for first in ("a", "1", "0"):
            run = _run(columns, stem, first, from_bare and first == "1")
            found = run if len(run) > max(1, len(found)) else found
    return found


def _run(columns: Sequence[str], stem: str, first: str, from_bare: bool) -> list[str]:
    if first.isdigit() and not stem:
        return []
    by_words = {"_".join(words(column)): column for column in reversed(columns)}
    run: list[str] = []
    while True:
        mark = chr(ord("a") + len(run)) if first == "a" else str(int(first) + len(run))
        name = by_words.get(f"{stem}_{mark}" if stem else mark) or by_words.get(f"{stem}{mark}")
        if name is None and from_bare and not run:
            name = by_words.get(stem)
        if name is None or len(run) == 26:
            return run
        run.append(name)
