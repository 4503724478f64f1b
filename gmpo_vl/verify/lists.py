"""Golds of type `list`: texts that are the answer together, in any order, such as DUDE's lists.

An answer must have all of them and no other. Where one item ends and the next begins, an answer can say in
several ways: line by line, with semicolons, with commas, with "and". Each is tried, since an item may hold a
comma itself.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from gmpo_vl.verify.quantities import Leeway
from gmpo_vl.verify.values import judge_value

MOST_ITEMS = 64
_BETWEEN = (
    re.compile(r"\s*\n\s*"),
    re.compile(r"\s*[;；]\s*(?:and\s+)?"),
    re.compile(r"\s*[,，、]\s*(?:and\s+)?"),
    re.compile(r"\s*(?:[,，、]\s*(?:and\b|&)?|\band\b|&)\s*"),
)
_BRACKETS = re.compile(r"\\?[\[{](.*)\\?[\]}]", re.DOTALL)
_BULLET = re.compile(r"(?:[-*•]|\d{1,2}[.)])\s+")
_QUOTES = "\"'“”‘’"


def readings(answer: str) -> list[tuple[str, ...]]:
    """The items of an answer in each way in which it may be a list; at first all of it as one item."""
    listed = _BRACKETS.fullmatch(answer.strip())
    inner = listed[1] if listed else answer
    found = [_items([answer])]
    found += [items for between in _BETWEEN if (items := _items(between.split(inner)))]
    return [items for items in dict.fromkeys(found) if len(items) <= MOST_ITEMS]


def _items(parts: Sequence[str]) -> tuple[str, ...]:
    """Without bullets, quotes and empty parts."""
    plain = (_BULLET.sub("", part.strip(), count=1).strip().strip(_QUOTES).strip() for part in parts)
    return tuple(part for part in plain if part)


def judge_list(golds: Sequence[str], leeway: Leeway, answer: str) -> str:
    """`equal` where the answer has all items of the gold and no other, else `different`."""
    found = any(_same_items(golds, leeway, items) for items in readings(answer))
    return "equal" if found else "different"


def _same_items(golds: Sequence[str], leeway: Leeway, items: Sequence[str]) -> bool:
    left = list(items)
    for gold in golds:
        same = next((item for item in left if judge_value(gold, "text", leeway, item) == "equal"), None)
        if same is None:
            return False
        left.remove(same)
    return not left
