"""The value of a tree: an exact Fraction while the arithmetic allows it, 60 digits (mpmath) otherwise.

Nothing here can run away: the size of a power or a factorial is known before it is computed. What would be
too large raises TooLarge.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any, NamedTuple

import mpmath

from gmpo_vl.verify.tree import OF_SEVERAL, Node

MAX_BITS = 20_000  # of an exact numerator or denominator (6,000 digits)
_MAX_EXPONENT = 4_000  # |exponent| of a power that is not exact
_MAX_TERMS = 400  # of a series; fewer, the more a term costs
_MAX_GAMMA = 200  # argument of a gamma function that is no whole number
_MAX_ARGUMENT = 10**12  # of a periodic or growing function

NUMBERS = mpmath.mp.clone()
NUMBERS.dps = 60
MORE_DIGITS = mpmath.mp.clone()
MORE_DIGITS.dps = 200

Value = Any  # Fraction, or a real or complex number of the context


class TooLarge(ArithmeticError):
    """The value would need more memory or time than an answer is worth."""


class Undefined(ArithmeticError):
    """The tree has no single number: a division by zero, an unbound symbol, a list, infinity."""


def evaluate(node: Node, symbols: Mapping[str, Value] | None = None, ctx: Any = NUMBERS) -> Value:
    """The value of an arithmetic tree, with values for its symbols. Raises TooLarge or Undefined."""
    op, args = node
    if op == "num":
        return args[0]
    if op in ("sym", "bound"):
        if not symbols or args[0] not in symbols:
            raise Undefined(args[0])
        return symbols[args[0]]
    if op == "const":
        return _constant(args[0], ctx)
    if op == "mixed":
        return evaluate(args[0], symbols, ctx)
    if op == "ratio" and len(args) == 2:
        op = "div"
    if op in ("sum", "prod"):
        return _series(op, args, symbols or {}, ctx)
    if op == "fn":
        function = _of_several if args[0] in OF_SEVERAL else _function
        return function(args[0], [evaluate(a, symbols, ctx) for a in args[1:]], ctx)
    if op not in _OPERATIONS:
        raise Undefined(op)
    return _bounded(_OPERATIONS[op](ctx, *[evaluate(a, symbols, ctx) for a in args]))


def _bounded(value: Value) -> Value:
    if type(value) is Fraction and _bits(value) > MAX_BITS:
        raise TooLarge("an exact number")
    return value


def _bits(value: Fraction) -> int:
    return max(value.numerator.bit_length(), value.denominator.bit_length())


def _is_whole(value: Value) -> bool:
    return type(value) is Fraction and value.denominator == 1


def real(value: Value, ctx: Any = NUMBERS) -> Value:
    """A Fraction as a number of the context; others as they are."""
    return ctx.mpf(value.numerator) / value.denominator if type(value) is Fraction else value


def _constant(name: str, ctx: Any) -> Value:
    if name == "i":
        return ctx.mpc(0, 1)
    if name not in ("pi", "e"):
        raise Undefined(name)
    return +getattr(ctx, name)


def _exact_or_real(operation: Callable[[Any, Any], Any]) -> Callable[[Any, Value, Value], Value]:
    """The operation on two Fractions, or else on two numbers of the context."""

    def apply(ctx: Any, a: Value, b: Value) -> Value:
        if type(a) is Fraction and type(b) is Fraction:
            return operation(a, b)
        return operation(real(a, ctx), real(b, ctx))

    return apply


_add, _mul, _quotient = map(_exact_or_real, (operator.add, operator.mul, operator.truediv))


def _div(ctx: Any, a: Value, b: Value) -> Value:
    if b == 0:
        raise Undefined("a division by zero")
    return _quotient(ctx, a, b)


def _pow(ctx: Any, base: Value, exponent: Value) -> Value:
    if type(exponent) is Fraction:
        if type(base) is Fraction and exponent.denominator == 1:
            return _exact_power(base, exponent.numerator)
        if type(base) is Fraction and exponent.denominator <= 64:
            return _pow(ctx, _root(ctx, Fraction(exponent.denominator), base), Fraction(exponent.numerator))
        if abs(exponent) > _MAX_EXPONENT:
            raise TooLarge("an exponent")
    base, exponent = real(base, ctx), real(exponent, ctx)
    if base == 0:
        if ctx.re(exponent) <= 0:
            raise Undefined("zero to that power")
        return Fraction(0)
    if abs(exponent) * (abs(ctx.log(base)) + 1) > 100 * _MAX_EXPONENT:
        raise TooLarge("a power")
    return ctx.power(base, exponent)


def _exact_power(base: Fraction, exponent: int) -> Fraction:
    if base == 0 and exponent <= 0:
        raise Undefined("zero to that power")
    if base in (1, -1):
        return base if exponent % 2 else Fraction(1)
    if base != 0 and _bits(base) * abs(exponent) > MAX_BITS:
        raise TooLarge("a power")
    return base**exponent


def _root(ctx: Any, degree: Value, x: Value) -> Value:
    """The principal root; exact where it is rational. An odd root of a negative real number is real."""
    if not (_is_whole(degree) and 1 <= degree <= 1000):
        if degree == 0:
            raise Undefined("a root of degree zero")
        return _pow(ctx, x, Fraction(1) / degree if type(degree) is Fraction else 1 / degree)
    n = degree.numerator
    if type(x) is Fraction:
        sign = -1 if x < 0 else 1
        if sign > 0 or n % 2:
            top, bottom = _integer_root(abs(x.numerator), n), _integer_root(x.denominator, n)
            if top is not None and bottom is not None:
                return Fraction(sign * top, bottom)
            return sign * ctx.root(real(abs(x), ctx), n)
    return ctx.root(real(x, ctx), n) if x != 0 else Fraction(0)


def _integer_root(x: int, n: int) -> int | None:
    """The exact n-th root of x >= 0, None if it is not whole."""
    if x < 2 or n == 1:
        return x
    if n == 2:
        root = math.isqrt(x)
        return root if root * root == x else None
    if n >= x.bit_length():
        return None
    root = round(x ** (1 / n)) if x.bit_length() < 900 else 0
    return root if root**n == x else None


def _factorial(ctx: Any, n: Value) -> Value:
    if not (_is_whole(n) and n >= 0):
        raise Undefined("the factorial of such a number")
    if n > 1500:
        raise TooLarge("a factorial")
    return Fraction(math.factorial(n.numerator))


def _binomial(ctx: Any, n: Value, k: Value) -> Value:
    if not all(_is_whole(v) and v >= 0 for v in (n, k)):
        raise Undefined("a binomial coefficient of such numbers")
    if n > 3000:
        raise TooLarge("a binomial coefficient")
    return Fraction(math.comb(n.numerator, k.numerator))


def _whole(ctx: Any, x: Value, up: bool) -> Value:
    if type(x) is Fraction:
        return Fraction(math.ceil(x) if up else math.floor(x))
    if ctx.im(x) != 0 or abs(x) > _MAX_ARGUMENT:
        raise Undefined("the floor of such a number")
    return Fraction(int(ctx.ceil(ctx.re(x)) if up else ctx.floor(ctx.re(x))))


def _series(op: str, args: tuple[Any, ...], symbols: Mapping[str, Value], ctx: Any) -> Value:
    """A sum or product over whole numbers; few enough to take one by one."""
    name, low, high, body = args
    first, last = (evaluate(end, symbols, ctx) for end in (low, high))
    if not (_is_whole(first) and _is_whole(last)):
        raise Undefined("a series between such ends")
    if last - first >= _MAX_TERMS / (1 + body.summary.slow):
        raise TooLarge("a series")
    total: Value = Fraction(op == "prod")
    for k in range(first.numerator, last.numerator + 1):
        term = evaluate(body, {**symbols, name: Fraction(k)}, ctx)
        total = _bounded((_add if op == "sum" else _mul)(ctx, total, term))
    return total


def _of_several(name: str, values: list[Value], ctx: Any) -> Value:
    if name in ("gcd", "lcm"):
        if not all(map(_is_whole, values)):
            raise Undefined(f"{name} of such numbers")
        return Fraction(getattr(math, name)(*(v.numerator for v in values)))
    if any(ctx.im(real(v, ctx)) for v in values):
        raise Undefined(f"{name} of such numbers")
    return (max if name == "max" else min)(values, key=lambda v: real(v, ctx))


def _gamma(ctx: Any, x: Value) -> Value:
    if _is_whole(x):
        if x <= 0:
            raise Undefined("gamma there")
        return _factorial(ctx, x - 1)
    if abs(x) > _MAX_GAMMA:
        raise TooLarge("gamma")
    return ctx.gamma(real(x, ctx))


_OPERATIONS = {
    "add": _add, "sub": _exact_or_real(operator.sub), "mul": _mul, "div": _div, "pow": _pow, "root": _root,
    "fact": _factorial, "gamma": _gamma, "binom": _binomial,
    "neg": lambda ctx, x: -x,
    "abs": lambda ctx, x: abs(x),
    "floor": lambda ctx, x: _whole(ctx, x, up=False),
    "ceil": lambda ctx, x: _whole(ctx, x, up=True),
    "pct": lambda ctx, x: _div(ctx, x, Fraction(100)),
    "deg": lambda ctx, x: real(x, ctx) * ctx.pi / 180,
}  # fmt: skip

_FUNCTIONS = frozenset("sin cos tan cot sec csc arcsin arccos arctan arccot sinh cosh tanh coth".split())


def _function(name: str, args: list[Value], ctx: Any) -> Value:
    """sin, log and friends. `log` without a base is the natural one, as `\\ln`; `lg` has base 10."""
    x = real(args[0], ctx)
    if name == "exp":
        return _pow(ctx, +ctx.e, args[0])
    if abs(x) > _MAX_ARGUMENT and name not in ("ln", "log", "lg"):
        raise TooLarge(f"the argument of {name}")
    if name in ("ln", "log", "lg"):
        if x == 0:
            raise Undefined("the logarithm of zero")
        base = real(args[1], ctx) if len(args) > 1 else ctx.mpf(10) if name == "lg" else None
        if base is None:
            return ctx.ln(x)
        if base in (0, 1):
            raise Undefined("a logarithm to that base")
        return ctx.ln(x) / ctx.ln(base)
    if name not in _FUNCTIONS or len(args) > 1:
        raise Undefined(name)
    try:
        return getattr(ctx, name.replace("arc", "a"))(x)
    except (ZeroDivisionError, ValueError) as error:
        raise Undefined(f"{name} there") from error


# --- monomials -----------------------------------------------------------------------------------------
# Most golds of geometry have the form q √r π^k (q, r rational, k whole). Those are compared without decimals.
_MONOMIAL_BITS = 4_000  # of a numerator or denominator; larger ones are left to `evaluate`
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
        two = _power(two, -1) if two and op == "div" else two
        found = one and two and _product(one, two)
    elif op == "root":
        found = _square_root(args[1]) if args[0].op == "num" and args[0].args[0] == _TWO else None
    elif op == "pow" and args[1].op == "num" and args[1].args[0].denominator == 1:
        base = monomial(args[0])
        found = base and _power(base, args[1].args[0].numerator)
    else:
        found = None
    return found if found and _size(found) <= _MONOMIAL_BITS else None


def same_monomial(one: Monomial, two: Monomial) -> bool:
    """Exact: square roots are compared by their squares, and no power of pi is rational or such a root."""
    if one.factor == 0 or two.factor == 0:
        return one.factor == two.factor
    return (
        one.power == two.power
        and (one.factor > 0) == (two.factor > 0)
        and one.factor**2 * one.radicand == two.factor**2 * two.radicand
    )


def _product(one: Monomial, two: Monomial) -> Monomial:
    return Monomial(one.factor * two.factor, one.radicand * two.radicand, one.power + two.power)


def _square_root(node: Node) -> Monomial | None:
    inner = monomial(node)
    if inner is None or inner.factor <= 0 or inner.radicand != 1 or inner.power:
        return None
    return Monomial(_ONE, inner.factor)


def _power(base: Monomial, exponent: int) -> Monomial | None:
    if abs(exponent) * _size(base) > _MONOMIAL_BITS or (exponent <= 0 and base.factor == 0):
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
