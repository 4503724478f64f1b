"""Sets that people name in words, as LaTeX: all real numbers, all integers, the empty set."""

from __future__ import annotations

import re

_LETTERS = {"real": "R", "integer": "Z", "rational": "Q", "complex": "C"}
_NAMED = re.compile(
    r"(?:the )?(?:set of )?(?:all|any|every) (?:the )?(?:(real|rational|complex) ?(?:numbers?|values?)|(real|integer)s?)"
    r"(?: [a-z]| values? of [a-z])?(?:,? except(?: for)? (?:[a-z] ?= ?)?(.+))?"
)
_EMPTY = re.compile(r"(?:the )?empty set|(?:the )?null set")


def named_set(words: str) -> str | None:
    r"""`\\mathbb{R}` for `all real numbers`, `\\mathbb{R} \\setminus \\{2\\}` where some are excepted; None for anything else."""
    words = " ".join(words.split())
    if _EMPTY.fullmatch(words):
        return r"\emptyset"
    match = _NAMED.fullmatch(words)
    if not match:
        return None
    numbers = rf"\mathbb{{{_LETTERS[match[1] or match[2]]}}}"
    return rf"{numbers} \setminus \{{{match[3]}\}}" if match[3] else numbers
