"""CountDown: an expression that reaches the target and uses every given number exactly once.

The gold is the target, with the numbers as `choices` (`encode_answer("45", type="countdown", choices=["30", "71", ...])`).
The rules are TinyZero's: + - * / and brackets only. The value is computed exactly, by our own parser.
"""

from __future__ import annotations

import re
from fractions import Fraction

from gmpo_vl.verify.evaluate import evaluate
from gmpo_vl.verify.gold import Gold
from gmpo_vl.verify.parse import parse
from gmpo_vl.verify.tokens import Unreadable

MAX_EXPRESSION = 200  # characters
_ALLOWED = re.compile(r"[0-9+\-*/() \t]+")
_NO_OPERATOR = re.compile(r"[\d)]\s*\(|\)\s*\d|\d\s+\d|\*\s*\*|/\s*/")


def judge(gold: Gold, answer: str) -> str:
    """`equal` where it is right, `different` where the value is another, `invalid` for everything else."""
    left, _, right = answer.strip().partition("=")
    if right.strip() not in ("", gold.alternatives[0]):  # "30 + 15 = 45" may say what it reaches
        return "invalid"
    if len(left) > MAX_EXPRESSION or not _ALLOWED.fullmatch(left) or _NO_OPERATOR.search(left):
        return "invalid"
    if sorted(map(int, re.findall(r"\d+", left))) != sorted(map(int, gold.choices)):
        return "invalid"
    try:
        value = evaluate(parse(left.strip()))
    except (Unreadable, ArithmeticError):
        return "invalid"
    return "equal" if value == Fraction(gold.alternatives[0]) else "different"
