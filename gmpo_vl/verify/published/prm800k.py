"""The sympy rules of the published graders (PRM800K): LaTeX to plain text, then equal element by element.

Written anew from their behaviour; their mistakes are part of it. Where they call sympy's parser, which runs
what it reads, stands our own evaluation.
"""

from __future__ import annotations

import re
from functools import lru_cache

from gmpo_vl.verify.parse import parse
from gmpo_vl.verify.published.hendrycks import ENCLOSING_TEXT
from gmpo_vl.verify.published.latex_text import latex_to_text
from gmpo_vl.verify.quantities import Undecided, same_quantity
from gmpo_vl.verify.tokens import Unreadable
from gmpo_vl.verify.tree import Node, substituted, sym

_PLAIN_UNITS = (
    "degree cm centimeter meter mile second minute hour day week month year foot feet inch yard".split()
)
_PLAIN_UNIT_RULES = [(u, re.compile(rf"{u}(es)?(s)? *(\^[0-9]+)?")) for u in _PLAIN_UNITS]
_PLAIN_SPELLINGS = (
    ("\\%", "%"), ("\\$", "$"), ("$", ""), ("%", ""), (" or ", " , "), (" and ", " , "),
    ("million", "*10^6"), ("billion", "*10^9"), ("trillion", "*10^12"),
)  # fmt: skip
_THOUSANDS = re.compile(r"(\d),(\d\d\d)(?=$|\D)")
_BRACKETED = re.compile(r"[()\[\]][^()\[\]]+[()\[\]]")
_FRACTION = re.compile(r"-?[0-9]+.?/0*[1-9][0-9]*.?")
_LARGE_POWER = re.compile(r"\^\(|\^\{|\^[0-9]+\^|\^[0-9][0-9]+")
_DECIMAL_POWER = re.compile(r"\^-?[0-9]*\.")
_LETTERS = re.compile(r"[a-z]+")
_NAMES = set(["sqrt", "pi", "sin", "cos", "tan", "cot", "sec", "csc", "log", "ln", "exp"])
_ARITHMETIC = re.compile(r"[0-9a-z+\-*/^().! ]*")
_SIGNS = str.maketrans({"√": "sqrt", "π": "pi", "∞": "inf", "∪": "U", "·": "*", "×": "*"})


@lru_cache(maxsize=20_000)
def plain_form(text: str) -> str:
    """LaTeX as plain text, without units, spaces, braces and case. Brackets around a denominator are lost."""
    enclosed = ENCLOSING_TEXT.search(text)
    text = enclosed[1] if enclosed else text
    for written, plain in _PLAIN_SPELLINGS:
        text = text.replace(written, plain)
    for needle, rule in _PLAIN_UNIT_RULES:
        text = rule.sub("", text) if needle in text else text
    text = re.sub(r"\^ {0,50}\\circ", "", text)
    if text.startswith("{") and text.endswith("}"):
        text = text[1:-1]
    text = re.sub(r",\\! *", "", text)
    text = _whole(text)
    if "\\" in text:
        text = latex_to_text(re.sub(r"\\[td]?frac", r" \\frac", text)).translate(_SIGNS).strip()
    text = re.sub(r"- *", "-", text)
    text = re.sub(r"([0-9]) +([0-9])", r"\1+\2", text)
    text = text.replace(" ", "").replace("{", "").replace("}", "").lower()
    return _whole(_without_thousands(text)) if _is_whole(text) else text


def _without_thousands(text: str) -> str:
    while (shorter := _THOUSANDS.sub(r"\1\2", text)) != text:
        text = shorter
    return text


def _nearest(text: str) -> int | None:
    """The whole number that a decimal is within 1e-7 of; None for anything else."""
    try:
        value = float(text)
    except ValueError:
        return None
    return round(value) if abs(value) < 1e300 and abs(value - round(value)) <= 1e-7 else None


def _is_whole(text: str) -> bool:
    return _nearest(_without_thousands(text)) is not None


def _whole(text: str) -> str:
    nearest = _nearest(text)
    return text if nearest is None else str(nearest)


def _elements(text: str) -> list[str]:
    text = _without_thousands(text)
    if _BRACKETED.fullmatch(text):
        return [element.strip() for element in text[1:-1].split(",")]
    return [text] if text else []


def same_elements(ours: str, theirs: str) -> bool:
    one, two = _elements(ours), _elements(theirs)
    if not theirs or not ours or len(one) != len(two):
        return False
    if len(one) > 1 and (ours[0], ours[-1]) != (theirs[0], theirs[-1]):
        return False
    return all(_same_element(g, a) for g, a in zip(one, two))


def _same_element(gold: str, answer: str) -> bool:
    if _FRACTION.fullmatch(gold) and _FRACTION.fullmatch(answer):
        return gold == answer
    if _is_whole(gold) != _is_whole(answer):
        return False
    joined = f"({gold})-({answer})"
    letters = {c for c in joined.replace("sqrt", "").replace("frac", "") if c.isalpha()}
    if len(letters) > 2 or _LARGE_POWER.search(joined) or not _ARITHMETIC.fullmatch(gold + answer):
        return False
    # A full stop at the end makes no number; floating point leaves a rest in a power with decimals.
    if "." in (gold[-1:], answer[-1:]) or _DECIMAL_POWER.search(joined):
        return False
    try:
        return same_quantity(_symbolic(parse(_split_letters(gold))), _symbolic(parse(_split_letters(answer))))
    except (Unreadable, Undecided):
        return False


def _split_letters(text: str) -> str:
    """Letters in a row are a product of symbols, unless they spell a function as a whole."""
    return _LETTERS.sub(lambda run: run[0] if run[0] in _NAMES else " ".join(run[0]), text)


def _symbolic(node: Node) -> Node:
    """Their e and i are symbols like any other."""
    for name in ("e", "i"):
        if name in node.summary.constants:
            node = substituted(node, Node("const", (name,)), sym(name))
    return node
