"""A question as a benchmark's row asks it, and what the readers of rows share.

A reader raises RowError for a row that lacks a column or contradicts itself; who calls it adds file and row.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Number
from typing import Any

from gmpo_vl.data.answers import LETTERS, encode_answer, written
from gmpo_vl.data.letters import lettered_text, line_of
from gmpo_vl.data.options import read_options
from gmpo_vl.data.rows import RowError
from gmpo_vl.data.templates import IMAGE_TAG
from gmpo_vl.data.values import is_empty, parsed, texts_in

Row = Mapping[str, Any]
_CHOICES = re.compile(r"\bchoices?:", re.IGNORECASE)


@dataclass(frozen=True)
class Question:
    """problem: with a tag for each picture. answer: as `encode_answer` writes it. pictures: in the order of
    their tags, as the row has them. columns: by which the benchmark counts."""

    id: str
    problem: str
    answer: str
    pictures: Sequence[Any]
    columns: dict[str, str] = field(default_factory=dict)


def cell(row: Row, *names: str) -> Any:
    """The value of the first of these columns that is not empty. Raises RowError for none."""
    for name in names:
        if not is_empty(value := row.get(name)):
            return value
    here = [name for name in names if name in row]
    what = f"column {here[0]!r} is empty" if here else f"no column {' or '.join(map(repr, names))}"
    raise RowError("missing_column", f"{what}; the row has {', '.join(map(repr, row))}")


def text(row: Row, *names: str) -> str:
    """As `cell`, as a text: a number without needless decimals. Raises RowError for any other value."""
    return _text(cell(row, *names), names[0])


def _text(value: Any, column: str) -> str:
    if not isinstance(value, str | Number) or isinstance(value, bool):
        raise RowError("value", f"column {column!r} holds a {type(value).__name__}, no text and no number")
    return written(value)


def texts(row: Row, name: str) -> list[str]:
    """The texts of a list, which may come as the text of one; of any other value itself."""
    value = cell(row, name)
    if isinstance(value, str):
        value = texts_in(value.strip()) or [value]
    return [_text(item, name) for item in (value if isinstance(value, list | tuple) else [value])]


def fields(row: Row, name: str) -> Row:
    """The fields of a column that holds an object, which may come as the text of one. Raises RowError."""
    value = cell(row, name)
    found = parsed(value.strip()) if isinstance(value, str) else value
    if not isinstance(found, Mapping):
        raise RowError("value", f"column {name!r} is {str(value)[:60]!r}, no object with fields")
    return found


def optional(row: Row, name: str) -> Any:
    """The value, or None for an empty one. Raises RowError where there is no such column."""
    if name not in row:
        raise RowError("missing_column", f"no column {name!r}; the row has {', '.join(map(repr, row))}")
    return None if is_empty(row[name]) else row[name]


def whole(row: Row, *names: str) -> str:
    """The text of a column that holds a whole number, also where pandas wrote 1.0."""
    said = text(row, *names)
    if (found := re.fullmatch(r"([0-9]+)(?:\.0+)?", said)) is None:
        raise RowError("number", f"column {names[0]!r} is {said[:60]!r}, not a whole number")
    return found[1]


def one_of(said: str, known: Sequence[str], column: str) -> str:
    """The value, if it is one of those that the benchmark has there."""
    if said not in known:
        raise RowError("value", f"column {column!r} is {said[:60]!r}, not one of {', '.join(known)}")
    return said


def lettered_options(problem: str) -> list[str]:
    """The texts of the options that stand in a question, behind letters in order and behind `Choices:` where
    it says that; [] for none."""
    try:
        found = lettered_text(_CHOICES.split(problem)[-1])
    except ValueError:  # a letter stands twice
        return []
    return found[1] if found is not None and found[0] == list(LETTERS[: len(found[1])]) else []


def options_of(row: Row, name: str) -> list[str]:
    """The options of a column: a list, or the text of one; [] where it is empty."""
    value = optional(row, name)
    return [] if value is None else read_options(value)


def below(problem: str, options: Sequence[str]) -> str:
    """The question with its options, a line each: `A. a cat`; `A` for one that is drawn in the picture."""
    return "\n".join([problem, *(line_of(letter, option) for letter, option in zip(LETTERS, options))])


def letter_gold(letter: str, options: Sequence[str]) -> str:
    """The gold of a choice: its letter, or several (`A, C`). Raises RowError for one that no option has.

    options: none where they stand in the picture alone.
    """
    letters = re.findall("[A-Z]", letter)
    if not re.fullmatch(r"[A-Z](?:\s*[,;\n]\s*[A-Z])*", letter) or len(set(letters)) < len(letters):
        raise RowError(
            "answer_choice", f"the answer {letter[:60]!r} is no letter, and no letters with commas"
        )
    if options and max(letters) > LETTERS[len(options) - 1]:
        raise RowError("answer_choice", f"the answer {letter!r} names none of {len(options)} options")
    return encode_answer(", ".join(sorted(letters)), type="choice", choices=options)


def placed(problem: str, marks: str) -> tuple[str, list[int]]:
    """The problem with a tag for each mark, and which pictures they are. marks: a pattern with a number."""
    numbers = [int(match[1]) for match in re.finditer(marks, problem)]
    return re.sub(marks, IMAGE_TAG, problem), numbers
