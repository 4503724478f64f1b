"""A CountDown puzzle solved: an expression of all its numbers that gives the target, in exact fractions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations


@dataclass(frozen=True)
class Expression:
    """A number, or two expressions under an operator."""

    value: Fraction
    operator: str = ""
    left: Expression | None = None
    right: Expression | None = None

    def __str__(self) -> str:
        """With brackets only where they are needed."""
        if self.left is None or self.right is None:
            return str(self.value)
        left, right = str(self.left), str(self.right)
        if self.operator in "*/" and self.left.operator in ("+", "-"):
            left = f"({left})"
        if self.right.operator and (
            self.operator == "/" or (self.operator in "-*" and self.right.operator in "+-")
        ):
            right = f"({right})"
        return f"{left}{self.operator}{right}"

    @property
    def steps(self) -> tuple[tuple[Expression, Expression, str, Fraction], ...]:
        """(left, right, operator, value) of every operation, in the order of calculation."""
        if self.left is None or self.right is None:
            return ()
        return (*self.left.steps, *self.right.steps, (self.left, self.right, self.operator, self.value))


def expressions(numbers: Sequence[int | Fraction]) -> Iterator[Expression]:
    """Every expression of all numbers, up to the order in sums and products; some hundred for three."""
    yield from _combined([Expression(Fraction(number)) for number in numbers])


def _combined(terms: list[Expression]) -> Iterator[Expression]:
    if len(terms) == 1:
        yield terms[0]
        return
    for i, j in combinations(range(len(terms)), 2):
        rest = [term for k, term in enumerate(terms) if k not in (i, j)]
        for result in _results(terms[i], terms[j]):
            yield from _combined([*rest, result])


def _results(a: Expression, b: Expression) -> Iterator[Expression]:
    yield Expression(a.value + b.value, "+", a, b)
    yield Expression(a.value - b.value, "-", a, b)
    yield Expression(b.value - a.value, "-", b, a)
    yield Expression(a.value * b.value, "*", a, b)
    if b.value:
        yield Expression(a.value / b.value, "/", a, b)
    if a.value:
        yield Expression(b.value / a.value, "/", b, a)


def solve(numbers: Sequence[int | Fraction], target: int | Fraction) -> Expression | None:
    """An expression of all numbers that gives the target, or None. Milliseconds for four numbers."""
    return next((e for e in expressions(numbers) if e.value == target), None)
