r"""The paper profile: the decisions of the published graders, so that numbers compare. Its mistakes are theirs.

- `gmpo`: the text benchmarks, as Dr.GRPO's and GMPO's boxed_reward_fn(fast=False): the string rules, or the sympy rules,
  or math-verify.
- `mathruler`: Geometry3K, as EasyR1's math reward with mathruler 0.1.0: the string rules (an older form), or the sympy
  rules.

The rules are written anew from their behaviour. Two things differ on purpose: where they call sympy's parser, which runs
what it reads, stands our own evaluation; where they can hang, a bound or a deadline refuses.
"""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import pairwise
from typing import Literal

from gmpo_vl.verify.extract import MAX_ANSWER, Extracted
from gmpo_vl.verify.latex_text import latex_to_text
from gmpo_vl.verify.parse import parse
from gmpo_vl.verify.quantities import Undecided, same_quantity
from gmpo_vl.verify.tokens import Unreadable
from gmpo_vl.verify.tree import Node, constants, substituted

Grader = Literal["gmpo", "mathruler"]
_BRACES = re.compile(r"[{}]")


# --- where the answer stands ------------------------------------------------------------------------------------------
def extract(grader: Grader, response: str) -> Extracted:
    """The last box, braces counted without regard to escapes, as both graders do."""
    start = response.rfind("\\boxed{" if grader == "mathruler" else "\\boxed")
    if start < 0 or not response.startswith("\\boxed{", start):
        return Extracted(None, "no_answer")
    opening, depth = start + len("\\boxed"), 0
    for brace in _BRACES.finditer(response, opening, opening + MAX_ANSWER + 1):
        depth += 1 if brace[0] == "{" else -1
        if depth == 0:
            content = response[opening + 1 : brace.start()]
            return Extracted(content.strip() if grader == "mathruler" else content)
    return Extracted(None, "truncated" if len(response) - opening <= MAX_ANSWER else "too_long")


# --- the decision -----------------------------------------------------------------------------------------------------
@lru_cache(maxsize=20_000)
def judge(grader: Grader, gold: str, answer: str) -> str:
    """`equal`, `different`, or `ask` where GMPO's grader goes on to math-verify."""
    older = grader == "mathruler"
    if string_form(gold, older) == string_form(answer, older):
        return "equal"
    ours, theirs = _plain_form(gold), _plain_form(answer)
    if ours == theirs or _same_elements(ours, theirs):
        return "equal"
    if older or any(len(text) > 128 and _repeats(text) for text in (gold, answer)):
        return "different"
    return "ask"


# --- the string rules (Hendrycks; GMPO's with units) ------------------------------------------------------------------
_UNITS = [
    "east",
    "degree",
    "mph",
    "kmph",
    "ft",
    "m sqaure",
    " m east",
    "sq m",
    "deg",
    "mile",
    "q .",
    "monkey",
    "prime",
    "ratio",
    "profit of rs",
    "rd",
    "o",
    "gm",
    "p . m",
    "lb",
    "tile",
    "per",
    "dm",
    "lt",
    "gain",
    "ab",
    "way",
    "west",
    "a .",
    "b .",
    "c .",
    "d .",
    "e .",
    "f .",
    "g .",
    "h .",
    "t",
    "a",
    "h",
    "no change",
    "men",
    "soldier",
    "pie",
    "bc",
    "excess",
    "st",
    "inches",
    "noon",
    "percent",
    "by",
    "gal",
    "kmh",
    "c",
    "acre",
    "rise",
    "a . m",
    "th",
    "π r 2",
    "sq",
    "mark",
    "l",
    "toy",
    "coin",
    "sq . m",
    "gallon",
    "° f",
    "profit",
    "minw",
    "yr",
    "women",
    "feet",
    "am",
    "pm",
    "hr",
    "cu cm",
    "square",
    "v â € ™",
    "are",
    "rupee",
    "rounds",
    "cubic",
    "cc",
    "mtr",
    "s",
    "ohm",
    "number",
    "kmph",
    "day",
    "hour",
    "minute",
    "min",
    "second",
    "man",
    "woman",
    "sec",
    "cube",
    "mt",
    "sq inch",
    "mp",
    "∏ cm ³",
    "hectare",
    "more",
    "sec",
    "unit",
    "cu . m",
    "cm 2",
    "rs .",
    "rs",
    "kg",
    "g",
    "month",
    "km",
    "m",
    "cm",
    "mm",
    "apple",
    "liter",
    "loss",
    "yard",
    "pure",
    "year",
    "increase",
    "decrease",
    "d",
    "less",
    "Surface",
    "litre",
    "pi sq m",
    "s .",
    "metre",
    "meter",
    "inch",
]
_UNIT_RULES = [
    (u.partition(".")[0], re.compile(rf"(^|\W){u}($|\W)")) for u in _UNITS + [u + "s" for u in _UNITS]
]
_ENCLOSING_TEXT = re.compile(r"^\\text\{(.+?)\}$")
_UNBRACED_FRACTION = re.compile(r"\\frac(?!\{)(.)(.)", re.DOTALL)
_UNBRACED_ROOT = re.compile(r"\\sqrt(?!\{)(.)", re.DOTALL)
_SLASH = re.compile(r"(0|-?[1-9]\d*)/(0|-?[1-9]\d*)")


@lru_cache(maxsize=20_000)
def string_form(text: str, older: bool) -> str:
    """The form that must be the same string. older: mathruler's, without unit words and matrices."""
    text = text.strip()
    enclosed = _ENCLOSING_TEXT.search(text)
    text = enclosed[1].strip() if enclosed else text
    before = text
    text = text.replace("\n", "").replace("\\!", "").replace("\\\\", "\\")
    if not older:
        text = re.sub(r"\\begin\{array\}\{[^}\n]*\}", r"\\begin{pmatrix}", text).replace(
            "\\end{array}", "\\end{pmatrix}"
        )
        text = text.replace("bmatrix", "pmatrix")
    text = text.replace("tfrac", "frac").replace("dfrac", "frac")
    if not older:
        text = text.replace("\\neq", "\\ne").replace("\\leq", "\\le").replace("\\geq", "\\ge")
    text = text.replace("\\left", "").replace("\\right", "")
    if not older:
        text = _without_unit_words(text)
    text = text.replace("^{\\circ}", "").replace("^\\circ", "").replace("\\$", "")
    if text.count("\\text{ ") > 1:  # their rule gives up here and keeps the text as it was
        return before
    text = text.partition("\\text{ ")[0].replace("\\%", "")
    text = text.replace("%", "") if older else text
    text = text.replace(" .", " 0.").replace("{.", "{0.")
    if not text:
        return text
    text = "0" + text if text[0] == "." else text
    left, equals, right = text.partition("=")
    text = right if equals and "=" not in right and len(left) <= 2 else text
    if text.endswith(("\\sqrt", "\\frac")):
        return before
    text = _UNBRACED_ROOT.sub(r"\\sqrt{\1}", text).replace(" ", "")
    text = _braced_fractions(text)
    slash = _SLASH.fullmatch(text)
    return "\\frac{1}{2}" if text == "0.5" else f"\\frac{{{slash[1]}}}{{{slash[2]}}}" if slash else text


def _without_unit_words(text: str) -> str:
    """Their longest-lived trap: single letters and words such as `a`, `t`, `o` go as units."""
    trimmed = _last_text_command(text)
    text = trimmed if trimmed else text
    for _ in range(2):
        for needle, rule in _UNIT_RULES:
            if needle in text and (shorter := rule.sub(r"\1\2", text)):
                text = shorter
    return text


def _last_text_command(text: str) -> str:
    r"""What stands before the first `\text{` if the whole ends with a brace; "" otherwise."""
    start = text.find("\\text{")
    return text[:start].strip() if start >= 0 and text.endswith("}") else ""


def _braced_fractions(text: str) -> str:
    first, *rest = text.split("\\frac")
    done = first
    for piece in rest:
        if not piece.startswith("{"):
            if len(piece) < 2:
                return text
            second = piece[1] if piece[1] == "{" else "{" + piece[1] + "}"
            piece = "{" + piece[0] + "}" + second + piece[2:]
        done += "\\frac" + piece
    return done


# --- the sympy rules (PRM800K) ----------------------------------------------------------------------------------------
_PLAIN_UNITS = [
    "degree",
    "cm",
    "centimeter",
    "meter",
    "mile",
    "second",
    "minute",
    "hour",
    "day",
    "week",
    "month",
    "year",
    "foot",
    "feet",
    "inch",
    "yard",
]
_PLAIN_UNIT_RULES = [(u, re.compile(rf"{u}(es)?(s)? *(\^[0-9]+)?")) for u in _PLAIN_UNITS]
_BIG_NUMBERS = (("million", "*10^6"), ("billion", "*10^9"), ("trillion", "*10^12"))
_THOUSANDS = re.compile(r"(\d),(\d\d\d)(?=$|\D)")
_FRACTION = re.compile(r"-?[0-9]+.?/0*[1-9][0-9]*.?")
_LARGE_POWER = re.compile(r"\^\(|\^\{|\^[0-9]+\^|\^[0-9][0-9]+")
_DECIMAL_POWER = re.compile(r"\^-?[0-9]*\.")
_LETTERS = re.compile(r"[a-z]+")
_NAMES = set(["sqrt", "pi", "sin", "cos", "tan", "cot", "sec", "csc", "log", "ln", "exp"])
_ARITHMETIC = re.compile(r"[0-9a-z+\-*/^().! ]*")
_SIGNS = str.maketrans({"√": "sqrt", "π": "pi", "∞": "inf", "∪": "U", "·": "*", "×": "*"})


@lru_cache(maxsize=20_000)
def _plain_form(text: str) -> str:
    """LaTeX as plain text, without units, spaces, braces and case; structure such as brackets around a denominator is lost."""
    enclosed = _ENCLOSING_TEXT.search(text)
    text = enclosed[1] if enclosed else text
    text = (
        text.replace("\\%", "%")
        .replace("\\$", "$")
        .replace("$", "")
        .replace("%", "")
        .replace(" or ", " , ")
        .replace(" and ", " , ")
    )
    for word, power in _BIG_NUMBERS:
        text = text.replace(word, power)
    for needle, rule in _PLAIN_UNIT_RULES:
        text = rule.sub("", text) if needle in text else text
    text = re.sub(r"\^ {0,50}\\circ", "", text)
    if text.startswith("{") and text.endswith("}"):
        text = text[1:-1]
    text = re.sub(r",\\! *", "", text)
    text = _whole(text)
    if "\\" in text:
        text = latex_to_text(
            text.replace("\\tfrac", "\\frac").replace("\\dfrac", "\\frac").replace("\\frac", " \\frac")
        )
        text = text.translate(_SIGNS).strip()
    text = re.sub(r"- *", "-", text)
    text = re.sub(r"([0-9]) +([0-9])", r"\1+\2", text)
    text = text.replace(" ", "").replace("{", "").replace("}", "").lower()
    return _whole(_without_thousands(text)) if _is_whole(text) else text


def _without_thousands(text: str) -> str:
    while (shorter := _THOUSANDS.sub(r"\1\2", text)) != text:
        text = shorter
    return text


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _is_whole(text: str) -> bool:
    value = _number(_without_thousands(text))
    return value is not None and abs(value) < 1e300 and abs(value - round(value)) <= 1e-7


def _whole(text: str) -> str:
    """A decimal within 1e-7 of a whole number as that number."""
    value = _number(text)
    return (
        str(round(value))
        if value is not None and abs(value) < 1e300 and abs(value - round(value)) <= 1e-7
        else text
    )


def _elements(text: str) -> list[str]:
    text = _without_thousands(text)
    if (
        len(text) > 2
        and text[0] in "()[]"
        and text[-1] in "()[]"
        and not any(c in "()[]" for c in text[1:-1])
    ):
        return [element.strip() for element in text[1:-1].split(",")]
    return [text] if text else []


def _same_elements(ours: str, theirs: str) -> bool:
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
    if (
        gold.endswith(".") or answer.endswith(".") or _DECIMAL_POWER.search(joined)
    ):  # no number; floating point with a rest
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
        if name in constants(node):
            node = substituted(node, Node("const", (name,)), Node("sym", (name,)))
    return node


def _repeats(text: str) -> bool:
    """Whether more than a fifth of all substrings occur again, which they take for babble."""
    text = text[:MAX_ANSWER]
    order = sorted(range(len(text)), key=lambda i: text[i:])
    shared = 0
    for i, j in pairwise(order):
        n, most = 0, len(text) - max(i, j)
        while n < most and text[i + n] == text[j + n]:
            n += 1
        shared += n
    return shared * 2 > 0.2 * len(text) * (len(text) + 1)
