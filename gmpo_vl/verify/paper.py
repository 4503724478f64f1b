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
from gmpo_vl.verify.hendrycks import string_form
from gmpo_vl.verify.normalise import normalise
from gmpo_vl.verify.parse import parse
from gmpo_vl.verify.prm800k import plain_form, same_elements
from gmpo_vl.verify.quantities import roughly
from gmpo_vl.verify.tokens import Unreadable

Grader = Literal["gmpo", "mathruler"]
_APART = 1e-3  # absolute and relative; math-verify rounds to six places
_ALIKE = frozenset("num neg add sub mul div root const".split())
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
    ours, theirs = plain_form(gold), plain_form(answer)
    if ours == theirs or same_elements(ours, theirs):
        return "equal"
    if older or any(len(text) > 128 and _repeats(text) for text in (gold, answer)):
        return "different"
    return "different" if _numbers_apart(gold, answer) else "ask"


def _numbers_apart(gold: str, answer: str) -> bool:
    """Two numbers that no rounding could make equal. math-verify says so, too, a thousand times slower."""
    one, two = _number(gold), _number(answer)
    return one is not None and two is not None and abs(one - two) > _APART * max(1.0, abs(one), abs(two))


@lru_cache(maxsize=20_000)
def _number(text: str) -> complex | None:
    """The value of what every grammar reads alike: sums, products, fractions and roots of numbers and pi."""
    try:
        node = parse(normalise(text))
    except Unreadable:
        return None
    return roughly(node) if node.summary.ops <= _ALIKE and node.summary.constants <= {"pi"} else None


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
