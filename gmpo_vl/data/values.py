"""The values of a row: which are empty, and lists that come as text."""

from __future__ import annotations

import ast
import io
import json
import re
import tokenize
from collections.abc import Callable, Iterable
from typing import Any

_LONGEST_LITERAL = 200_000  # characters of a list as Python or numpy prints it
_ARRAY = re.compile(r"array\((.*?)(?:,\s*dtype=[\w<>'|]+)?\)", re.DOTALL)


def is_empty(value: Any) -> bool:
    """None, NaN, a blank text, a list or dict of nothing."""
    blank = isinstance(value, str) and not value.strip()
    return value is None or blank or value != value or (isinstance(value, list | dict) and not value)


# What stands in the place of answers that are not told: BLINK's hidden, MMMU's ?
_WITHHELD = frozenset(
    ("hidden", "withheld", "?", "-", "-1", "n/a", "null", "nan", "unknown", "unavailable", "not available")
)


def withheld(values: Iterable[Any]) -> str | None:
    """The word that stands in the place of every one of two and more answers; None where answers are told."""
    count, word = 0, ""
    for count, value in enumerate(values, 1):
        text = " ".join(str(value).split()).lower()
        if text not in _WITHHELD or (count > 1 and text != word):
            return None
        word = text
    return word if count > 1 else None


def parsed(text: str) -> Any:
    """A list or dict written as text: JSON, or as Python or numpy print it; None for other text."""
    array = _ARRAY.fullmatch(text)
    readers: tuple[Callable[[str], Any], ...] = (json.loads, _literal)
    for read in readers:
        try:
            return read(array[1] if array else text)
        except (ValueError, SyntaxError, MemoryError, RecursionError, tokenize.TokenError):
            continue
    return None


def texts_in(text: str) -> list[str] | None:
    """The texts of a list as JSON or Python writes it; None for another text."""
    if not (text.startswith(("[", "array([")) and text.rstrip().endswith(("]", ")"))):
        return None
    found = parsed(text)
    is_list = isinstance(found, list) and all(isinstance(item, str) for item in found)
    return found if is_list else None


def _literal(text: str) -> Any:
    return ast.literal_eval(_with_commas(text)) if len(text) <= _LONGEST_LITERAL else None


def _with_commas(text: str) -> str:
    """numpy prints ['a' 'b'], which Python would read as ['ab']."""
    parts, last = [], None
    values = (tokenize.STRING, tokenize.NUMBER)
    for token in tokenize.generate_tokens(io.StringIO(text.replace("\n", " ")).readline):
        if last in values and token.type in values:
            parts.append(",")
        parts.append(token.string)
        last = token.type
    return " ".join(parts).strip()
