"""The options of a multiple-choice row as they come, and what names the right one."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping, Sequence
from typing import Any

from gmpo_vl.data.answers import LETTERS, AnswerError, encode_answer
from gmpo_vl.data.mapping import MappingFile, value_of
from gmpo_vl.data.rows import RowError


def choices_of_row(row: Mapping[str, Any], mapping: MappingFile) -> list[str]:
    """The choices of the row, empty where it has none. In a list of columns only the last ones may be empty:
    an empty one before a filled one would give the later choices other letters than the gold means."""
    if mapping.choices is None:
        return []
    if isinstance(mapping.choices, list):
        values = [value_of(row, name, "choices") for name in mapping.choices]
        while values and _is_blank(values[-1]):
            values.pop()
        if gaps := [name for name, value in zip(mapping.choices, values) if _is_blank(value)]:
            raise RowError("choices", f"the choice {', '.join(gaps)} is empty, and a later one is not")
        return [str(value) for value in values]
    value = value_of(row, mapping.choices, "choices")
    if isinstance(value, str):
        value = _read_list(value)
    if not isinstance(value, Sequence | None):
        raise RowError("choices", f"the choices are of type {type(value).__name__}, not a list")
    return [str(choice) for choice in value or ()]


def _is_blank(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _read_list(text: str) -> Any:
    """A list that was written as text, in JSON or as Python prints it."""
    if not text.strip():
        return []
    for read in (json.loads, ast.literal_eval):
        try:
            value = read(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
        if isinstance(value, list | tuple):
            return value
    raise RowError("choices", f"the choices {text[:80]!r} are no list")


def with_choices(problem: str, choices: list[str], mapping: MappingFile) -> str:
    """The problem with its choices below it. CountDown's numbers are in the problem already."""
    if not choices or mapping.choices_written or mapping.answer_type not in (None, "choice"):
        return problem
    if len(choices) > len(LETTERS):
        raise RowError("choices", f"{len(choices)} choices, more than there are letters")
    return "\n".join([problem, *(f"{letter}. {text}" for letter, text in zip(LETTERS, choices))])


def answer_of_row(value: Any, choices: list[str], mapping: MappingFile) -> Any:
    """The `answer` column: the value, or `encode_answer` of it with a type, a tolerance or choices."""
    if choices and mapping.answer_type in (None, "choice"):
        return encode_answer(_letter(value, choices, mapping.answer_is), type="choice", choices=choices)
    if value is None or (mapping.answer_type is None and mapping.tolerance is None):
        return value
    type_ = None if mapping.answer_type == "choice" else mapping.answer_type  # a row without choices
    try:
        return encode_answer(
            value, type=type_, tolerance=mapping.tolerance, choices=choices if type_ == "countdown" else None
        )
    except AnswerError as error:
        raise RowError("empty_answer", error.problem) from error


def _letter(value: Any, choices: list[str], form: str) -> str:
    """The letter of the right choice."""
    text = str(value).strip()
    if form == "text":
        found = [i for i, choice in enumerate(choices) if choice.strip() == text]
        if len(found) != 1:
            raise RowError("answer_choice", f"the answer {text[:60]!r} is {len(found)} of the choices")
        return LETTERS[found[0]]
    if form == "letter":
        letter = text.strip("().: ").upper()
        index = LETTERS.find(letter) if len(letter) == 1 else -1
    else:
        number = text.removesuffix(".0")
        index = (int(number) if number.isdecimal() else -1) - (form == "number")
    if not 0 <= index < len(choices):
        raise RowError(
            "answer_choice",
            f"the answer {text[:60]!r} is no {form} of {len(choices)} choices; "
            "answer_is says how it names one",
        )
    return LETTERS[index]
