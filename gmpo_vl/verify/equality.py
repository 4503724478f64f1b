"""Are two trees the same answer? Each type has its own rule, and structure is never dropped.

| gold | the answer must be |
|---|---|
| number, expression | equal (quantities.py) |
| list, set | the same items in any order, all of them and no more |
| tuple | the same items in order between the same brackets |
| interval, inequality, set of numbers | the same numbers (regions.py), or equal up to a positive factor |
| ratio | in proportion |
| matrix | the same shape and entries |
| equation | the same up to a constant factor, terms moved across |
| a number in a base | the same digits in the same base |

An answer may name its value (`x = 5`, `m\\angle A = 120`) and show how it came about (`3 + 4 = 7`), if every
link holds.
"""

from __future__ import annotations

import random
import re
from fractions import Fraction
from itertools import pairwise
from typing import Any

from gmpo_vl.verify.arithmetic import real
from gmpo_vl.verify.quantities import (
    EXACT,
    Leeway,
    Point,
    Undecided,
    clearly_apart,
    roughly,
    rounds_to,
    same_quantity,
    value_at,
)
from gmpo_vl.verify.regions import FLIPPED, ORDERS, is_ordered, region, same_region, speaks_of_region
from gmpo_vl.verify.tree import OF_SEVERAL, Node, both_signs, is_name, num, substituted, sym, without
from gmpo_vl.verify.vectors import aligned, components

_CLOCK = re.compile(r"\d{1,2}:[0-5]\d")
_NUMBERS = frozenset("num const add sub mul div neg pow root mixed unit deg pct".split())
_QUANTITIES = _NUMBERS | {"sym"}
_LISTS = ("list", "either", "set")
_STRUCTURES = (*_LISTS, "tuple", "union", "matrix", "cases", "case", "rel", "based")


def same(gold: Node, answer: Node, leeway: Leeway = EXACT) -> bool:
    """Whether `answer` is the same answer as `gold`. Raises quantities.Undecided."""
    if gold == answer:
        return True
    if gold.summary.ops <= _NUMBERS and answer.summary.ops <= _QUANTITIES:  # most of them
        return same_quantity(gold, answer, leeway)
    if not answer.summary.functions.isdisjoint(OF_SEVERAL) and gold.summary.functions.isdisjoint(OF_SEVERAL):
        return False  # \min(7, 8) is a way not to say 7
    gold, answer = aligned(_spread(gold), _spread(answer))
    if gold.op == "numbers" and answer.op == "sym":  # R
        return gold.args == answer.args
    if speaks_of_region(gold) or speaks_of_region(answer):
        ours = region(gold)
        theirs = region(answer) if ours else None
        if ours and theirs and (is_ordered(ours) or same_region(ours, theirs, leeway)):
            return same_region(ours, theirs, leeway)
        gold, answer = (Node("list", node.args) if node.op == "both" else node for node in (gold, answer))
    if gold.op == "list" and answer.op in _LISTS and components(gold):  # x = 2, y = 3 is no {3, 2}
        if answer.op == "either" or (answer.op == "set" and not answer.contains("rel")):
            return False
        if not answer.symbols:
            return _in_order(tuple(item.args[1][1] for item in gold.args), answer.args, leeway)
    if gold.op == "rel":
        return _same_relation(gold, answer, leeway)
    if gold.op in ("tuple", "set") and _is_member(answer):
        return same(gold, answer.args[1][1], leeway)
    if answer.op == "rel":
        return _value_of_chain(gold, answer, leeway)
    if gold.op in _LISTS:
        return answer.op in _LISTS and _same_items(gold, answer, leeway)
    if gold.op == "ratio" and answer.op == "ratio":
        return _in_proportion(gold.args, answer.args)
    if any(_is_clock_time(node) for node in (gold, answer)):
        return _is_quotient_of(gold, answer) or _is_quotient_of(answer, gold)
    if gold.op in _STRUCTURES or answer.op in _STRUCTURES:
        return gold.op == answer.op and _same_structure(gold, answer, leeway)
    return same_quantity(gold, answer, leeway)


def _spread(node: Node) -> Node:
    """A ± becomes the list of its two values."""
    if not node.contains("pm", "mp"):
        return node
    if node.op in _LISTS:
        return Node(node.op, tuple(value for item in node.args for value in both_signs(item)))
    if node.op == "rel" and node.args[0] == ("=",):
        return Node("rel", (node.args[0], (node.args[1][0], _spread(node.args[1][1]))))
    return Node("list", tuple(both_signs(node)))


# --- structures -----------------------------------------------------------------------------------------
def _same_items(gold: Node, answer: Node, leeway: Leeway) -> bool:
    ours, theirs = list(gold.args), list(answer.args)
    if "set" in (gold.op, answer.op):  # a set names no item twice
        ours, theirs = _distinct(ours), _distinct(theirs)
    return _matched(ours, theirs, leeway)


def _distinct(items: list[Node]) -> list[Node]:
    kept: list[tuple[Node, complex | None]] = []
    for item in items:
        value = roughly(item)
        if not any(not clearly_apart(v, value) and same(k, item) for k, v in kept):
            kept.append((item, value))
    return [item for item, _ in kept]


def _matched(ours: list[Node], theirs: list[Node], leeway: Leeway) -> bool:
    """Whether the items pair up, in any order."""
    if len(ours) != len(theirs):
        return False
    left = [(item, roughly(item) if leeway == EXACT else None) for item in theirs]
    for item in ours:
        value = roughly(item)
        for i, (other, v) in enumerate(left):
            if not clearly_apart(value, v) and same(item, other, leeway):
                del left[i]
                break
        else:
            return False
    return True


def _in_order(ours: tuple[Node, ...], theirs: tuple[Node, ...], leeway: Leeway) -> bool:
    return len(ours) == len(theirs) and all(same(g, a, leeway) for g, a in zip(ours, theirs))


def _same_structure(gold: Node, answer: Node, leeway: Leeway) -> bool:
    if gold.op == "based":
        return gold.args == answer.args
    if gold.op == "case":
        return _in_order(gold.args, answer.args, leeway)
    if gold.op in ("union", "cases"):
        return _matched(list(gold.args), list(answer.args), leeway)
    if gold.op == "tuple":
        return gold.args[:2] == answer.args[:2] and _in_order(gold.args[2], answer.args[2], leeway)
    (kind, rows), (other_kind, others) = gold.args, answer.args
    if kind != other_kind or len(rows) != len(others):
        return False
    return all(_in_order(row, other, leeway) for row, other in zip(rows, others))


def _in_proportion(ours: tuple[Node, ...], theirs: tuple[Node, ...]) -> bool:
    if len(ours) != len(theirs):
        return False
    is_time = _is_clock_time(Node("ratio", ours))  # 5:00 is no proportion
    if is_time or any(roughly(part) == 0 for part in ours + theirs):
        return _in_order(ours, theirs, EXACT)
    crossed = ((Node("mul", (g, theirs[0])), Node("mul", (a, ours[0]))) for g, a in zip(ours[1:], theirs[1:]))
    return all(same_quantity(one, two) for one, two in crossed)


def _is_clock_time(node: Node) -> bool:
    """10:30: hours and two digits of minutes."""
    if node.op != "ratio" or len(node.args) != 2 or any(part.op != "num" for part in node.args):
        return False
    return _CLOCK.fullmatch(":".join(part.args[1] for part in node.args)) is not None


def _is_quotient_of(ratio: Node, fraction: Node) -> bool:
    """5:12 is 5/12, though it may be a time of day; 10:30, which may be one, is no 1/3."""
    return fraction.op == "div" and ratio.op == "ratio" and ratio.args == fraction.args


# --- relations ------------------------------------------------------------------------------------------
def _same_relation(gold: Node, answer: Node, leeway: Leeway) -> bool:
    signs, sides = gold.args
    if _is_member(gold):
        one = answer.args[1] if _is_member(answer) else (sides[0], answer)
        return sides[0] == one[0] and same(sides[1], one[1], leeway)
    if answer.op != "rel":
        return signs == ("=",) and is_name(sides[0]) and same(sides[1], answer, leeway)
    if set(signs) == {"="} and set(answer.args[0]) <= {"=", "approx"}:
        return _same_equation(gold, answer, leeway)
    if len(signs) == len(answer.args[0]) == 1 and {signs[0], answer.args[0][0]} <= ORDERS:
        return _same_inequality(gold, answer)
    if len(signs) > 1 and {*signs, *answer.args[0]} <= ORDERS:  # AB > AC > BC, which are products of symbols
        (order, ours), (other, theirs) = _upwards(gold), _upwards(answer)
        return order == other and _in_order(ours, theirs, leeway)
    unordered = signs == answer.args[0] and len(signs) == 1 and signs[0] not in ORDERS
    return unordered and _either_order(sides, answer.args[1], leeway)


def _is_member(node: Node) -> bool:
    return node.op == "rel" and node.args[0] == ("in",) and is_name(node.args[1][0])


def _upwards(node: Node) -> tuple[tuple[str, ...], tuple[Node, ...]]:
    """The signs and sides of c > b > a as those of a < b < c."""
    signs, sides = node.args
    if set(signs) <= {"<", "le"}:
        return signs, sides
    return tuple(FLIPPED[sign] for sign in reversed(signs)), sides[::-1]


def _same_inequality(gold: Node, answer: Node) -> bool:
    """x + y < 4 as 2x + 2y < 8 or 4 - x > y: up to a positive factor."""
    (sign, ours), (other, theirs) = (
        (signs[0], sides) if signs[0] in ("<", "le") else (FLIPPED[signs[0]], sides[::-1])
        for signs, sides in (gold.args, answer.args)
    )
    return sign == other and proportional(Node("sub", ours), Node("sub", theirs), positive=True)


def _either_order(ours: tuple[Node, ...], theirs: tuple[Node, ...], leeway: Leeway) -> bool:
    return _in_order(ours, theirs, leeway) or _in_order(ours, theirs[::-1], leeway)


def _same_equation(gold: Node, answer: Node, leeway: Leeway) -> bool:
    ours, theirs = gold.args[1], answer.args[1]
    if len(ours) == len(theirs) == 2 and ours[0] == theirs[0] and ours[0].op == "mul":  # f(x) = ...
        return same(ours[1], theirs[1], leeway)
    if is_name(ours[0]) and not ours[-1].symbols:  # x = 5
        names = [side for side in theirs if is_name(side)]
        if len(names) == 1 and names[0].symbols == ours[0].symbols and same(ours[0], names[0]):
            return _value_of_chain(ours[-1], answer, leeway)
    if len(ours) != 2 or len(theirs) != 2:
        return False
    if any(side.op in _STRUCTURES for side in ours + theirs) or not any(side.symbols for side in ours):
        return _either_order(ours, theirs, leeway)
    return proportional(difference(ours), difference(theirs))


def _value_of_chain(gold: Node, answer: Node, leeway: Leeway) -> bool:
    """An answer `x = 10/2 = 5`: after a name, every link must hold, and the value must be the gold."""
    signs, sides = answer.args
    if signs == ("in",) and gold.op in _LISTS and is_name(sides[0]):
        return same(gold, sides[1], leeway)
    if not set(signs) <= {"=", "approx"}:
        return False
    if gold.symbols:  # y = 2x + 3 for the gold 2x + 3
        names = sides[:1] if is_name(sides[0]) else ()
    else:
        names = tuple(side for side in sides if is_name(side, sums=True))
    values = [side for side in sides if side not in names]
    if not values or (len(names) > 1 and len(values) > 1):
        return False
    if gold.op in _LISTS and len(values) == 1:
        return same(gold, values[0], leeway)
    if not all(same(one, two) or rounds_to(one, two) for one, two in pairwise(values)):
        return False
    return any(same(gold, value, leeway) for value in values)


# --- up to a constant factor -------------------------------------------------------------------------- Terms
# may be moved and everything may be scaled. Nothing is multiplied by what can vanish (y = 6/x is not xy = 6),
# and no equation is solved (x = 3 is not x^2 = 9).
_TRIES = 4  # points at which a value other than 0 is looked for
_MAX_SLOW = 12  # powers, roots and functions: at the point, and at those where the two are compared


def difference(sides: tuple[Node, Node]) -> Node:
    """left - right; ad - bc for the proportion a : b = c : d."""
    left, right = sides
    if left.op == right.op == "ratio" and len(left.args) == len(right.args) == 2:
        (a, b), (c, d) = left.args, right.args
        left, right = Node("mul", (a, d)), Node("mul", (b, c))
    return Node("sub", (left, right))


def proportional(ours: Node, theirs: Node, positive: bool = False) -> bool:
    """Whether one expression is the other times a constant other than 0 (above 0, if `positive`), and neither
    is 0.

    Raises quantities.Undecided.
    """
    names = ours.symbols
    if not names or names != theirs.symbols or ours.contains("unit") or theirs.contains("unit"):
        return False
    if max(ours.summary.slow, theirs.summary.slow) > _MAX_SLOW:
        raise Undecided("too many powers and functions")
    ours, theirs = without(ours, "deg"), without(theirs, "deg")
    for k in range(_TRIES):
        draw = random.Random(k)
        point = tuple((name, Fraction(draw.randint(100, 500), 149)) for name in sorted(names))
        here, there = _clear_value(ours, point), _clear_value(theirs, point)
        if not here or not there:
            continue
        if positive and (real(here).imag or real(there).imag or (here > 0) != (there > 0)):
            return False
        if type(here) is Fraction and type(there) is Fraction:
            return same_quantity(ours, Node("mul", (num(here / there), theirs)))
        one, two = (_at(node, point) for node in (ours, theirs))
        return same_quantity(Node("mul", (ours, two)), Node("mul", (theirs, one)))
    return False


def _clear_value(node: Node, point: Point) -> Any:
    """The value at a point; None where it has none, or one that may be 0 but for rounding."""
    value = value_at(node, point)
    return value if value is None or type(value) is Fraction or abs(value) > 1e-30 else None


def _at(node: Node, point: Point) -> Node:
    for name, value in point:
        node = substituted(node, sym(name), num(value))
    return node
