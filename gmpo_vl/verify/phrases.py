"""Answers in words: what leads to them, what qualifies them, a sentence around one number, a sum worked out.

Text in, text out: nothing here decides about equality.
"""

from __future__ import annotations

import re
from functools import lru_cache

from gmpo_vl.verify.measures import NUMBER
from gmpo_vl.verify.texts import TEXT_GROUP
from gmpo_vl.verify.units import unit_of

_NOUN = r"(?:answer|ans|result|value|option|opt|choice|letter|solution)"
_LEAD = re.compile(
    rf"(?:(?:therefore|thus|hence|so|then|correct|finally|but)\b[,:]?|(?:the\s|my\s|our\s)?(?:final\s|correct\s|right\s|best\s)*{_NOUN}\b(?:\.(?!\d))?"
    r"(?:\s?(?:is|are|was|would be|must be|should be|=|:)(?![a-z]))*|(?:it|this|that)(?:'s| is| must be)\b|i(?:'d| would)? (?:say|choose|pick|select|go with)\b"
    r"|(?:approximately|about|exactly)\b|[,:.](?= )) ?",
    re.IGNORECASE,
)
_FINAL = re.compile(r"\b(?:final|correct) (?:answer|choice|option)(?: is|:)+ ", re.IGNORECASE)

# --- qualifiers -------------------------------------------------------------------------------------------------------
_SETS = r"\\mathbb ?\{? ?[RZNQC] ?\}?(?:\^\{?[+*\d]\}?|_\{?[+*>\d]*\}?)?|\\[RZNQ]\b|[ℝℤℕℚℂ]"
_NAMES = r"[a-zA-Z]\b(?: ?, ?[a-zA-Z]\b){0,4}"
_MEMBER = rf"{_NAMES} ?\\in ?(?:{_SETS})"
_QUALIFIER = re.compile(
    rf"(?<![ ,;(])[ ,;(]+(?:(?:for|where|with) (?:(?:all|any|every|each|some|positive|real|integers?|numbers?|constants?) )*"
    rf"{_NAMES}(?= ?(?:$|[,\\<>=.)]|(?:is|are|be|in) )).*|{_MEMBER} ?\)? ?\.?$)"
    r"|(?<![ ,;(])[ ,;(]+(?:only|(?:the )?only (?:solution|answer|one|value))\)?\.?$",
    re.IGNORECASE,
)
_QUALIFIED = re.compile(
    rf"\\forall ?(?:{_MEMBER}|{_NAMES}) ?[,:] ?|(?:all|the|any) (?:functions?|solutions?)(?: of the form)? (?=[a-zA-Z] ?[(=])",
    re.IGNORECASE,
)
_QUALIFYING = re.compile(r"for|where|with|\\in|∈|only|unctions|olutions")
_SPACES = re.compile(r"(?:\\(?:quad|qquad)(?![a-zA-Z])|\\[,;:! ]|~|\s)+")
_IDLE = re.compile(
    r"\b(?:for|where|with|all|any|every|each|some|is|are|be|an?|constant|arbitrary|numbers?|only|the|solution|answer|one|value)\b"
    r"|[\s,;().\\{}]|mathbb|forall"
)
_ELSE = re.compile(r"\b(?:or|either|not|but)\b", re.IGNORECASE)


@lru_cache(maxsize=20_000)
def parted(text: str) -> tuple[str, str]:
    """The answer, and what qualifies it (`for all x`, `where c is a constant`, `, k \\in \\mathbb{Z}`, `only`); "" without any."""
    if not _QUALIFYING.search(text):
        return text, ""
    flat = _SPACES.sub(" ", TEXT_GROUP.sub(r" \1 ", text).replace("$", "")).strip()
    if before := _QUALIFIED.match(flat):
        return flat[before.end() :], _plain(before[0]) if before[0][0] == "\\" else ""
    after = _QUALIFIER.search(flat)
    if not after or after.start() == 0 or _ELSE.search(after[0]):
        return text, ""
    return flat[: after.start()].strip(" ,;"), _plain(after[0])


def _plain(qualifier: str) -> str:
    """A qualifier without what does not matter; "" for one that only says "for all x", "only", "where c is a constant"."""
    plain = re.sub(r"\bintegers?\b", "inz", re.sub(r"\breals?\b", "inr", qualifier.lower()))
    plain = _IDLE.sub("", plain)
    for numbers in ("inz", "inr"):  # integers k, k in Z
        if numbers in plain:
            plain = plain.replace(numbers, "") + numbers
    return "" if len(plain) < 2 else plain


# --- leads ------------------------------------------------------------------------------------------------------------
@lru_cache(maxsize=20_000)
def without_lead(text: str) -> str:
    """`Therefore, the final answer is: 7` as 7; what is called the final answer is the answer."""
    text = " ".join(text.split())
    finals = list(_FINAL.finditer(text))
    if finals:
        text = text[finals[-1].end() :]
    at = 0
    while at < len(text) and (lead := _LEAD.match(text, at)):
        at = lead.end()
    return text[at:] if at < len(text) else text


# --- sentences and sums -----------------------------------------------------------------------------------------------
# Words that leave a number in a sentence unsaid, denied, or one of several.
_UNSURE = frozenset(
    "not no none never neither nor or if unless wrong incorrect false cannot can't isn't doesn't don't won't didn't aren't wasn't either maybe perhaps "
    "possibly probably guess about around approximately roughly nearly almost least most more less fewer greater larger smaller than "
    "over under above below between except but plus minus times twice thrice double triple half third quarter dozen hundred thousand million "
    "billion percent and both one two three four five six seven eight nine ten eleven twelve unknown unclear instead should've "
    "would've product sum difference square squared cube cubed root reciprocal negative th st nd rd first second power without".split()
)
_WORD = re.compile(r"[A-Za-z]+(?:'[a-z]+)?")
_AMOUNT = re.compile(rf"(?<![\w.\\^_/*+=<>(-])(?:\\?\$ ?)?{NUMBER}(?: ?\\?%|°)?(?![\w^_/*+=<>(-])")
_MEASURE = re.compile(r" ((?:square |cubic )?([A-Za-z]+))")
_FORMULA = re.compile(r"[\d=<>+*/^_|{}\[\]\\]")


def said(text: str) -> str | None:
    """The one number of a sentence, with its unit (`The trip took 35 minutes.`); None for anything less plain."""
    flat = " ".join(TEXT_GROUP.sub(r" \1 ", text).split())
    amounts = list(_AMOUNT.finditer(flat)) if flat[:1].isalpha() else []
    if len(amounts) != 1:
        return None
    amount = amounts[0]
    measure = _MEASURE.match(flat, amount.end())
    unit = measure[1] if measure and unit_of(measure[2], False) is not None else ""
    around = flat[: amount.start()] + flat[amount.end() + len(unit) + bool(unit) :]
    words = _WORD.findall(around)
    led = [word for word in _WORD.findall(flat[: amount.start()]) if len(word) > 1]
    if len(led) < 2 or not _UNSURE.isdisjoint(word.lower() for word in words) or _FORMULA.search(around):
        return None
    return rf"{amount[0]}\text{{ {unit}}}" if unit else amount[0]


_COUNTED = re.compile(r"(?<=[\d)])(?:(?: ?/ ?| )[A-Za-z]{3,})+")
_BEFORE = re.compile(r"[A-Za-z]{2,}(?: [A-Za-z]+)* (?=\d)")


def worked(text: str) -> str | None:
    """The sum that `3 boxes * 20 pens/box = 60 pens` works out, without what it counts; None for anything else. Its links are
    still to be checked.
    """
    flat = " ".join(TEXT_GROUP.sub(r" \1 ", text).split()).rstrip(".")
    flat = flat[before.end() :] if (before := _BEFORE.match(flat)) else flat
    sides = [_COUNTED.sub(" ", side).strip() for side in flat.split("=")]
    if len(sides) < 2 or not all(sides) or not _UNSURE.isdisjoint(w.lower() for w in _WORD.findall(flat)):
        return None
    return " = ".join(sides)
