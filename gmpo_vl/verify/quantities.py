"""Are two quantities equal? Units, percent and degrees first, then values: exact, or to 40 digits.

The rules of the strict profile:
- A unit may be missing on one side; where both have one, it must be the same, or convert (5 cm are 0.05 m:
  units.py).
- A degree sign may be missing on one side. Against a multiple of pi it is an angle: 30 degrees are pi/6.
- p% is p/100. It also answers the gold p itself, but only where p > 1 (0.5% does not answer 0.5).
- An exact gold takes a decimal if it is equal, or its correct rounding to at least 10 significant digits
  (what a calculator shows). 8.66 is not 5\\sqrt{3}, 0.33 is not 1/3.
- A decimal gold is exact, too: 8.7, 8.6603 and 5\\sqrt{3} differ from 8.66. A gold of type "rounded"
  (Geometry3K's decimals are) takes every value that rounds to it.
- A relative tolerance applies where the gold carries one (Minerva's 1% is `tolerance: 0.01`).
"""

from __future__ import annotations

import random
from fractions import Fraction
from functools import lru_cache
from typing import Any, NamedTuple

from gmpo_vl.verify.arithmetic import MORE_DIGITS, NUMBERS, evaluate, monomial, real, same_monomial
from gmpo_vl.verify.tree import INFINITY, Node, num, without
from gmpo_vl.verify.units import conversion

Point = tuple[tuple[str, Fraction], ...]  # symbols and their values

_STEPPED_POINTS = 40  # where they have floors
_WHOLE_POINTS = 12  # where they are defined at whole numbers only: 1 + C(n,2) + C(n,4) is 2^(n-1) up to n = 5
_POINTS = 4  # random points at which two expressions must agree
_MAX_SLOW = 150  # powers, roots and functions in an answer; the most in a gold is 9
_MAX_SLOW_AT_POINTS = 30  # where it is evaluated at several points
_ROUNDED = 1e-5  # more than rounding to six decimals can close
_CALCULATOR = 10  # significant digits


class Undecided(Exception):
    """The rules cannot tell: a value is too large to compute, or nowhere defined."""


class Leeway(NamedTuple):
    """How far an answer may be off: a relative tolerance, or (rounded) half of the gold's last place."""

    tolerance: float | None = None
    rounded: bool = False


EXACT = Leeway()


def same_quantity(gold: Node, answer: Node, leeway: Leeway = EXACT) -> bool:
    """Whether two arithmetic trees, units included, are the same quantity. Raises Undecided."""
    ours, our_unit = _parted(gold)
    theirs, their_unit = _parted(answer)
    if our_unit and their_unit and our_unit != their_unit:
        factor = conversion(their_unit, our_unit)
        if factor is None:
            return False
        theirs, their_unit = Node("mul", (theirs, num(factor))), our_unit
    if their_unit.startswith("arc") and not our_unit:  # 5' and 5'' answer no plain 5
        return False
    if INFINITY.args[0] in ours.summary.constants | theirs.summary.constants:
        return _infinite(ours) != 0 and _infinite(ours) == _infinite(theirs)
    if their_unit == "pct" and not our_unit:
        if _equal(ours, Node("pct", (theirs,)), leeway):
            return True
        value = value_at(ours, ()) if _written(ours) is not None else None
        # A plain number above 1 can be a percentage; 0.5 is meant as a fraction.
        return value is not None and abs(value) > 1 and _equal(ours, theirs, leeway)
    if our_unit == "pct" and not their_unit:
        return _equal(ours, theirs, leeway) or _equal(Node("pct", (ours,)), theirs, leeway)
    if {our_unit, their_unit} == {"deg", ""} and "pi" in (ours if their_unit else theirs).summary.constants:
        marked = [Node("deg", (n,)) if unit else n for n, unit in ((ours, our_unit), (theirs, their_unit))]
        return _equal(marked[0], marked[1], leeway)
    return _equal(ours, theirs, leeway)


def rounds_to(exact: Node, rounded: Node) -> bool:
    r"""Whether a decimal is the correct rounding of the value before it: `5\sqrt{3} \approx 8.66`."""
    written = _written(_parted(rounded)[0])
    if written is None or exact.symbols:
        return False
    try:
        return _is_rounding(_value(_parted(exact)[0]), _value(_parted(rounded)[0]), written)
    except Undecided:
        return False


def clearly_apart(one: complex | None, two: complex | None) -> bool:
    """A quick no for two rough values: the items of long lists meet each other often."""
    return one is not None and two is not None and abs(one - two) > 1e-6 * max(abs(one), abs(two))


@lru_cache(maxsize=20_000)
def roughly(node: Node) -> complex | None:
    """The value of a plain number without units, in double precision; None for anything else."""
    if node.symbols or node.contains("unit", "pct", "deg", "pm", "mp"):
        return None
    value = value_at(node, ())
    try:
        return None if value is None else complex(value)
    except OverflowError:
        return None


def far_apart(one: Node, two: Node) -> bool:
    """Whether two expressions have values at a few points that differ by more than rounding makes."""
    names = tuple(sorted(one.symbols | two.symbols))
    points = [_point(names, k, False, False) for k in range(3)] if names else [()]
    return all(_values_apart(value_at(one, point), value_at(two, point)) for point in points)


def _values_apart(one: Any, two: Any) -> bool:
    if one is None or two is None:
        return False
    one, two = real(one), real(two)
    return bool(abs(one - two) > _ROUNDED * (1 + 1e-4 * max(abs(one), abs(two))))


# --- units ----------------------------------------------------------------------------------------------
def _parted(node: Node) -> tuple[Node, str]:
    """The quantity and its unit: "deg", "pct", a canonical unit, or "" for none."""
    if node.op == "neg":
        inner, unit = _parted(node.args[0])
        return Node("neg", (inner,)), unit
    if node.op == "unit":
        return node.args[0], "deg" if node.args[1] == "deg^1" else node.args[1]
    if node.op in ("deg", "pct"):
        return node.args[0], node.op
    if node.contains("deg") and not node.contains("fn"):  # 180^\circ - x
        return without(node, "deg"), "deg"
    return node, ""


def _infinite(node: Node) -> int:
    """1 or -1 for plus or minus infinity, 0 for anything else."""
    return 1 if node == INFINITY else -_infinite(node.args[0]) if node.op == "neg" else 0


# --- values ---------------------------------------------------------------------------------------------
def _equal(gold: Node, answer: Node, leeway: Leeway) -> bool:
    """Equal numbers, or expressions that agree at random points of their symbols."""
    names = gold.symbols
    if names != answer.symbols:
        return False
    if answer.summary.slow > (_MAX_SLOW_AT_POINTS if names else _MAX_SLOW):
        raise Undecided("too many powers and functions")
    if not names:
        return _equal_values(gold, answer, (), leeway.tolerance) or _rounding_allowed(gold, answer, leeway)
    if not _agree(gold, answer, names, mixed=False):
        return False
    if _positive_symbols(gold) and gold.contains("abs") == answer.contains("abs"):
        return True
    return _agree(gold, answer, names, mixed=True)


def _positive_symbols(gold: Node) -> bool:
    """A gold with a root or a logarithm takes its symbols as positive; others hold for both signs."""
    return gold.contains("root") or not gold.summary.functions.isdisjoint(("ln", "log", "lg"))


def _agree(gold: Node, answer: Node, names: frozenset[str], mixed: bool) -> bool:
    """Whether two expressions agree at enough points where both are defined. mixed: of either sign.

    Floors agree at most points with what they are not: those take the whole numbers one by one.
    """
    ops = gold.summary.ops | answer.summary.ops
    stepped = not ops.isdisjoint(("floor", "ceil"))
    whole = stepped or not ops.isdisjoint(("fact", "binom", "sum", "prod"))
    enough = _STEPPED_POINTS if stepped else _WHOLE_POINTS if whole else _POINTS
    if stepped and answer.summary.slow > _MAX_SLOW_AT_POINTS // 3:
        raise Undecided("too many powers and functions under a floor")
    seen = 0
    for k in range(2 * enough + _POINTS):
        try:
            point = _point(tuple(sorted(names)), k, whole, mixed)
            if not _equal_values(gold, answer, point, None, more_digits=seen == 0):
                return False
        except Undecided:
            continue
        seen += 1
        if seen == enough:
            return True
    raise Undecided("defined at too few points")


@lru_cache(maxsize=4_000)
def _point(names: tuple[str, ...], k: int, whole: bool, mixed: bool) -> Point:
    """The k-th seeded point: rational numbers up to 3.4, or whole ones where only those have a value."""
    if whole and len(names) == 1:
        return ((names[0], Fraction(k + 1)),)
    draw = random.Random(f"{k} {whole} {mixed}")
    if whole:
        return tuple((name, Fraction(draw.randint(1, 14))) for name in names)
    return tuple(
        (name, draw.choice((1, -1) if mixed else (1,)) * Fraction(draw.randint(10**8, 10**9), 3 * 10**8))
        for name in names
    )


@lru_cache(maxsize=20_000)
def value_at(node: Node, point: Point) -> Any:
    """The value of a tree at a point, None where it has none. Items of long lists meet often."""
    try:
        return evaluate(node, dict(point))
    except (ArithmeticError, ValueError):
        return None


def _value(node: Node, point: Point = ()) -> Any:
    value = value_at(node, point)
    if value is None:
        raise Undecided("a value is too large, or not defined")
    return value


def _equal_values(
    gold: Node, answer: Node, point: Point, tolerance: float | None, more_digits: bool = True
) -> bool:
    if not point and not tolerance:
        one, two = monomial(gold), monomial(answer)
        if one and two:
            return same_monomial(one, two)
    ours, theirs = _value(gold, point), _value(answer, point)
    if type(ours) is Fraction and type(theirs) is Fraction:
        return ours == theirs or abs(ours - theirs) <= Fraction(tolerance or 0) * abs(ours)
    one, two = real(ours), real(theirs)
    if tolerance:
        return bool(abs(one - two) <= tolerance * abs(one))
    # A sum of nearly nothing may be nothing.
    floor = -30 if gold.contains("add", "sub") or answer.contains("add", "sub") else -10_000
    near = _near(one, two, NUMBERS, 40, floor)
    if not near or not more_digits:
        return near
    try:  # 40 digits agree; what is left (a cancellation, or a difference below them) shows at 200
        one, two = (real(evaluate(n, dict(point), MORE_DIGITS), MORE_DIGITS) for n in (gold, answer))
    except (ArithmeticError, ValueError) as error:
        raise Undecided(str(error)) from error
    return _near(one, two, MORE_DIGITS, 150, floor)


def _near(one: Any, two: Any, ctx: Any, digits: int, floor: int) -> bool:
    return bool(abs(one - two) <= max(abs(one), abs(two), _ten(ctx, floor)) * _ten(ctx, -digits))


@lru_cache(maxsize=100)
def _ten(ctx: Any, exponent: int) -> Any:
    return ctx.mpf(10) ** exponent


# --- rounding -------------------------------------------------------------------------------------------
def _rounding_allowed(gold: Node, answer: Node, leeway: Leeway) -> bool:
    """The cases in which unequal numbers are one answer: see the top of this file."""
    ours, theirs = _written(gold), _written(answer)
    if leeway.rounded and ours is not None and "." in ours:
        return _is_rounding(_value(answer), _value(gold), ours)
    if ours is not None or theirs is None or "." not in theirs:
        return False
    digits = theirs.replace(".", "").lstrip("0")
    return len(digits) >= _CALCULATOR and _is_rounding(_value(gold), _value(answer), theirs)


def _written(node: Node) -> str | None:
    """How a plain number was written, without its sign; None for everything else."""
    while node.op in ("neg", "mixed"):
        node = node.args[0]
    written = node.args[1] if node.op == "num" else ""
    return written if written not in ("", "repeating") and "e" not in written.lower() else None


def _is_rounding(value: Any, short: Any, written: str) -> bool:
    """Whether `short`, with its decimal places, is `value` rounded (a half goes either way)."""
    half = NUMBERS.mpf(10) ** -len(written.partition(".")[2]) / 2
    return bool(abs(real(value) - real(short)) <= half * (1 + NUMBERS.mpf(10) ** -20))
