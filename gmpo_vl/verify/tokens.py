"""A token, and the error for texts that have none."""

from __future__ import annotations

from typing import NamedTuple


class Unreadable(ValueError):
    """The text is no formula, list or relation that this grammar knows."""


class Token(NamedTuple):
    kind: str
    text: str
    spaced: bool = False  # white space before it


def letters(token: Token) -> list[Token]:
    """A run of letters as the product of its symbols."""
    return [Token("name", token.text[0], token.spaced), *(Token("name", c) for c in token.text[1:])]
