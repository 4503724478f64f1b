"""Numbers of the form q √r π^k (q, r rational, k whole), which most golds of geometry are: equal or not, without decimals."""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple

from gmpo_vl.verify.tree import Node

MAX_BITS = 4_000  # of a numerator or denominator; larger ones are left to evaluate.py
_ONE = Fraction(1)
_TWO = Fraction(2)


class Monomial(NamedTuple):
    """factor * sqrt(radicand) * pi**power, radicand > 0."""

    factor: Fraction
    radicand: Fraction = _ONE
    power: int = 0


def monomial(node: Node) -> Monomial | None:
    """The tree as a monomial; None for anything else, and for what is undefined or large."""
    op, args = node
    if op == "num":
        found = Monomial(args[0])
    elif op == "const":
        found = Monomial(_ONE, power=1) if args[0] == "pi" else None
    elif op == "mixed":
        found = monomial(args[0])
    elif op == "neg":
        inner = monomial(args[0])
        found = inner and inner._replace(factor=-inner.factor)
    elif op in ("mul", "div"):
        one, two = monomial(args[0]), monomial(args[1])
        found = one and two and (_product(one, two) if op == "mul" else _quotient(one, two))
    elif op == "root":
        found = _square_root(args[1]) if args[0].op == "num" and args[0].args[0] == _TWO else None
    elif op == "pow" and args[1].op == "num" and args[1].args[0].denominator == 1:
        base = monomial(args[0])
        found = base and _power(base, args[1].args[0].numerator)
    else:
        found = None
    return found if found and _size(found) <= MAX_BITS else None


def same_monomial(one: Monomial, two: Monomial) -> bool:
    """Exact: a square root of a rational is compared by its square, and no power of pi is rational or a root of one."""
    if one.factor == 0 or two.factor == 0:
        return one.factor == two.factor
    return (
        one.power == two.power
        and (one.factor > 0) == (two.factor > 0)
        and one.factor**2 * one.radicand == two.factor**2 * two.radicand
    )


def _product(one: Monomial, two: Monomial) -> Monomial:
    return Monomial(one.factor * two.factor, one.radicand * two.radicand, one.power + two.power)


def _quotient(one: Monomial, two: Monomial) -> Monomial | None:
    if two.factor == 0:
        return None
    return Monomial(one.factor / two.factor, one.radicand / two.radicand, one.power - two.power)


def _square_root(node: Node) -> Monomial | None:
    inner = monomial(node)
    if inner is None or inner.factor <= 0 or inner.radicand != 1 or inner.power:
        return None
    return Monomial(_ONE, inner.factor)


def _power(base: Monomial, exponent: int) -> Monomial | None:
    if abs(exponent) * _size(base) > MAX_BITS or (exponent <= 0 and base.factor == 0):
        return None
    return Monomial(base.factor**exponent, base.radicand**exponent, base.power * exponent)


def _size(value: Monomial) -> int:
    """The longest of its whole numbers, in bits."""
    factor, radicand, power = value
    return max(
        factor.numerator.bit_length(),
        factor.denominator.bit_length(),
        radicand.numerator.bit_length(),
        radicand.denominator.bit_length(),
        power.bit_length(),
    )
