"""The tree of an answer, and what one asks about it.

Arithmetic:  num (Fraction, how it was written) · sym (name) · const (pi, e, i, infty) · mixed · add sub mul
             div neg pow root fact gamma binom abs floor ceil · fn (name, argument[, base]) · pm mp · sum prod
             (name, low, high, term) · bound (name)
Marks:       deg · pct · unit (value, canonical unit) · based (digits, base)
Structures:  list · either (a list joined by "or") · set · tuple (opening, closing, items) · union · ratio
             matrix (kind, rows) · cases ((value, condition)s) · rel (signs, sides) · both (relations that all
             hold)
Sets:        numbers (R, Z, N, Q, C and a sign: R>) · cap · minus · where (variable, domain, condition)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from fractions import Fraction
from functools import cached_property, lru_cache, reduce
from typing import Any, NamedTuple


class Summary(NamedTuple):
    """What stands anywhere in a tree. slow: how many powers, roots, functions and the like an evaluation
    takes; those cost time at 60 digits.
    """

    ops: frozenset[str]
    symbols: frozenset[str]
    constants: frozenset[str]
    functions: frozenset[str]
    slow: int


class _Pair(NamedTuple):
    op: str
    args: tuple[Any, ...]


class Node(_Pair):
    """(op, args); the arguments are nodes, tuples of nodes and plain values."""

    def contains(self, *ops: str) -> bool:
        """Whether a node of these kinds stands anywhere in the tree."""
        return not self.summary.ops.isdisjoint(ops)

    @property
    def symbols(self) -> frozenset[str]:
        return self.summary.symbols

    @property
    def summary(self) -> Summary:
        return _OF_A_NUMBER if self.op == "num" else self._summary

    @cached_property
    def _summary(self) -> Summary:
        """Found in one walk, at the first question."""
        ops: set[str] = set()
        leaves: dict[str, set[str]] = {"sym": set(), "const": set(), "fn": set()}
        stack, slow = [self], 0
        while stack:
            part = stack.pop()
            if type(part) is Node:
                op, args = part
                ops.add(op)
                if op in leaves:
                    leaves[op].add(args[0])
                if op in _SLOW:
                    slow += _SLOW[op]
                if op not in _WITHOUT_PARTS:
                    stack.extend(args)
            elif type(part) is tuple:
                stack.extend(part)
        names = {op: frozenset(found) for op, found in leaves.items()}
        return _shared(Summary(frozenset(ops), names["sym"], names["const"], names["fn"], slow))


@lru_cache(maxsize=4_000)
def _shared(summary: Summary) -> Summary:
    """One object for all trees with the same summary: the garbage collector visits every cached tree."""
    return summary


_OF_A_NUMBER = Summary(frozenset({"num"}), frozenset(), frozenset(), frozenset(), 0)
_SLOW = {"pow": 1, "root": 1, "fn": 1, "fact": 1, "binom": 1, "gamma": 1, "sum": 10, "prod": 10}
_WITHOUT_PARTS = ("num", "sym", "const")
OF_SEVERAL = ("max", "min", "gcd", "lcm")  # functions of two arguments and more
INFINITY = Node("const", ("infty",))


def num(value: int | Fraction, written: str = "") -> Node:
    return Node("num", (value if type(value) is Fraction else Fraction(value), written))


def sym(name: str) -> Node:
    return Node("sym", (name,))


def product(names: Iterable[str]) -> Node:
    """The product of some symbols."""
    return reduce(lambda one, two: Node("mul", (one, two)), map(sym, names))


def decimal(digits: str) -> Fraction:
    """The value of digits with or without decimals: 2.50 as 5/2."""
    whole, _, decimals = digits.partition(".")
    return Fraction(int(whole + decimals), 10 ** len(decimals)) if decimals else Fraction(int(whole))


def rebuilt(node: Any, change: Callable[[Node], Node | None]) -> Any:
    """The tree with what `change` gives in each node's place. Where it gives None, the parts are visited."""
    if isinstance(node, Node):
        new = change(node)
        return Node(node.op, tuple(rebuilt(a, change) for a in node.args)) if new is None else new
    return tuple(rebuilt(a, change) for a in node) if isinstance(node, tuple) else node


def substituted(node: Node, old: Node, new: Node) -> Node:
    """The tree with every `old` replaced."""
    return rebuilt(node, lambda part: new if part == old else None)


def without(node: Node, op: str) -> Node:
    """The tree with every mark `op` taken off what it marks."""
    return rebuilt(node, lambda part: without(part.args[0], op) if part.op == op else None)


def both_signs(node: Node) -> list[Node]:
    """`1 ± x` as its two values; a tree without ± as itself."""
    if not node.contains("pm", "mp"):
        return [node]
    return [_signed(node, {"pm": "add", "mp": "sub"}), _signed(node, {"pm": "sub", "mp": "add"})]


def _signed(node: Node, signs: dict[str, str]) -> Node:
    def change(part: Node) -> Node | None:
        op = signs.get(part.op)
        return Node(op, tuple(_signed(a, signs) for a in part.args)) if op else None

    return rebuilt(node, change)


def is_name(node: Node, sums: bool = False) -> bool:
    """x, f(x), AB, m\\angle A, \\frac{AB}{CD}, sin A, (x, y): something without numbers, which an equation
    gives a value to.
    sums: x + y counts too.
    """
    if node.op == "sym":
        return True
    if node.op in ("mul", "div", "abs") or (sums and node.op in ("add", "sub")):
        return all(is_name(a, sums) for a in node.args)
    if node.op == "tuple":
        return all(is_name(a) for a in node.args[2])
    return node.op == "fn" and all(is_name(a) for a in node.args[1:])
