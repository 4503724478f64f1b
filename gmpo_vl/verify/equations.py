"""Equations and inequalities up to a constant factor: what is left of `left - right` when terms are moved and everything is scaled.

Nothing is multiplied by what can vanish (y = 6/x is not xy = 6), and no equation is solved (x = 3 is not x^2 = 9).
"""

from __future__ import annotations

import random
from fractions import Fraction
from typing import Any

from gmpo_vl.verify.evaluate import evaluate, real
from gmpo_vl.verify.quantities import Undecided, same_quantity
from gmpo_vl.verify.tree import Node, contains, num, slow_steps, substituted, symbols, without

_TRIES = 4  # points at which a value other than 0 is looked for
_MAX_SLOW = 12  # powers, roots and functions: at the point, and at those where the two are compared


def difference(sides: tuple[Node, Node]) -> Node:
    """left - right; ad - bc for the proportion a : b = c : d."""
    left, right = sides
    if left.op == right.op == "ratio" and len(left.args) == len(right.args) == 2:
        left, right = (
            Node("mul", (left.args[0], right.args[1])),
            Node("mul", (left.args[1], right.args[0])),
        )
    return Node("sub", (left, right))


def proportional(ours: Node, theirs: Node, positive: bool = False) -> bool:
    """Whether one expression is the other times a constant other than 0 (above 0, if `positive`), and neither is 0 everywhere.

    Raises quantities.Undecided.
    """
    names = symbols(ours)
    if not names or names != symbols(theirs) or contains(ours, ("unit",)) or contains(theirs, ("unit",)):
        return False
    if max(slow_steps(ours), slow_steps(theirs)) > _MAX_SLOW:
        raise Undecided("too many powers and functions")
    ours, theirs = without(ours, "deg"), without(theirs, "deg")
    for k in range(_TRIES):
        point = _point(names, k)
        here, there = _value(ours, point), _value(theirs, point)
        if not here or not there:
            continue
        if positive and (real(here).imag or real(there).imag or (here > 0) != (there > 0)):
            return False
        if type(here) is Fraction and type(there) is Fraction:
            return same_quantity(ours, Node("mul", (num(here / there), theirs)))
        one, two = (_at(node, point) for node in (ours, theirs))
        return same_quantity(Node("mul", (ours, two)), Node("mul", (theirs, one)))
    return False


def _point(names: frozenset[str], k: int) -> dict[str, Fraction]:
    draw = random.Random(k)
    return {name: Fraction(draw.randint(100, 500), 149) for name in sorted(names)}


def _value(node: Node, point: dict[str, Fraction]) -> Any:
    """The value at a point; None where it has none, or one that may be 0 but for rounding."""
    try:
        value = evaluate(node, point)
    except (ArithmeticError, ValueError):
        return None
    return value if type(value) is Fraction or abs(value) > 1e-30 else None


def _at(node: Node, point: dict[str, Fraction]) -> Node:
    for name, value in point.items():
        node = substituted(node, Node("sym", (name,)), num(value))
    return node
