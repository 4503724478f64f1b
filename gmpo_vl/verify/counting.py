r"""The notations of counting and of series: `{}^nC_r`, `7C3`, `C(7, 3)`, `\sum_{k=1}^n k`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gmpo_vl.verify.tokens import Unreadable
from gmpo_vl.verify.tree import Node, contains, substituted, symbols

if TYPE_CHECKING:
    from gmpo_vl.verify.parse import Parser


def combinations(p: Parser) -> Node | None:
    """`{}^nC_r`, `_nC_r`, `7C3`, `C(7, 3)`, `nCr(7, 3)`, and P for arrangements; None for anything else."""
    return _around(p) or _between(p) or _called(p)


def _around(p: Parser) -> Node | None:
    start = p.i
    if p.follows("{", "}"):
        pass
    elif p.peek() not in ("^", "_"):
        return None
    if (
        p.take("^", "_")
        and (n := _script(p))
        and (letter := p.take("C", "P"))
        and p.take("_")
        and (k := _script(p))
    ):
        return _chosen(letter, n, k)
    p.i = start
    return None


def _script(p: Parser) -> Node | None:
    if p.take("{"):
        node = p.sum()
        p.expect("}")
        return node
    if p.kind() == "num":
        return p.number()
    if p.kind() == "name":
        p.i += 1
        return Node("sym", (p.peek(-1),))
    return None


def _between(p: Parser) -> Node | None:
    if p.kind() != "num" or p.peek(1) not in ("C", "P") or p.kind(2) != "num":
        return None
    if p.tokens[p.i + 1].spaced or p.tokens[p.i + 2].spaced or not (p.peek() + p.peek(2)).isdecimal():
        return None
    n, letter = p.number(), p.take("C", "P")
    return _chosen(letter, n, p.number())


def _called(p: Parser) -> Node | None:
    start = p.i
    letter = "C" if p.follows("n", "C", "r") else "P" if p.follows("n", "P", "r") else p.take("C")
    if not letter or not p.take("(") or p.tokens[p.i - 1].spaced:
        p.i = start
        return None
    n = p.sum()
    if not p.take(","):
        p.i = start
        return None
    k = p.sum()
    p.expect(")")
    if not _can_choose(n, k):  # C(1, 2), a point
        p.i = start
        return None
    return _chosen(letter, n, k)


def _can_choose(n: Node, k: Node) -> bool:
    """Whole numbers n >= k >= 0; or letters, which are taken for such."""
    if symbols(n) or symbols(k):
        return not contains(n, ("rel",))
    whole = all(part.op == "num" and part.args[0].denominator == 1 for part in (n, k))
    return whole and n.args[0] >= k.args[0]


def _chosen(letter: str, n: Node, k: Node) -> Node:
    if letter == "C":
        return Node("binom", (n, k))
    return Node("div", (Node("fact", (n,)), Node("fact", (Node("sub", (n, k)),))))


def series(p: Parser, op: str) -> Node:
    r"""`\sum_{k=1}^{n} k^2` or a product, after its name: over whole numbers one by one, the term up to the next plus or minus."""
    p.expect("_")
    p.expect("{")
    if p.kind() != "name":
        raise Unreadable("a series over nothing")
    name = p.symbol()
    p.expect("=")
    low = p.sum()
    p.expect("}")
    p.expect("^")
    high = _script(p)
    body = p.term()
    if high is None or contains(body, ("sum", "prod")):
        raise Unreadable("such a series")
    bound = Node("bound", (f"#{name.args[0]}",))
    return Node(op, (bound.args[0], low, high, substituted(body, name, bound)))
