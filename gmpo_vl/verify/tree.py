"""The tree of an answer, and what one asks about it.

Arithmetic:  num (Fraction, how it was written) · sym (name) · const (pi, e, i, infty) · mixed · add sub mul div neg pow root
             fact binom abs floor ceil · fn (name, argument[, base]) · pm mp
Marks:       deg · pct · unit (value, canonical unit) · based (digits, base)
Structures:  list · either (a list joined by "or") · set · tuple (opening, closing, items) · union · ratio
             matrix (kind, rows) · rel (signs, sides)
"""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from typing import Any, NamedTuple


class Node(NamedTuple):
    op: str
    args: tuple[Any, ...]


INFINITY = Node("const", ("infty",))


def num(value: int | Fraction, written: str = "") -> Node:
    return Node("num", (Fraction(value), written))


def contains(node: Any, ops: Iterable[str]) -> bool:
    if isinstance(node, Node):
        return node.op in ops or any(contains(a, ops) for a in node.args)
    return isinstance(node, tuple) and any(contains(a, ops) for a in node)


def has_logarithm(node: Any) -> bool:
    if isinstance(node, Node) and node.op == "fn" and node.args[0] in ("ln", "log", "lg"):
        return True
    return isinstance(node, tuple) and any(
        has_logarithm(a) for a in (node.args if isinstance(node, Node) else node)
    )


def symbols(node: Any) -> set[str]:
    return _leaves(node, "sym")


def constants(node: Any) -> set[str]:
    return _leaves(node, "const")


def _leaves(node: Any, op: str) -> set[str]:
    if isinstance(node, Node) and node.op == op:
        return {node.args[0]}
    if isinstance(node, tuple):
        return set().union(*(_leaves(a, op) for a in (node.args if isinstance(node, Node) else node)))
    return set()


def substituted(node: Any, old: Node, new: Node) -> Any:
    """The tree with every `old` replaced."""
    if node == old:
        return new
    if isinstance(node, Node):
        return Node(node.op, tuple(substituted(a, old, new) for a in node.args))
    return tuple(substituted(a, old, new) for a in node) if isinstance(node, tuple) else node


def without(node: Any, op: str) -> Any:
    """The tree with every mark `op` taken off what it marks."""
    if isinstance(node, Node):
        return (
            without(node.args[0], op)
            if node.op == op
            else Node(node.op, tuple(without(a, op) for a in node.args))
        )
    return tuple(without(a, op) for a in node) if isinstance(node, tuple) else node


def both_signs(node: Node) -> list[Node]:
    """`1 ± x` as its two values; a tree without ± as itself."""
    return [_signed(node, 1), _signed(node, -1)] if contains(node, ("pm", "mp")) else [node]


def _signed(node: Any, sign: int) -> Any:
    if isinstance(node, Node):
        args = tuple(_signed(a, sign) for a in node.args)
        if node.op in ("pm", "mp"):
            return Node("add" if (node.op == "pm") == (sign > 0) else "sub", args)
        return Node(node.op, args)
    return tuple(_signed(a, sign) for a in node) if isinstance(node, tuple) else node


def is_name(node: Node, sums: bool = False) -> bool:
    """x, f(x), AB, m\\angle A, \\frac{AB}{CD}, sin A, (x, y): something without numbers, which an equation gives a value to.
    sums: x + y counts too.
    """
    if node.op == "sym":
        return True
    if node.op in ("mul", "div", "abs") or (sums and node.op in ("add", "sub")):
        return all(is_name(a, sums) for a in node.args)
    if node.op == "tuple":
        return all(is_name(a) for a in node.args[2])
    return node.op == "fn" and all(is_name(a) for a in node.args[1:])
