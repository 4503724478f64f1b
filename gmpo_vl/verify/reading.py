"""How a text can be read: the trees of an answer, and those of a gold."""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import chain

from gmpo_vl.verify import sentences, words
from gmpo_vl.verify.measures import counted, lettered, spelled, with_letter
from gmpo_vl.verify.normalise import normalise
from gmpo_vl.verify.parse import readings
from gmpo_vl.verify.tokens import Unreadable
from gmpo_vl.verify.tree import Node, decimal, num
from gmpo_vl.verify.units import is_coefficient

_THOUSANDS = re.compile(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?![\d,])")
_SAID = r"(?:the\s+|final\s+)*(?:answer|result|value)\s*(?:is|=|:)+\s*|(?:approximately|about|exactly)\s+"
_LEAD = re.compile(
    rf"{_SAID}|\\(?:text|textbf|mathrm|mbox)\s*\{{\s*(?:{_SAID})\}}|\\(?:approx|sim)(?![a-zA-Z])\s*",
    re.IGNORECASE,
)
PLAIN_NUMBER = re.compile(r"-?\d{1,15}(?:\.\d{1,15})?", re.ASCII)
_DIGIT = re.compile(r"\d")
_RELATION = re.compile(r"[<>≠]|\\(?:n?[lg]eq?|ne|neq|not|lt|gt)(?![a-zA-Z])|!\s*$")  # x != 5 is no sum
_POINT_C = re.compile(r"(?<![a-zA-Z\\^_{}\d])C ?(?=\(-?[\d.]+ ?, ?-?[\d.]+\))")


@lru_cache(maxsize=20_000)
def trees(text: str) -> tuple[Node, ...]:
    """How a text can be read: `1,234` is a number or a list. Empty when it cannot be."""
    if PLAIN_NUMBER.fullmatch(text):  # the grammar's tree of most answers, without its cost
        value = num(decimal(text.removeprefix("-")), text.removeprefix("-"))
        return (Node("neg", (value,)) if text[0] == "-" else value,)
    read = _read(text)
    return read[0] if len(read) == 1 else tuple(chain.from_iterable(read))


def _read(text: str) -> list[tuple[Node, ...]]:
    clean = spelled(normalise(text))
    lead = _LEAD.match(clean)
    clean = clean[lead.end() :] if lead else clean
    texts = [clean if _DIGIT.search(clean) and "except" not in clean else _number_word(clean)]
    if _THOUSANDS.search(clean) and not any(opening in clean for opening in ("(", "[", "\\{")):
        texts.insert(0, _THOUSANDS.sub(lambda m: m[0].replace(",", ""), clean))
    return _parsed(texts)


def _number_word(text: str) -> str:
    """seven as 7, -three as -3; anything else as it is."""
    word = words.bare(text).lower()
    if name := words.named_set(word):
        return name
    number = words.in_digits(word.removeprefix("-"))
    return word[: word.startswith("-")] + number if number.isdecimal() else text


@lru_cache(maxsize=20_000)
def gold_trees(text: str) -> tuple[Node, ...]:
    """A gold has one reading: 1,234 is a number. Two have 80m, 3 s, 80 mg (product and measure) and C(5, 3)
    (number of choices and point).
    """
    if PLAIN_NUMBER.fullmatch(text):
        return trees(text)
    clean = spelled(normalise(text))
    found = next(iter(_read(text)), ())
    if is_coefficient(clean):
        return found[-1:]
    other = lettered(clean) or _with_point(clean)
    return found + (trees(other)[:1] if other else ())


@lru_cache(maxsize=20_000)
def more_trees(text: str) -> tuple[Node, ...]:
    """What an answer may mean besides: 30 cups (also a product), a sentence, a sum that is worked out."""
    clean = spelled(normalise(text))
    read = trees(text)
    found = trees(noun) if (not read or read[0].op != "unit") and (noun := counted(clean)) else ()
    if "C" in clean and (point := _with_point(clean)):
        found += trees(point)[:1]
    if read:
        return found
    plain = words.without_lead(clean)
    if plain != clean and (led := trees(plain)):
        return found + led
    if (number := sentences.said(plain)) and (read := trees(number)[:1]):
        return found + read
    return found + tuple(_worked_out(clean))


def _with_point(text: str) -> str | None:
    """`A(0, 1), C(5, 3)` with the point C, not a number of choices; None for others."""
    return _POINT_C.sub("C = ", text) if _POINT_C.search(text) else None


def as_measure(text: str) -> tuple[Node, ...]:
    """1/4 m^2 and 3A with the letter as a unit, which is looked for where the gold has one."""
    measure = with_letter(spelled(normalise(text)))
    return trees(measure)[:1] if measure else ()


def _worked_out(text: str) -> list[Node]:
    r"""The chain of `3 boxes * 20 pens/box = 60 pens`; without a first side of other signs (`3 \star 2`)."""
    equation = sentences.worked(text)
    if not equation:
        return []
    first, _, later = equation.partition("=")
    is_left_out = "=" in later and not _RELATION.search(first) and not sentences.means_another(first)
    found = _parsed([equation]) or (_parsed([later]) if is_left_out else [])
    return list(chain.from_iterable(found))


def _parsed(texts: list[str]) -> list[tuple[Node, ...]]:
    found = []
    for text in texts:
        try:
            found.append(readings(text))
        except Unreadable:
            continue
    return found
