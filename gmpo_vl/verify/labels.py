r"""What a value is called: `Area = 9.4`, `Surface area: 24 cm^2`, `The domain is x > 3`, `面积为12`.

- A label in the answer alone is no part of its value: `Area = 9.4` answers 9.4.
- A label in the gold alone need not be repeated: 9.4 answers `Area = 9.4`.
- Two labels must name one quantity: all words of one stand in the other, and what the answer's has besides
  stands after an "of" (`area of the triangle` for `area`, but neither `perimeter` nor `surface area`).
- A gold with several labels (`Domain: ...; Range: ...`) takes the same labels in any order, or the values
  alone in the gold's order.
- Words that change a value (half the area, minus, twice), deny it or leave it open make no label.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from gmpo_vl.verify.normalise import normalise
from gmpo_vl.verify.products import is_product, is_wordy
from gmpo_vl.verify.sentences import UNSAID
from gmpo_vl.verify.words import TEXT_GROUP

_MAX_CHARS = 300
_WORD = (
    r"(?:[A-Za-z][A-Za-z'-]*|\\(?:triangle|angle|odot|overline|arc|widehat|overarc|vec) ?"
    r"(?:\{[A-Za-z ]{1,8}\}|[A-Z]{1,6}\b)|\([A-Za-z .^\d{}/]{1,20}\))"
)
_SIGN = r"(?: ?(?:=|:|\\approx) ?| (?:(?:is|are|was|were)(?: equal to)?|equals?)\b ?:? ?)"
_LABEL = re.compile(rf"({_WORD}(?: {_WORD}){{0,9}}?){_SIGN}(?=\S)")
_BEFORE_PAIR = re.compile(
    r"((?:the )?(?:coordinates?|points?|vertex|vector|ordered pair)) (?=(?:[A-Z] ?)?\()", re.I
)
_CHINESE = re.compile(r"([\u4e00-\u9fffA-Za-z\\ ]{1,24}?) ?(?:=|:|为|是|等于) ?(?=[^\s\u4e00-\u9fff])")
_CHINESE_UNSAID = re.compile("[不非没无未或若如至大小超倍错负约]|半(?![径圆])")
_MAY_BE = re.compile(
    r"[A-Za-z]{3}.*?(?:[=:(]|≈|approx|\b(?:is|are|was|were|equals?)\b)|[\u4e00-\u9fff]", re.DOTALL
)
_COLON = re.compile(
    r"(?:(?<![^,;] )|(?<=and ))(?<![\w:}])([A-Za-z](?:_\{?\w\}?)?|[A-Z]{2}): (?=[-\d(\[]|\\[a-z]*frac)"
)
_JOINT = re.compile(r" ?(?:[,;.] ?(?:and )?| and )(?=\S)")
_NAME = re.compile(r"([A-Za-z]|[A-Z]{2,4}) ?(?:= ?(?=\S)|(?<=[A-Z])(?=\(-?[\d\\]))")  # A = 9.4, P(1, 2)
_ANGLE = re.compile(r"(?:m ?)?\\angle ?\{?([A-Z]{1,3})\}? ?= ?(?=\S)")
_SAYS = re.compile(r"[:=]|\b(?:is|are)\b")
_DOLLAR = re.compile(r"(?<!\\)\$")

_FUNCTIONS = frozenset(
    "sin cos tan cot sec csc log ln lim exp max min gcd lcm det arcsin arccos arctan mod".split()
)
# Words that only say what is asked: they name no quantity.
_IDLE = frozenset(
    """the a an of in for to at from on by its their our my this that it so thus therefore hence then finally
    value values answer answers result exact approximate required measure measured
    with units ans point points coordinate coordinates location ordered pair solution angle""".split()
)
# `Final answer` names no quantity, `final velocity` and `correct answers` do.
_ANSWER = re.compile(
    r"\b(?:final|correct) (?=(?:final |correct )?(?:answer|ans|result|solution)\b)", re.IGNORECASE
)
_ANGLE_WORD = re.compile(r"(?<![A-Za-z])angles?\b", re.IGNORECASE)
_OF = re.compile(r"\b(?:of|in|for|between|from|to|under)\b")
# Of these, a label names the quantity itself (the sum is 12); `of` after them makes another one of it.
_QUANTITIES = frozenset(
    """product sum difference square cube root first second third last base rest remaining remainder
    denominator numerator larger smaller greater power percent error""".split()
)
_COUNTS = frozenset("one two three four five six seven eight nine ten eleven twelve both".split())
_UNSAID = (UNSAID - _QUANTITIES - _COUNTS) | frozenset("when while because since exceeds excluding".split())
_CHANGED = re.compile(
    r"\b(?:square|cube|root|power|multiple|fraction|halves|thirds|quarters|fifths|tenths) of\b"
)


class Labelled(NamedTuple):
    """label: the words before the sign; value: what stands after it."""

    label: str
    value: str


@lru_cache(maxsize=20_000)
def labelled(text: str) -> tuple[Labelled, ...]:
    """The values of a text with their labels, in order; empty where it does not begin with a label."""
    if len(text) > _MAX_CHARS or not _MAY_BE.search(text):
        return ()
    flat = _flat(text)
    found: list[Labelled] = []
    at = 0
    while match := _label_at(flat, at):
        label, start = match
        end, after = _next(flat, start)
        found.append(Labelled(label, flat[start:end].strip()))
        if after is None:
            return tuple(found)
        at = after
    return ()


def _next(flat: str, start: int) -> tuple[int, int | None]:
    """Where the value at `start` ends, and where the next label begins (None for no other)."""
    for joint in _JOINT.finditer(flat, start):
        if _label_at(flat, joint.end()):
            return joint.start(), joint.end()
    return len(flat), None


def _label_at(flat: str, at: int) -> tuple[str, int] | None:
    """The label that begins at a position, and where its value begins."""
    match = _BEFORE_PAIR.match(flat, at) or _LABEL.match(flat, at)
    if match:
        return (match[1], match.end()) if _is_label(match[1]) else None
    match = _CHINESE.match(flat, at) if not flat.isascii() else None
    if match is None or match[0].isascii() or _CHINESE_UNSAID.search(match[1]):
        return None
    return match[1], match.end()


def _flat(text: str) -> str:
    r"""`\text{Area} = 9 \text{ cm}` as `Area = 9 \text{ cm}`: no text commands but those of units."""

    def opened(group: re.Match[str]) -> str:
        before = group.string[: group.start()].rstrip()[-1:]
        after_value = before.isdigit() or before in ("}", ")")
        return group[0] if after_value and not _SAYS.search(group[1]) else f" {group[1]} "

    return " ".join(TEXT_GROUP.sub(opened, _DOLLAR.sub("", normalise(text))).split())


def _is_label(label: str) -> bool:
    """Whether words name a quantity: one of them at least is no product of symbols."""
    words = re.findall(r"(?<![\\A-Za-z])[A-Za-z']+", label)
    low = {word.lower().removesuffix("'s") for word in words}
    if not low.isdisjoint(_UNSAID) or not low.isdisjoint(_FUNCTIONS) or _CHANGED.search(label.lower()):
        return False
    return any(len(word) > 2 and not is_product(word) and not word.isupper() for word in words)


# --- two labels -----------------------------------------------------------------------------------------
def agree(gold: str, answer: str) -> bool:
    """Whether two labels may name one quantity."""
    if not gold.isascii() or not answer.isascii():
        ours, theirs = gold.replace(" ", ""), answer.replace(" ", "")
        return theirs.endswith(ours) or ours.endswith(theirs)
    ours, theirs = _named(gold), _named(answer)
    head = _named(_OF.split(gold)[0])
    if not theirs and _ANGLE_WORD.search(answer):  # an angle is no area
        return _ANGLE_WORD.search(gold) is not None
    if theirs <= ours:
        return not theirs or not head or not head.isdisjoint(theirs)
    added = {word for word in _named(_OF.split(answer)[0]) - ours if len(word) > 1}
    return ours <= theirs and added <= {"total"}


def names(symbol: str, label: str) -> bool:
    """Whether a symbol may stand for a label: A for `area`, AB for `length of AB`, x for `value of x`."""
    words = _named(label)
    if symbol.startswith("\\angle "):
        return not words or symbol.removeprefix("\\angle ") in words
    return symbol in words or not words or any(word[0] == symbol.lower() for word in words if len(word) > 1)


def denies(symbol: str, label: str) -> bool:
    """Whether a label has symbols, and none of this one: `length of CD` for AB. A, B and BA are of AB."""
    name = symbol.removeprefix("\\angle ")
    symbols = {word for word in _named(label) if len(word) == 1 or word.isupper()}
    return bool(symbols) and all(word not in name and word[::-1] != symbol for word in symbols)


def _named(label: str) -> frozenset[str]:
    """The words that name a quantity, in small letters, and symbols (x, AB) as they are."""
    words = re.findall(r"[A-Za-z']+", re.sub(r"\([^()]*\)|\\[a-z]+", " ", _ANSWER.sub("", label)))
    kept = [word if len(word) == 1 or word.isupper() else word.lower() for word in words]
    return frozenset(word for word in kept if word.lower() not in _IDLE)


@lru_cache(maxsize=20_000)
def symbol_of(text: str) -> tuple[str, str] | None:
    """(A, 9.4) for `A = 9.4`; None for anything else."""
    if "=" not in text and "(" not in text and ": " not in text:
        return None
    flat = _flat(with_equals(text))
    if angle := _ANGLE.match(flat):
        return f"\\angle {angle[1]}", flat[angle.end() :]
    match = _NAME.match(flat)
    return (match[1], flat[match.end() :]) if match else None


def with_equals(text: str) -> str:
    """`x: 2, y: 3` and `A: (2, 3)` with equals signs; other texts as they are."""
    return _COLON.sub(r"\1 = ", text) if ": " in text else text


@lru_cache(maxsize=20_000)
def items(text: str) -> tuple[str, ...]:
    """The parts of a text at its outermost commas, semicolons and "and"."""
    flat, parts, depth, start = _flat(text), [], 0, 0
    for joint in re.finditer(r"\\[{}]|[\[({})\]]|[,;]| and ", flat):
        mark = joint[0].lstrip("\\")
        if mark in "[({":
            depth += 1
        elif mark in "])}":
            depth -= 1
        elif depth == 0:
            parts.append(flat[start : joint.start()].strip())
            start = joint.end()
    return (*parts, flat[start:].strip())


def same_words_listed(gold: str, answer: str) -> bool:
    """`Blue, red` for `red, blue`: a list of words in any case, which are no products of symbols."""
    ours, theirs = items(gold), items(answer)
    if len(ours) < 2 or len(ours) != len(theirs):
        return False
    if not all(is_wordy(item) and not item.isupper() for item in ours):
        return False
    return sorted(map(str.casefold, ours)) == sorted(map(str.casefold, theirs))
