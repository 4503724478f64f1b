"""A gold that is a value or a text, and the content of a box, to an outcome."""

from __future__ import annotations

import re
from functools import lru_cache

from gmpo_vl.verify.compare import same
from gmpo_vl.verify.normalise import normalise
from gmpo_vl.verify.parse import parse
from gmpo_vl.verify.quantities import EXACT, Leeway, Undecided
from gmpo_vl.verify.texts import TEXT_GROUP, bare, is_turned, is_wordy, same_words, squeezed
from gmpo_vl.verify.tokens import Unreadable
from gmpo_vl.verify.tree import Node, constants, contains, symbols

_THOUSANDS = re.compile(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?![\d,])")
_SAID = r"(?:the\s+|final\s+)*(?:answer|result|value)\s*(?:is|=|:)+\s*|(?:approximately|about|exactly)\s+"
_LEAD = re.compile(
    rf"{_SAID}|\\(?:text|textbf|mathrm|mbox)\s*\{{\s*(?:{_SAID})\}}|\\(?:approx|sim)(?![a-zA-Z])\s*",
    re.IGNORECASE,
)
_ANSWER_WORDS = frozenset(
    "yes no true false none even odd".split()
)  # words, in any case, and no products of symbols
CHOICE = re.compile(r"\(?([A-Z])\)?")
_PLAIN_NUMBER = re.compile(r"-?\d{1,15}(?:\.\d{1,15})?", re.ASCII)
# Dates, telephone numbers and scores: 12/05/2020, 555-1234, 21-14.
_NO_ARITHMETIC = re.compile(r"\d{1,4}([-/])\d{1,2}\1\d{2,4}|\d+-\d+(?:-\d+)*")
_NUMBER_WORDS = {
    word: str(n)
    for n, word in enumerate("zero one two three four five six seven eight nine ten eleven twelve".split())
}
_DIGIT = re.compile(r"\d")


def judge_value(alternative: str, kind: str, leeway: Leeway, answer: str) -> str:
    if answer == alternative:
        return "equal"
    if leeway == EXACT and _PLAIN_NUMBER.fullmatch(answer) and _PLAIN_NUMBER.fullmatch(alternative):
        return "equal" if _plain_value(answer) == _plain_value(alternative) else "different"  # most answers
    if squeezed(alternative) == squeezed(answer):
        return "equal"
    # east is not seat, though e·a·s·t is s·e·a·t
    if kind == "text" or (is_wordy(alternative) and is_wordy(answer)):
        return "equal" if same_words(alternative, answer) else "different"
    if is_turned(alternative, answer):
        return "different"
    left, right = trees(alternative)[:1], trees(answer)  # a gold has one reading: 1,234 is a number
    if not left or not right:
        return "unreadable" if left else "undecided"
    undecided = False
    for one in left:
        for two in right:
            try:
                if same(one, two, leeway):
                    return "equal"
            except Undecided:
                undecided = True
    if undecided:
        return "undecided"
    several = ("list", "either", "set")
    return "hedged" if right[0].op in several and left[0].op not in several else "different"


def _plain_value(text: str) -> tuple[int, str]:
    """A plain number as its whole part and its decimals, both without idle zeros; -0.5 and 0.5 differ in the sign."""
    whole, _, decimals = text.lstrip("-").partition(".")
    decimals = decimals.rstrip("0")
    return (-int(whole) if text[0] == "-" else int(whole)), (
        text[0] == "-" and int(whole) == 0 and bool(decimals)
    ) * "-" + decimals


# --- types ------------------------------------------------------------------------------------------------------------
_FORMS = {
    "list": "list", "either": "list", "set": "set", "union": "interval", "matrix": "matrix", "based": "base", "ratio": "ratio",
    "mixed": "mixed", "pct": "percent", "deg": "degrees", "unit": "unit", "fact": "integer",
}  # fmt: skip


@lru_cache(maxsize=20_000)
def type_of(text: str) -> str:
    plain = bare(text)
    if CHOICE.fullmatch(plain) and (plain[0] == "(" or "A" <= plain <= "H"):
        return "choice"
    if plain.lower() in _ANSWER_WORDS or _NO_ARITHMETIC.fullmatch(plain):
        return "text"
    forms = trees(text)
    if "\\text" in text and plain.isalpha() and not (forms and forms[0].op == "num"):
        return "text"
    if not forms:
        return "formula" if "\\" in TEXT_GROUP.sub("", normalise(text)) else "text"
    return _node_type(forms[0])


def _node_type(node: Node) -> str:
    while node.op == "neg":
        node = node.args[0]
    if node.op == "num":
        written = node.args[1]
        return (
            "scientific"
            if "e" in written.lower() and written != "repeating"
            else "decimal"
            if "." in written
            else "integer"
        )
    if node.op in _FORMS:
        return _FORMS[node.op]
    if node.op == "tuple":
        return "interval" if "infty" in constants(node) or node.args[:2] != ("(", ")") else "tuple"
    if node.op == "rel":
        return "equation" if set(node.args[0]) <= {"=", "approx"} else "inequality"
    if symbols(node) or contains(node, ("fn", "binom", "floor", "ceil")):
        return "expression"
    if contains(node, ("root",)):
        return "radical"
    if "i" in constants(node):
        return "complex"
    if "pi" in constants(node):
        return "pi"
    power = node.args[-1] if node.op == "mul" else node
    if power.op == "pow" and power.args[0].op == "num" and power.args[0].args[0] == 10:
        return "scientific"
    return "fraction" if node.op == "div" else "arithmetic"


# --- readings ---------------------------------------------------------------------------------------------------------
@lru_cache(maxsize=20_000)
def trees(text: str) -> tuple[Node, ...]:
    """How a text can be read: `1,234` is a number or a list. Empty when it cannot be."""
    clean = normalise(text)
    lead = _LEAD.match(clean)
    clean = clean[lead.end() :] if lead else clean
    readings = [clean if _DIGIT.search(clean) else _NUMBER_WORDS.get(bare(clean).lower(), clean)]
    if _THOUSANDS.search(clean) and not any(opening in clean for opening in ("(", "[", "\\{")):
        readings.insert(0, _THOUSANDS.sub(lambda m: m[0].replace(",", ""), clean))
    found = []
    for reading in readings:
        try:
            found.append(parse(reading))
        except Unreadable:
            continue
    return tuple(found)
