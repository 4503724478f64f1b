"""Do two equations have other solutions? Asked at points, without solving anything in symbols."""

from __future__ import annotations

import random
from functools import lru_cache
from typing import Any

from gmpo_vl.verify.evaluate import NUMBERS, evaluate, real
from gmpo_vl.verify.tree import Node, slow_steps, symbols

_POINTS = 2  # solutions tried of each equation
_STEPS = 40  # of Newton's iteration; it takes about ten to 60 digits
_FAR = 1e-5  # more than rounding to six decimals can close
_STEP = NUMBERS.mpf(10) ** -25  # of a difference quotient
_MAX_SLOW = 12  # powers, roots and functions: what an evaluation costs


def other_solutions(left: Node, right: Node) -> bool:
    """Whether left = 0 and right = 0 have clearly different solutions: each has one that is none of the other's, at every point
    tried. False where that cannot be told.

    Scaling, exchanging the sides, moving terms across and multiplying by another expression keep solutions, so none of
    these is ever called different.
    """
    if max(slow_steps(left), slow_steps(right)) > _MAX_SLOW:
        return False
    return all(_missed(left, right, k) and _missed(right, left, k) for k in range(_POINTS))


def _missed(left: Node, right: Node, k: int) -> bool:
    """Whether the k-th solution of left = 0 is clearly none of right = 0, and none that is merely rounded."""
    names = tuple(sorted(symbols(left) | symbols(right)))
    found = _solution(left, names, k)
    if found is None:
        return False
    unknown, point = found[0], dict(found[1])
    here = _value(right, point)
    beside = _value(right, {**point, unknown: point[unknown] + _STEP})
    if here is None or beside is None or abs(here) <= _FAR:
        return False
    distance = abs(here) if beside == here else abs(here * _STEP / (beside - here))
    return bool(distance > _FAR)


@lru_cache(maxsize=4_000)
def _solution(node: Node, names: tuple[str, ...], k: int) -> tuple[str, tuple[tuple[str, Any], ...]] | None:
    """A point at which an expression is 0: all symbols but one drawn, that one (named first) found by Newton's iteration; None
    without one.
    """
    own = [name for name in names if name in symbols(node)]
    if not own:
        return None
    draw = random.Random(k)
    point: dict[str, Any] = {name: NUMBERS.mpf(draw.uniform(0.5, 3.5)) for name in names}
    unknown = own[k % len(own)]
    x = NUMBERS.mpc(
        draw.uniform(0.5, 2.5), draw.uniform(0.1, 0.9)
    )  # complex: a circle has no real point there
    for _ in range(_STEPS):
        here, beside = _value(node, {**point, unknown: x}), _value(node, {**point, unknown: x + _STEP})
        if here is None or beside is None:
            return None
        if abs(here) < _STEP:
            return unknown, tuple({**point, unknown: x}.items())
        if beside == here:
            return None
        x -= here * _STEP / (beside - here)
    return None


def _value(node: Node, point: dict[str, Any]) -> Any:
    try:
        return real(evaluate(node, point))
    except (ArithmeticError, ValueError):
        return None
