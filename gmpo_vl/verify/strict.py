"""The strict profile: a gold and the content of a box to an outcome."""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache

from gmpo_vl.verify.arithmetic import evaluate
from gmpo_vl.verify.choices import choices_of, judge_choice, judge_letters
from gmpo_vl.verify.gold import Gold
from gmpo_vl.verify.json_answers import answer_of_json
from gmpo_vl.verify.lex import MAX_CHARS
from gmpo_vl.verify.lists import judge_list
from gmpo_vl.verify.normalise import unmarked
from gmpo_vl.verify.parse import parse
from gmpo_vl.verify.quantities import Leeway
from gmpo_vl.verify.tokens import Unreadable
from gmpo_vl.verify.values import judge_value, type_of
from gmpo_vl.verify.words import bare, yes_or_no


@lru_cache(maxsize=50_000)
def judge(gold: Gold, answer: str) -> str:
    """The outcome for the content of a box: one of those that types.Verdict lists."""
    if len(answer) > MAX_CHARS:
        return "too_long"
    if gold.type == "countdown":
        return _judge_countdown(gold, answer)
    answer = unmarked(answer_of_json(answer) or answer)
    if gold.type == "list":
        return judge_list(gold.alternatives, Leeway(gold.tolerance), answer)
    if choices := choices_of(gold):
        outcomes = [judge_choice(choice, Leeway(gold.tolerance), answer) for choice in choices]
    else:
        outcomes = [_judge(alternative, gold, answer) for alternative in gold.alternatives]
    return "equal" if "equal" in outcomes else "undecided" if "undecided" in outcomes else outcomes[0]


# Numbers of groups, phases and statements. Not L, C, D and M: sides of figures are called CM.
_ROMAN = re.compile(r"(?=[IVX]{2})X{0,3}(?:IX|IV|V?I{0,3})")


def _judge(alternative: str, gold: Gold, answer: str) -> str:
    if _ROMAN.fullmatch(alternative) and _ROMAN.fullmatch(said := bare(answer)):  # no product of I and V
        return "equal" if alternative == said else "different"
    letters = gold.type is None or (gold.type == "text" and not alternative.isalpha())  # AC may be a word
    if letters and (outcome := judge_letters(alternative, answer)):
        return outcome
    if gold.type == "text" and alternative.lower() in ("yes", "no") and (said := yes_or_no(answer)):
        return "equal" if said == alternative.lower() else "different"
    # A gold that is called a choice and names no letter is read as what it is.
    kind = gold.type if gold.type not in (None, "choice") else type_of(alternative)
    return judge_value(alternative, kind, Leeway(gold.tolerance, kind == "rounded"), answer)


@lru_cache(maxsize=50_000)
def gold_type(gold: Gold) -> str:
    """What a gold is read as; the field of the verdict."""
    return gold.type or ("choice" if gold.choices else type_of(gold.alternatives[0]))


# --- CountDown ----------------------------------------------------------------------------------------
MAX_EXPRESSION = 200  # characters
_ALLOWED = re.compile(r"[0-9+\-*/() \t]+")
_NO_OPERATOR = re.compile(r"[\d)]\s*\(|\)\s*\d|\d\s+\d|\*\s*\*|/\s*/")


def _judge_countdown(gold: Gold, answer: str) -> str:
    """An expression reaches the target and uses every given number exactly once. The rules are TinyZero's.

    The gold is the target, with the numbers as `choices`. Only + - * / and brackets are allowed, and our own
    parser computes the value exactly. `equal` where it is right, `different` for another value, `invalid` for
    everything else.
    """
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
