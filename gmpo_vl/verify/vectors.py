r"""Points and vectors by their components: `A(1,2)`, `3\mathbf{i}+4\mathbf{j}`, a column, `x=1, y=2`."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from gmpo_vl.verify.quantities import value_at
from gmpo_vl.verify.regions import linear
from gmpo_vl.verify.tree import Node, num, substituted, sym

_MARKS = ("hat ", "vec ", "overline ")
_PLAIN = {"imath": "i", "jmath": "j"}
_BASIS = ("i", "j", "k")
_I = Node("const", ("i",))
_MAX_ENTRIES = 100  # of a matrix that is multiplied out


def aligned(gold: Node, answer: Node) -> tuple[Node, Node]:
    """Both trees, as tuples where they write a point or a vector in two forms; as they are otherwise."""
    if gold.op != "rel" or answer.op == "tuple" or answer.symbols:  # 1, 2 is no (x, y) = (1, 2)
        gold = _flat(gold)
    answer = _flat(answer)
    if (gold.op != answer.op and {gold.op, answer.op} & _WRITTEN) or _is_marked(gold) or _is_marked(answer):
        one, two = components(gold), components(answer)
        if one and two:
            size = max(len(one), len(two))
            if all(len(parts) == size or node.op in _SUMS for parts, node in ((one, gold), (two, answer))):
                return _padded(one, size), _padded(two, size)
    return _one_unit(gold, answer), answer


def components(node: Node) -> tuple[Node, ...] | None:
    """The components of a point or vector; None for anything else."""
    if node.op == "tuple":
        return node.args[2] if node.args[:2] == ("(", ")") else None
    if node.op == "matrix" and node.args[0] == "matrix":
        rows = node.args[1]
        return tuple(row[0] for row in rows) if all(len(row) == 1 for row in rows) else None
    if node.op in ("list", "both", "set"):
        return _named(node)
    return _in_basis(node) if node.op in _SUMS else None


_OF_POINT = ({"x", "y"}, {"x", "y", "z"})
_WRITTEN = {"tuple", "matrix"}
_SUMS = ("add", "sub", "mul", "div", "neg", "sym")


def _padded(parts: tuple[Node, ...], size: int) -> Node:
    """The tuple of components in so many dimensions."""
    return Node("tuple", ("(", ")", (*parts, *[num(0)] * (size - len(parts)))))


def _named(node: Node) -> tuple[Node, ...] | None:
    """The values of `y = 2, x = 1` by the names' order, x before y."""
    values: dict[str, Node] = {}
    for item in node.args:
        if item.op != "rel" or item.args[0] != ("=",):
            return None
        name, value = item.args[1]
        if name.op != "sym" or len(name.args[0]) > 1 or name.args[0] in values or value.symbols:
            return None
        values[name.args[0]] = value
    return tuple(values[name] for name in sorted(values))


def _in_basis(node: Node) -> tuple[Node, ...] | None:
    """The coefficients of i and j (and k); None without two of them, unless they are marked as vectors."""
    names = node.symbols
    if not _is_marked(node) and (
        "j" not in names or ("i" not in node.summary.constants and "k" not in names)
    ):
        return None
    node = substituted(node, _I, sym("i"))
    for name in names:
        if (plain := _plain(name)) in _BASIS:
            node = substituted(node, sym(name), sym(plain))
    found: list[Node] = []
    for name in _BASIS:
        parts = linear(node, sym(name))
        if parts is None:
            return None
        found.append(parts[0])
        node = parts[1]
    if any(not part.symbols.isdisjoint(_BASIS) for part in (*found, node)) or not _is_zero(node):
        return None
    return tuple(found[:2]) if _is_zero(found[2]) else tuple(found)


def _is_marked(node: Node) -> bool:
    names = node.symbols
    return bool(names) and any(name.startswith(_MARKS) for name in names)


def _plain(name: str) -> str:
    bare = name.partition(" ")[2].strip("{} ") if name.startswith(_MARKS) else name
    return _PLAIN.get(bare, bare)


def _is_zero(node: Node) -> bool:
    return (
        value_at(node, tuple((name, Fraction(7 + k, 3)) for k, name in enumerate(sorted(node.symbols)))) == 0
    )


def _one_unit(gold: Node, answer: Node) -> Node:
    """An engineer's j is the imaginary unit where the answer has i and no j. A gold with i takes no j."""
    only_j = "j" in gold.symbols and "i" not in gold.summary.constants | gold.symbols
    only_i = "i" in answer.summary.constants and "j" not in answer.symbols
    return substituted(gold, sym("j"), _I) if only_j and only_i else gold


# --- one form -------------------------------------------------------------------------------------------
def _flat(node: Node) -> Node:
    """`A(1, 2)` as A = (1, 2); `2 \\begin{pmatrix}1\\\\2\\end{pmatrix}` and sums multiplied out."""
    if node.op == "mul" and node.args[1].op == "tuple" and _names_point(node.args[0]):
        return Node("rel", (("=",), node.args))
    if node.op == "rel" and node.args[0] == ("=",):
        return _of_point(*node.args[1]) or node
    if node.op in ("mul", "div", "neg", "add", "sub") and node.contains("matrix"):
        return _entrywise(node) or node
    return node


def _of_point(left: Node, right: Node, *others: Node) -> Node | None:
    """x = 1, y = 2 for `(x, y) = (1, 2)` and for `(y, x) = (2, 1)`; None for other equations."""
    if others or left.op != "tuple" or right.op != "tuple" or left.symbols not in _OF_POINT:
        return None
    names, values = left.args[2], right.args[2]
    if len(names) != len(values) or len(left.symbols) != len(names):
        return None
    pairs = sorted(zip(names, values), key=lambda pair: pair[0].args)
    return Node("list", tuple(Node("rel", (("=",), pair)) for pair in pairs))


def _names_point(node: Node) -> bool:
    return node.op == "sym" and node.args[0][0].isupper() and len(node.args[0]) <= 3


def _entrywise(node: Node) -> Node | None:
    """The matrix that a sum or multiple of matrices is; None for anything else."""
    if node.op == "matrix":
        kind, rows = node.args
        return node if kind == "matrix" and sum(map(len, rows)) <= _MAX_ENTRIES else None
    if node.op == "neg":
        return _mapped(_entrywise(node.args[0]), lambda entry: Node("neg", (entry,)))
    if node.op in ("mul", "div"):
        scalar, matrix = node.args if node.op == "mul" else node.args[::-1]
        if node.op == "mul" and not matrix.contains("matrix"):
            scalar, matrix = matrix, scalar
        if scalar.contains("matrix"):
            return None
        return _mapped(_entrywise(matrix), lambda entry: Node(node.op, (entry, scalar)))
    if node.op in ("add", "sub"):
        one, two = _entrywise(node.args[0]), _entrywise(node.args[1])
        if one is None or two is None or [len(r) for r in one.args[1]] != [len(r) for r in two.args[1]]:
            return None
        rows = tuple(
            tuple(Node(node.op, pair) for pair in zip(*both)) for both in zip(one.args[1], two.args[1])
        )
        return Node("matrix", ("matrix", rows))
    return None


def _mapped(matrix: Node | None, change: Any) -> Node | None:
    if matrix is None:
        return None
    return Node("matrix", ("matrix", tuple(tuple(change(entry) for entry in row) for row in matrix.args[1])))
