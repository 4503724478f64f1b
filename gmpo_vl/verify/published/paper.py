r"""The paper profile: the decisions of the published graders, so that numbers compare. Its mistakes are
theirs.

- `gmpo`: the text benchmarks, as Dr.GRPO's and GMPO's boxed_reward_fn(fast=False): the string rules, or the
  sympy rules, or math-verify.
- `mathruler`: Geometry3K, as EasyR1's math reward with mathruler 0.1.0: the string rules (an older form), or
  the sympy rules.

The rules are written anew from their behaviour. Two things differ on purpose: where they call sympy's parser,
which runs what it reads, stands our own evaluation; where they can hang, a bound or a deadline refuses.
"""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import pairwise
from typing import Literal

from gmpo_vl.verify.extract import MAX_ANSWER, Extracted
from gmpo_vl.verify.normalise import normalise
from gmpo_vl.verify.parse import parse
from gmpo_vl.verify.published.hendrycks import string_form
from gmpo_vl.verify.published.prm800k import plain_form, same_elements
from gmpo_vl.verify.quantities import far_apart
from gmpo_vl.verify.tokens import Unreadable
from gmpo_vl.verify.tree import Node, is_name

Grader = Literal["gmpo", "mathruler"]
_ALIKE = frozenset("num sym const neg add sub mul div root pow fn".split())
_ALIKE_FUNCTIONS = frozenset("sin cos tan ln exp".split())
# 2^34 may be 2^3 4, 1,234 a number, and 0.333... what stands there and no more.
_READ_OTHERWISE = re.compile(r"\^\s*\d\s*\d|\d,\d{3}|\.\.\.|\u2026|\\l?dots")
# \Gamma(5) may be a function's value: what is no operation or function of _ALIKE_FUNCTIONS stands before a
# bracket.
_APPLIED = re.compile(
    r"(?:\\(?!(?:left|right|c?dot|times|div|pm|mp|sin|cos|tan|ln|exp|pi|quad"
    r"|[bB]igg?[lr]?)(?![a-zA-Z]))[a-zA-Z]+"
    r"|[Α-Ωα-ωϕϵ])\s*(?:\\left|\\[bB]igg?l?)?\s*\("
)
_BRACES = re.compile(r"[{}]")


# --- where the answer stands ----------------------------------------------------------------------------
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


# --- the decision ---------------------------------------------------------------------------------------
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
    return "different" if _clearly_different(gold, answer) else "ask"


def _clearly_different(gold: str, answer: str) -> bool:
    """An item of the gold that no rounding could make one of the answer's, or an equation that no scaling and
    no rearrangement could make the other. math-verify says so, too, a thousand times slower.
    """
    one, two = _alike(gold), _alike(answer)
    if one is None or two is None or any((one.op == op) != (two.op == op) for op in ("rel", "deg")):
        return False
    if one.op == "deg":
        return far_apart(one.args[0], two.args[0])
    if one.op == "rel":
        (name, value), (other_name, other_value) = one.args[1], two.args[1]
        if name == other_name and _is_solved(one) and _is_solved(two):  # y = 2x and y = 3x
            return far_apart(value, other_value)
        ours, theirs = one.symbols, two.symbols
        if ours & theirs or not (ours and theirs):  # x + y = 4 and 2x = 8 - 2y; 5 = 0 and 10 = 0
            return False
        left, right = Node("sub", one.args[1]), Node("sub", two.args[1])
        if is_name(name) and is_name(other_name) and not far_apart(value, other_value):  # x = 5 for y = 5
            return False
        return far_apart(left, right) and far_apart(left, Node("neg", (right,)))
    items, others = _items(one), _items(two)
    if len(items) not in (1, len(others)):  # they take some parts for the whole
        return False
    return any(all(far_apart(item, other) for other in others) for item in items)


def _is_solved(equation: Node) -> bool:
    """y = 2x, but not y = 2y - x: the symbol on the left stands nowhere else."""
    left, right = equation.args[1]
    return left.op == "sym" and not left.symbols & right.symbols


@lru_cache(maxsize=20_000)
def _alike(text: str) -> Node | None:
    """The tree of what every grammar reads alike: sums, products, fractions, roots and powers; lists of
    those; two of them that are equal. None for anything else.
    """
    if _READ_OTHERWISE.search(text) or _APPLIED.search(text):
        return None
    try:
        node = parse(normalise(text))
    except Unreadable:
        return None
    parts = node.args[1] if node.op == "rel" and node.args[0] == ("=",) else _items(node)
    parts = node.args if node.op == "deg" else parts
    known = all(part.summary.ops <= _ALIKE and part.summary.functions <= _ALIKE_FUNCTIONS for part in parts)
    return node if known else None


def _items(node: Node) -> tuple[Node, ...]:
    if node.op in ("list", "either", "set"):
        return node.args
    return node.args[2] if node.op == "tuple" else (node,)


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
