"""Answers in words: what leads to them, what qualifies them, a sentence around one number, a sum worked out.

Text in, text out: nothing here decides about equality.
"""

from __future__ import annotations

import re
from functools import lru_cache

from gmpo_vl.verify.measures import NUMBER
from gmpo_vl.verify.texts import TEXT_GROUP

_NOUN = r"(?:answer|ans|result|value|option|opt|choice|letter|solution)"
_LEAD = re.compile(
    rf"(?:(?:therefore|thus|hence|so|then|correct|finally|but)\b[,:]?|(?:the\s|my\s|our\s)?(?:final\s|correct\s|right\s|best\s|only\s)*{_NOUN}\b(?:\.(?!\d))?"
    r"(?:\s?(?:is|are|was|would be|must be|should be|=|:)(?![a-z]))*|(?:it|this|that)(?:'s| is| must be)\b|(?:i(?:'d| would)? (?:say|go with)|(?:i(?:'d| would)? )?(?:choose|pick|select))\b"
    r"|(?:approximately|about|exactly)\b|[,:.](?= )) ?",
    re.IGNORECASE,
)
_FINAL = re.compile(r"\b(?:final|correct) (?:answer|choice|option)(?: is|:)+ ", re.IGNORECASE)

# --- qualifiers -------------------------------------------------------------------------------------------------------
_SETS = r"\\mathbb ?\{? ?[RZNQC] ?\}?(?:\^\{?[+*\d]\}?|_\{?[+*>\d]*\}?)?|\\[RZNQ]\b|[ℝℤℕℚℂ]"
_NAMES = r"[a-zA-Z]\b(?: ?(?:,|and\b) ?[a-zA-Z]\b){0,4}"
_MEMBER = rf"{_NAMES} ?\\in ?(?:{_SETS})"
# What is said of the names: their kind, a set they are from, a bound, or a count that goes on (n = 1, 2, 3, \ldots).
_KIND = (
    r"(?:is|are|be|an?|any|all|every|each|some|the|in|domain|arbitrary|positive|nonnegative|non-negative|nonzero|non-zero|real|complex|natural|whole"
    r"|integers?|numbers?|constants?(?: of integration)?|parameters?)\b"
)
_BOUND = r"(?:\\(?:le|ge|leq|geq|leqslant|geqslant|ne|neq)(?![a-zA-Z])|[<>≤≥≠]=?) ?-?\d+(?:\.\d+)?"
_COUNT = r"= ?-?\d+ ?(?:, ?-?\d+ ?){1,9}, ?(?:\\[lc]?dots|\.\.\.|…)"
_OF_NAMES = rf"(?: ?(?:{_KIND}(?: {_KIND}){{0,5}}|\\in ?(?:{_SETS})|{_BOUND}|{_COUNT}))"
_QUALIFIER = re.compile(
    rf"(?<![ ,;(])[ ,;(]+(?:(?:(?:for|where|with) |\\forall ?)(?:{_KIND} ){{0,5}}({_NAMES}){_OF_NAMES}{{0,3}}"
    rf"|({_NAMES}) ?\\in ?(?:{_SETS})|({_NAMES})(?: {_KIND}){{1,5}}) ?\)? ?[.;]?$"
    r"|(?<![ ,;(])[ ,;(]+(?:only|exactly|altogether|in (?:total|all)|(?:is )?(?:the )?only (?:solution|answer|one|value))\)?\.?$",
    re.IGNORECASE,
)
_SOME = re.compile(r"some ([a-z])\b(?! ?\\in)")
_LETTER = re.compile(r"\b[a-zA-Z]\b")
_COMMAND = re.compile(r"\\[a-zA-Z]+")
_LIMITS = re.compile(r"[<>≤≥≠=]|\\(?:le|ge|ne)")
_QUALIFIED = re.compile(
    rf"(?:\\forall|for (?:all|any|every)) ?(?:{_MEMBER}|{_NAMES}) ?[,:] ?|(?:all|the|any) (?:functions?|solutions?)(?: of the form)? (?=[a-zA-Z] ?[(=])|only (?=[a-zA-Z] ?=)",
    re.IGNORECASE,
)
_QUALIFYING = re.compile(
    r"for|where|with|\\in|∈|only|unctions|olutions|constant|integer|exactly|total|altogether|all"
)
_SPACES = re.compile(r"(?:\\(?:quad|qquad)(?![a-zA-Z])|\\[,;:! ]|~|\s)+")
_IDLE = re.compile(
    r"\b(?:in all|for|where|with|all|any|every|each|some|is|are|be|an?|constant|arbitrary|numbers?|only|the|solution|answer|one|value|exactly|altogether|in total)\b"
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
    head, condition = flat[: after.start()].strip(" ,;"), _plain(after[0])
    if (
        some := _SOME.search(after[0])
    ) and f"({some[1]})" in head:  # a function is given for all its arguments
        return text, ""
    names = _LETTER.findall(after[1] or after[2] or after[3] or "")
    if condition and (not set(names) <= {*_COMMAND.sub("", head)} or _narrows(head, condition)):
        return text, ""
    return head, condition


def _narrows(head: str, condition: str) -> bool:
    """Whether a qualifier leaves out some of a set of numbers: x < 5 for x > 3."""
    return limits(head.replace("=", "")) and not condition.endswith("inr")


def limits(condition: str) -> bool:
    """Whether a qualifier bounds a name (n > 1), which leaves something out."""
    return _LIMITS.search(condition) is not None


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
# Besides, in a sentence, where no sum is checked.
_UNSAID = _UNSURE | frozenset(
    (
        "doubt doubts hope hopes suppose supposes assume assumes imagine pretend wish think thinks said says claim claims unlikely likely other "
        "another previous next opposite inverse could might may would used base rest remaining remainder denominator numerator error nobody few "
        "nothing binary rejected excluded extraneous last old"
    ).split()
)
_WORD = re.compile(r"[A-Za-z]+(?:'[a-z]+)?")
_AMOUNT = re.compile(rf"(?<![\w.\\^_/*+=<>(-])(?:\\?\$ ?)?{NUMBER}(?: ?\\?%|°)?(?![\w^_/*+=<>(-])")
_FORMULA = re.compile(r"[\d=<>+*/^_|{}\[\]\\?,;:]")
# The verb that leads to the number, and what may follow it: what is counted or measured, and a phrase after a preposition.
_VERB = re.compile(
    r"\b(?:is|are|was|were|(?:will|should|must) be|equals?|(?:is|are) equal to|has|have|had|took|takes?|taken|got|gets?|needs?|needed|pays?|paid|costs?|charges?"
    r"|charged|earns?|earned|spends?|spent|sells?|sold|makes?|made|measures?|weighs?|weighed|remains?|buys?|bought|eats?|ate|uses|drinks?|drank|reads?"
    r"|walks?|walked|runs?|ran|travels?|traveled|travelled|drives?|drove|saves?|saved|owes?|owed|scores?|scored|collects?|collected|receives?|received|lasts?)"
    r"(?: (?:exactly|only|just|a total of|a distance of))? ?$|\bby a distance of $",
    re.IGNORECASE,
)
_SAID_OF = re.compile(
    r"((?: [A-Za-z]+){0,4}?)(?: (?:for|in|on|at|to|per|each|left|altogether|of|from|during|with)\b[^.]*)?[.!]?"
)


def said(text: str) -> str | None:
    """The one number of a sentence, with its unit (`The trip took 35 minutes.`); None for anything less plain."""
    flat = " ".join(TEXT_GROUP.sub(r" \1 ", text).split())
    amounts = list(_AMOUNT.finditer(flat)) if flat[:1].isalpha() else []
    if len(amounts) != 1:
        return None
    before, amount, after = flat[: amounts[0].start()], amounts[0][0], flat[amounts[0].end() :]
    led = [word for word in _WORD.findall(before) if len(word) > 1]
    match = _SAID_OF.fullmatch(after)
    if not match or len(led) < 2 or not _VERB.search(before) or _FORMULA.search(before + after):
        return None
    around = _WORD.findall(before + after[match.end(1) :])
    if not _UNSAID.isdisjoint(word.lower() for word in around):
        return None
    counted = (match[1] or "").strip()
    return rf"{amount}\text{{ {counted}}}" if counted else amount


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
