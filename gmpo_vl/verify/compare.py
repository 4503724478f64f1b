"""Are two trees the same answer? Each type has its own rule, and structure is never dropped.

| gold | the answer must be |
|---|---|
| number, expression | equal: exactly, or to 40 digits (at random points when symbols are left) |
| list, set | the same items in any order, all of them and no more |
| tuple, interval | the same items in order between the same brackets |
| matrix | the same shape and entries |
| equation | the same relation, sides exchanged or all signs turned |
| inequality | the same set of numbers |
| a number in a base | the same digits in the same base |
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from fractions import Fraction
from itertools import pairwise
from typing import Any

from gmpo_vl.verify import evaluate as ev
from gmpo_vl.verify.evaluate import MORE_DIGITS, NUMBERS, TooLarge, Undefined, evaluate
from gmpo_vl.verify.parse import Node

_STRUCTURES = {"list", "set", "tuple", "union", "matrix", "rel", "based"}
_POINTS = 4  # random points per sign pattern
_FLIPPED = {"<": ">", ">": "<", "le": "ge", "ge": "le"}


class Undecided(Exception):
    """The rules cannot tell: the value is too large, or nowhere defined."""


def same(gold: Node, answer: Node, tolerance: float | None = None) -> bool:
    """Whether `answer` is the same answer as `gold`. Raises Undecided."""
    gold, answer = _plain(gold), _plain(answer)
    if gold == answer:
        return True
    if gold.op == "rel":
        return _same_relation(gold, answer, tolerance)
    if answer.op == "rel":
        return _value_of_relation(gold, answer, tolerance)
    if gold.op in ("list", "set"):
        return answer.op in ("list", "set") and _same_items(gold, answer, tolerance)
    if gold.op == "union" and answer.op == "union":
        return _matched(list(gold.args), list(answer.args), tolerance)
    if gold.op in _STRUCTURES or answer.op in _STRUCTURES:
        return gold.op == answer.op and _same_structure(gold, answer, tolerance)
    return _same_quantity(gold, answer, tolerance)


def _plain(node: Node) -> Node:
    """A `±` becomes the list of its two values; a one-item set around a list opens."""
    if node.op in ("pm", "mp") or _contains(node, ("pm", "mp")):
        if node.op in ("list", "set"):
            items = [item for arg in node.args for item in _variants(arg)]
            return Node(node.op, tuple(items))
        if node.op == "rel" and node.args[0] == ("=",):
            return Node("rel", (node.args[0], (node.args[1][0], _plain(node.args[1][1]))))
        variants = _variants(node)
        return Node("list", tuple(variants)) if len(variants) > 1 else node
    return node


def _variants(node: Node) -> list[Node]:
    return [_signed(node, 1), _signed(node, -1)] if _contains(node, ("pm", "mp")) else [node]


def _contains(node: Any, ops: Iterable[str]) -> bool:
    if isinstance(node, Node):
        return node.op in ops or any(_contains(a, ops) for a in node.args)
    return isinstance(node, tuple) and any(_contains(a, ops) for a in node)


def _signed(node: Any, sign: int) -> Any:
    """The tree with every ± read as + (sign 1) or - (sign -1), and every ∓ the other way."""
    if isinstance(node, Node):
        args = tuple(_signed(a, sign) for a in node.args)
        if node.op in ("pm", "mp"):
            return Node("add" if (node.op == "pm") == (sign > 0) else "sub", args)
        return Node(node.op, args)
    return tuple(_signed(a, sign) for a in node) if isinstance(node, tuple) else node


# --- structures -------------------------------------------------------------------------------------------------------
def _same_items(gold: Node, answer: Node, tolerance: float | None) -> bool:
    ours, theirs = list(gold.args), list(answer.args)
    if "set" in (gold.op, answer.op):
        ours, theirs = _distinct(ours), _distinct(theirs)
    return _matched(ours, theirs, tolerance)


def _distinct(items: list[Node]) -> list[Node]:
    kept: list[Node] = []
    for item in items:
        if not any(same(k, item) for k in kept):
            kept.append(item)
    return kept


def _matched(ours: list[Node], theirs: list[Node], tolerance: float | None) -> bool:
    if len(ours) != len(theirs):
        return False
    left = list(theirs)
    for item in ours:
        found = next((i for i, other in enumerate(left) if same(item, other, tolerance)), None)
        if found is None:
            return False
        del left[found]
    return True


def _same_structure(gold: Node, answer: Node, tolerance: float | None) -> bool:
    if gold.op == "based":
        return gold.args == answer.args
    if gold.op == "tuple":
        if gold.args[:2] != answer.args[:2] or len(gold.args[2]) != len(answer.args[2]):
            return False
        return all(same(g, a, tolerance) for g, a in zip(gold.args[2], answer.args[2]))
    if gold.op == "matrix":
        (kind, rows), (other_kind, others) = gold.args, answer.args
        if kind != other_kind or [len(r) for r in rows] != [len(r) for r in others]:
            return False
        return all(same(g, a, tolerance) for row, other in zip(rows, others) for g, a in zip(row, other))
    return False


# --- relations --------------------------------------------------------------------------------------------------------
def _same_relation(gold: Node, answer: Node, tolerance: float | None) -> bool:
    (ops, parts) = gold.args
    if ops == ("in",):
        return _same_set_of_numbers(gold, answer, tolerance)
    if set(ops) <= {"<", ">", "le", "ge"}:
        return _same_set_of_numbers(gold, answer, tolerance)
    if answer.op == "rel":
        if set(ops) == {"="} and set(answer.args[0]) <= {"=", "approx"}:
            return _same_equation(gold, answer, tolerance)
        return (
            ops == answer.args[0]
            and len(ops) == 1
            and _either_order(ops[0], parts, answer.args[1], tolerance)
        )
    if ops == ("=",) and _is_name(parts[0]):
        return same(parts[1], answer, tolerance)
    return False


def _either_order(op: str, ours: tuple[Node, ...], theirs: tuple[Node, ...], tolerance: float | None) -> bool:
    direct = all(same(g, a, tolerance) for g, a in zip(ours, theirs))
    return direct or (
        op not in ("to",) and all(same(g, a, tolerance) for g, a in zip(ours, reversed(theirs)))
    )


def _same_equation(gold: Node, answer: Node, tolerance: float | None) -> bool:
    ours, theirs = gold.args[1], answer.args[1]
    if _is_name(ours[0]) and not _symbols(ours[-1]):  # x = 5
        name = next((p for p in theirs if _is_name(p)), None)
        return (
            name is not None and _same_name(ours[0], name) and _value_of_relation(ours[-1], answer, tolerance)
        )
    if len(ours) != 2 or len(theirs) != 2:
        return False
    renamed = _renamed(ours, theirs)
    if renamed is not None:
        return same(ours[1], renamed, tolerance)
    if any(p.op in _STRUCTURES for p in ours + theirs):
        return _either_order("=", ours, theirs, tolerance)
    left, right = Node("sub", ours), Node("sub", theirs)
    return _same_quantity(left, right, None) or _same_quantity(left, Node("neg", (right,)), None)


def _renamed(ours: tuple[Node, ...], theirs: tuple[Node, ...]) -> Node | None:
    """For `f(n) = n` against `f(x) = x`: the right side of the answer with the gold's variable in it."""
    one, two = _applied(ours[0]), _applied(theirs[0])
    if one is None or two is None or one[0] != two[0]:
        return None
    return _substituted(theirs[1], two[1], one[1])


def _applied(node: Node) -> tuple[str, str] | None:
    """f(x), which the grammar reads as a product: the two names."""
    if node.op == "mul" and all(a.op == "sym" for a in node.args):
        return node.args[0].args[0], node.args[1].args[0]
    return None


def _substituted(node: Any, name: str, new: str) -> Any:
    if isinstance(node, Node):
        if node == Node("sym", (name,)):
            return Node("sym", (new,))
        return Node(node.op, tuple(_substituted(a, name, new) for a in node.args))
    return tuple(_substituted(a, name, new) for a in node) if isinstance(node, tuple) else node


def _is_name(node: Node) -> bool:
    """x, f(x), AB, m\\angle A, \\frac{AB}{CD}, sin A: something without numbers, which an equation gives a value to."""
    if node.op == "sym":
        return True
    if node.op in ("mul", "div", "add", "sub", "abs", "tuple"):
        return all(_is_name(a) for a in (node.args if node.op != "tuple" else node.args[2]))
    if node.op == "fn":
        return all(_is_name(a) for a in node.args[1:])
    return False


def _same_name(one: Node, two: Node) -> bool:
    return one == two or _sorted_name(one) == _sorted_name(two)


def _sorted_name(node: Node) -> list[str]:
    return sorted(_symbols(node))


def _value_of_relation(gold: Node, answer: Node, tolerance: float | None) -> bool:
    """An answer `x = 10/2 = 5`: after a name, every link of the chain must hold, and its value must be the gold."""
    ops, parts = answer.args
    if not set(ops) <= {"=", "approx", "in", "<", ">", "le", "ge"}:
        return False
    if not set(ops) <= {"=", "approx"}:
        return gold.op in ("tuple", "union", "set") and _same_set_of_numbers(gold, answer, tolerance)
    named = [p for p in parts if _is_name(p) and not _symbols(gold)] or (
        [parts[0]] if _is_name(parts[0]) else []
    )
    values = [p for p in parts if p not in named]
    if gold.op in ("list", "set") and len(values) == 1 and named:
        return same(gold, values[0], tolerance)
    if not values or (len(named) > 1 and len(values) > 1):
        return False
    for one, two in pairwise(values):
        if not (same(one, two) or _rounds_to(one, two)):
            return False
    return any(same(gold, value, tolerance) for value in values)


def _rounds_to(exact: Node, rounded: Node) -> bool:
    """Whether a decimal is the correct rounding of the value before it (5\\sqrt{3} \\approx 8.66)."""
    places = _decimal_places(rounded)
    if places is None:
        return False
    try:
        value, short = ev.real(evaluate(exact)), ev.real(evaluate(rounded))
    except (TooLarge, Undefined):
        return False
    return abs(value - short) <= NUMBERS.mpf(10) ** -places * NUMBERS.mpf("0.5000001")


def _decimal_places(node: Node) -> int | None:
    if node.op == "neg":
        return _decimal_places(node.args[0])
    if node.op == "unit" or node.op == "deg":
        return _decimal_places(node.args[0])
    if node.op != "num" or not node.args[1] or "e" in node.args[1].lower():
        return None
    return len(node.args[1].partition(".")[2])


def _same_set_of_numbers(gold: Node, answer: Node, tolerance: float | None) -> bool:
    ours, theirs = _as_interval(gold), _as_interval(answer)
    if ours is None or theirs is None:
        return False
    if ours[0] is not None and theirs[0] is not None and ours[0] != theirs[0]:
        return False
    return same(ours[1], theirs[1], tolerance)


def _as_interval(node: Node) -> tuple[Node | None, Node] | None:
    """(symbol, set) of `x < 60`, `-2 \\le x \\le 7`, `x \\in [-2, 7]`, or of a bare set; None for anything else."""
    if node.op in ("tuple", "union", "set"):
        return None, node
    if node.op != "rel":
        return None
    ops, parts = node.args
    if ops == ("in",):
        return parts[0], parts[1]
    infinity = Node("const", ("infty",))
    bounds = [p for p in parts if not _symbols(p)]
    names = [p for p in parts if _symbols(p)]
    if len(names) != 1 or not _is_name(names[0]) or len(set(ops) & {"<", "le"}) * len(set(ops) & {">", "ge"}):
        return None
    if len(parts) == 2:
        op = ops[0] if parts[0] in names else _FLIPPED[ops[0]]
        if op in ("<", "le"):
            return names[0], Node(
                "tuple", ("(", ")" if op == "<" else "]", (Node("neg", (infinity,)), bounds[0]))
            )
        return names[0], Node("tuple", ("(" if op == ">" else "[", ")", (bounds[0], infinity)))
    if len(parts) != 3 or parts[1] not in names:
        return None
    low, high, left, right = (parts[0], parts[2], ops[0], ops[1])
    if left in (">", "ge"):
        low, high, left, right = parts[2], parts[0], _FLIPPED[ops[1]], _FLIPPED[ops[0]]
    return names[0], Node("tuple", ("(" if left == "<" else "[", ")" if right == "<" else "]", (low, high)))


# --- quantities -------------------------------------------------------------------------------------------------------
def _same_quantity(gold: Node, answer: Node, tolerance: float | None) -> bool:
    ours, our_unit = _without_unit(gold)
    theirs, their_unit = _without_unit(answer)
    if our_unit and their_unit and our_unit != their_unit:
        return False
    if "infty" in _constants(ours) | _constants(theirs):
        return _infinite(ours) is not None and _infinite(ours) == _infinite(theirs)
    if their_unit == "pct" and our_unit != "pct":  # 50% is 1/2; it is 50 only where 50 cannot be the fraction
        return _equal(ours, Node("pct", (theirs,)), tolerance) or (
            _above_one(ours) and _equal(ours, theirs, tolerance)
        )
    if our_unit == "pct" and not their_unit:
        return _equal(ours, theirs, tolerance) or _equal(Node("pct", (ours,)), theirs, tolerance)
    if {our_unit, their_unit} == {"deg", ""} and _contains(ours if their_unit else theirs, ("const",)):
        return _equal(_radians(ours, our_unit), _radians(theirs, their_unit), tolerance)
    return _equal(ours, theirs, tolerance)


def _radians(node: Node, unit: str) -> Node:
    return Node("deg", (node,)) if unit == "deg" else node


def _without_unit(node: Node) -> tuple[Node, str]:
    """The quantity and its unit: "deg", "pct", a canonical unit, or "" for none."""
    sign = 1
    while node.op == "neg":
        node, sign = node.args[0], -sign
    unit = ""
    if node.op == "unit":
        node, unit = node.args[0], "deg" if node.args[1] == "deg^1" else node.args[1]
    elif node.op in ("deg", "pct"):
        node, unit = node.args[0], node.op
    return (node if sign > 0 else Node("neg", (node,))), unit


def _above_one(node: Node) -> bool:
    value = _number(node)
    return value is not None and abs(value) > 1


def _number(node: Node) -> Any:
    try:
        return evaluate(node)
    except (TooLarge, Undefined):
        return None


def _infinite(node: Node) -> int | None:
    if node == Node("const", ("infty",)):
        return 1
    return -1 if node.op == "neg" and _infinite(node.args[0]) == 1 else None


def _constants(node: Any) -> set[str]:
    if isinstance(node, Node):
        return {node.args[0]} if node.op == "const" else set().union(*(_constants(a) for a in node.args))
    return set().union(*(_constants(a) for a in node)) if isinstance(node, tuple) else set()


def _symbols(node: Any) -> set[str]:
    if isinstance(node, Node):
        return {node.args[0]} if node.op == "sym" else set().union(*(_symbols(a) for a in node.args))
    return set().union(*(_symbols(a) for a in node)) if isinstance(node, tuple) else set()


def _equal(gold: Node, answer: Node, tolerance: float | None) -> bool:
    """Equal numbers, or equal expressions at random points of their symbols."""
    names = _symbols(gold)
    if names != _symbols(answer):
        return False
    if not names:
        return _equal_numbers(gold, answer, {}, tolerance)
    draw = random.Random(7)
    positive = _agree(gold, answer, names, draw, signs=(1,))
    if not positive:
        return False
    # A gold with a root of its symbols takes them as positive; any other identity must hold for both signs.
    return _contains(gold, ("root",)) or _agree(gold, answer, names, draw, signs=(1, -1))


def _agree(gold: Node, answer: Node, names: set[str], draw: random.Random, signs: tuple[int, ...]) -> bool:
    whole = _contains((gold, answer), ("fact", "binom", "floor", "ceil"))
    seen = 0
    for _ in range(3 * _POINTS):
        scale = Fraction(draw.choice(signs)) if not whole else Fraction(1)
        point = {
            n: Fraction(draw.randint(6, 12))
            if whole
            else draw.choice(signs) * scale * Fraction(draw.randint(1, 10**9), 3 * 10**8)
            for n in sorted(names)
        }
        try:
            if not _equal_numbers(gold, answer, point, None):
                return False
        except Undecided:
            continue
        seen += 1
        if seen == _POINTS:
            return True
    raise Undecided("nowhere defined")


def _equal_numbers(gold: Node, answer: Node, point: dict[str, Fraction], tolerance: float | None) -> bool:
    try:
        ours, theirs = evaluate(gold, point), evaluate(answer, point)
        if isinstance(ours, Fraction) and isinstance(theirs, Fraction):
            if ours == theirs or not tolerance:
                return ours == theirs
            return abs(ours - theirs) <= Fraction(tolerance) * abs(ours)
        one, two = ev.real(ours), ev.real(theirs)
        if tolerance:
            return abs(one - two) <= tolerance * abs(one)
        if not _near(one, two, NUMBERS, 40):
            return False
        # 40 digits agree; a difference below every digit (or a cancellation) shows at 200.
        one, two = (ev.real(evaluate(n, point, MORE_DIGITS), MORE_DIGITS) for n in (gold, answer))
        return _near(one, two, MORE_DIGITS, 150)
    except (TooLarge, Undefined, ArithmeticError, ValueError) as error:
        raise Undecided(str(error)) from error


def _near(one: Any, two: Any, ctx: Any, digits: int) -> bool:
    return abs(one - two) <= max(abs(one), abs(two), ctx.mpf(10) ** -30) * ctx.mpf(10) ** -digits
