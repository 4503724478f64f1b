r"""Sets of numbers: intervals and points, however they are written: `[3,\infty)`, `x \ge 3`, `\{x \mid 2x \ge
6\}`.

A region is a union of pieces on the real line, or of those of their numbers that lie in a domain (the whole
numbers, say).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from gmpo_vl.verify.arithmetic import NUMBERS, real
from gmpo_vl.verify.quantities import Leeway, same_quantity, value_at
from gmpo_vl.verify.tree import INFINITY, Node, is_name, num, sym

FLIPPED = {"<": ">", ">": "<", "le": "ge", "ge": "le"}
ORDERS = frozenset(FLIPPED)
_ONE_ORDER = {(sign,) for sign in ORDERS}
_COMPARED = ORDERS | {"ne"}
_MAX_POINTS = 64  # whole numbers of a bounded region that are listed
_ALWAYS = ("numbers", "union", "cap", "minus", "where", "both")
_NO_POINTS = (*_ALWAYS, "tuple", "set", "list", "either", "matrix", "based", "rel")


class Piece(NamedTuple):
    """An interval; a point where both ends are one value. The keys order the ends: None with symbols."""

    low: Node
    low_open: bool
    high: Node
    high_open: bool
    low_key: Any = None
    high_key: Any = None


_End = tuple[Node, bool, Any]  # the value, whether it is left out, what orders it


class Region(NamedTuple):
    """pieces: apart and in order, where their ends are numbers. variable: whose values these are, if said."""

    pieces: tuple[Piece, ...]
    domain: str = "R"
    variable: Node | None = None


def speaks_of_region(node: Node) -> bool:
    """Whether a tree can only be a set of numbers; `(1, 2)` and `\\{1, 2\\}` can be that, too."""
    if node.op == "rel":
        return node.args[0] == ("in",) or set(node.args[0]) <= _COMPARED
    if node.op in ("either", "list"):
        return node.args[0].op == "rel" and speaks_of_region(node.args[0])
    return node.op in _ALWAYS or (node.op == "sub" and node.args[0].op == "numbers")


def region(node: Node) -> Region | None:
    """The numbers that a tree stands for; None where it stands for none, or its ends cannot be ordered."""
    reader = _READERS.get(node.op)
    return reader(node) if reader else None


def is_ordered(found: Region) -> bool:
    """Whether all ends are numbers, so that nothing but `same_region` need be asked."""
    return all(map(_ordered, found.pieces))


def same_region(gold: Region, answer: Region, leeway: Leeway) -> bool:
    """Whether both are the same numbers, and of the same variable where both name one."""
    comparable = gold.domain == answer.domain and len(gold.pieces) == len(answer.pieces)
    if not comparable or not _same_variable(gold, answer):
        return False
    left = list(answer.pieces)
    for piece in gold.pieces:
        found = next((p for p in left if _same_piece(piece, p, leeway)), None)
        if found is None:
            return False
        left.remove(found)
    return True


def _same_piece(gold: Piece, answer: Piece, leeway: Leeway) -> bool:
    if (gold.low_open, gold.high_open) != (answer.low_open, answer.high_open):
        return False
    ends = ((gold.low, answer.low), (gold.high, answer.high))
    return all(one == two or same_quantity(one, two, leeway) for one, two in ends)


# --- what is written ------------------------------------------------------------------------------------
def _numbers(node: Node) -> Region:
    domain, sign = node.args[0][0], node.args[0][1:]
    if not sign:
        return Region((_WHOLE_LINE,), domain)
    line = _comparison({"<": "<", ">": ">", "<=": "le", ">=": "ge"}[sign], num(0))
    return _tidy((line,), domain) or Region(())


def _interval(node: Node) -> Region | None:
    opening, closing, ends = node.args
    if len(ends) != 2:
        return None
    if (ends[0], opening) == (_MINUS_INFINITY, "[") or (ends[1], closing) == (INFINITY, "]"):
        return None
    return _tidy((_piece(ends[0], opening == "(", ends[1], closing == ")"),), "R", strict=True)


def _points(node: Node) -> Region | None:
    if any(item.op in _NO_POINTS for item in node.args):
        return None
    return _tidy(tuple(_piece(item, False, item, False) for item in node.args), "R")


def _relation(node: Node) -> Region | None:
    signs, sides = node.args
    if signs == ("in",):
        inside = region(sides[1])
        return inside._replace(variable=sides[0]) if inside and is_name(sides[0]) else None
    if len(signs) > 1 and not (set(signs) <= {"<", "le"} or set(signs) <= {">", "ge"}):
        return None
    found: Region | None = None
    middle = sides[1] if len(sides) == 3 and is_name(sides[1]) else None
    for sign, left, right in zip(signs, sides, sides[1:]):
        part = _compared(sign, left, right, middle)
        found = _both(found, part) if found and part else part
        if found is None:
            return None
    return found


def _every(node: Node) -> Region | None:
    r"""`x > 1 and x < 4`; `x \in \mathbb{R}, x \ne 1`; `x > 2, x \ne 3`; `x \ne 1, 2`; `x > 1, x < 4`.

    No other commas: `x < 1, x > 4` may mean either.
    """
    first, *others = node.args
    if node.op == "list" and all(item.op == "rel" and item.args[0] in _ONE_ORDER for item in node.args):
        found = _joined(node.args, _both)
        return found if found and len(found.pieces) == 1 and _is_bounded(found.pieces[0]) else None
    if node.op == "list":
        signs = {item.args[0] for item in node.args if item.op == "rel"}
        if signs == {("ne",)}:
            name = first.args[1][0]
            others = [item if item.op == "rel" else Node("rel", (("ne",), (name, item))) for item in others]
        elif any(item.op != "rel" for item in others) or (
            first.args[0] != ("in",) and any(item.args[0] != ("ne",) for item in others)
        ):
            return None
    return _joined((first, *others), _both)


def _minus(node: Node) -> Region | None:
    one, two = region(node.args[0]), region(node.args[1])
    if one is None or two is None or two.domain != "R":
        return None
    rest = _complement(two)
    return _both(one, rest) if rest else None


def _where(node: Node) -> Region | None:
    variable, domain, condition = node.args
    one, two = region(domain), region(condition)
    if one is None or two is None or two.variable not in (None, variable):
        return None
    both = _both(one._replace(variable=variable), two)
    return both._replace(variable=None) if both else None


def _union_of(node: Node) -> Region | None:
    return _joined(node.args, _union)


_READERS: dict[str, Callable[[Node], Region | None]] = {
    "numbers": _numbers, "tuple": _interval, "set": _points, "rel": _relation, "either": _union_of,
    "union": _union_of, "both": _every, "list": _every, "cap": lambda node: _joined(node.args, _both),
    "minus": _minus, "sub": _minus, "where": _where,
}  # fmt: skip


def _joined(nodes: tuple[Node, ...], join: Callable[[Region, Region], Region | None]) -> Region | None:
    found: Region | None = None
    for node in nodes:
        part = region(node)
        found = join(found, part) if found and part else part
        if found is None:
            return None
    return found


# --- inequalities ---------------------------------------------------------------------------------------
def _compared(sign: str, left: Node, right: Node, variable: Node | None = None) -> Region | None:
    r"""x < 3, 2x + 1 \ge 6, |x - 3| < 2, x \ne 2: one variable (`variable` where it is known), linear."""
    if sign not in _COMPARED:
        return None
    if (right.symbols and not left.symbols) or (variable and right == variable):
        sign, left, right = FLIPPED.get(sign, sign), right, left
    if left.op == "abs" and not right.symbols and not left.args[0].contains("abs"):
        inner, minus = left.args[0], Node("neg", (right,))
        one, two = _compared(sign, inner, right), _compared(FLIPPED.get(sign, sign), inner, minus)
        if one is None or two is None:
            return None
        return _union(one, two) if sign in (">", "ge") else _both(one, two)
    names = left.symbols | right.symbols
    variable = left if is_name(left) else variable or sym(next(iter(names), ""))
    if not is_name(left) and len(names) != 1:
        return None
    factor, rest = linear(Node("sub", (left, right)), variable) or (None, None)
    slope = _key(factor) if factor else None
    if factor is None or rest is None or slope is None or slope == 0:
        return None
    end = right if left == variable else Node("neg", (Node("div", (rest, factor)),))
    if sign == "ne":
        point = _tidy((_piece(end, False, end, False),), "R")
        outside = _complement(point) if point else None
        return outside._replace(variable=variable) if outside else None
    line = _comparison(sign if slope > 0 else FLIPPED[sign], end)
    return Region((line,), "R", variable)


def _comparison(sign: str, end: Node) -> Piece:
    if sign in ("<", "le"):
        return _piece(_MINUS_INFINITY, True, end, sign == "<")
    return _piece(end, sign == ">", INFINITY, True)


def linear(node: Node, variable: Node) -> tuple[Node, Node] | None:
    """(a, b) of a * variable + b; None for anything that is not linear."""
    if node == variable:
        return num(1), num(0)
    name = variable.symbols
    if node.symbols.isdisjoint(name):
        return num(0), node
    parts = [linear(arg, variable) for arg in node.args] if node.op in ("add", "sub", "neg") else []
    if parts and all(parts):
        return Node(node.op, tuple(p[0] for p in parts if p)), Node(node.op, tuple(p[1] for p in parts if p))
    if node.op in ("mul", "div"):
        one, two = node.args
        if node.op == "mul" and two.symbols & name and not one.symbols & name:
            one, two = two, one
        inner = None if two.symbols & name else linear(one, variable)
        return inner and (Node(node.op, (inner[0], two)), Node(node.op, (inner[1], two)))
    return None


# --- pieces ---------------------------------------------------------------------------------------------
_MINUS_INFINITY = Node("neg", (INFINITY,))


def _key(node: Node) -> Any:
    """What orders an end: its value, or an infinity; None with symbols, or without a real value."""
    if node == INFINITY:
        return NUMBERS.inf
    if node == _MINUS_INFINITY:
        return -NUMBERS.inf
    if node.symbols:
        return None
    value = value_at(node, ())
    if value is None:
        return None
    value = real(value)
    return None if value.imag else value.real


def _piece(low: Node, low_open: bool, high: Node, high_open: bool) -> Piece:
    low_key, high_key = _key(low), _key(high)
    low_open, high_open = low_open or low == _MINUS_INFINITY, high_open or high == INFINITY
    return Piece(low, low_open, high, high_open, low_key, high_key)


_WHOLE_LINE = _piece(_MINUS_INFINITY, True, INFINITY, True)


def _ordered(piece: Piece) -> bool:
    return piece.low_key is not None and piece.high_key is not None


def _is_bounded(piece: Piece) -> bool:
    return _ordered(piece) and abs(piece.low_key) != NUMBERS.inf != abs(piece.high_key)


def _is_empty(piece: Piece) -> bool:
    if not _ordered(piece):
        return False
    if piece.low_key == piece.high_key:
        return piece.low_open or piece.high_open
    return piece.low_key > piece.high_key


def _tidy(
    pieces: tuple[Piece, ...], domain: str, variable: Node | None = None, strict: bool = False
) -> Region | None:
    """The region of these pieces, joined where they touch. strict: an interval from 5 to 3 is none."""
    if strict and any(_is_empty(piece) for piece in pieces):
        return None
    pieces = tuple(piece for piece in pieces if not _is_empty(piece))
    if not all(map(_ordered, pieces)):
        return Region(pieces, domain, variable)
    joined: list[Piece] = []
    for piece in sorted(pieces, key=lambda p: (p.low_key, p.low_open)):
        last = joined[-1] if joined else None
        left_out = last and piece.low_key == last.high_key and piece.low_open and last.high_open  # one point
        if last is None or piece.low_key > last.high_key or left_out:
            joined.append(piece)
        elif (piece.high_key, not piece.high_open) > (last.high_key, not last.high_open):
            joined[-1] = last._replace(high=piece.high, high_open=piece.high_open, high_key=piece.high_key)
    found = Region(tuple(joined), domain, variable)
    return _whole(found) if domain in "ZN" else found


def _whole(found: Region) -> Region:
    """The whole numbers of a region, between whole ends; one by one where they are few. N has 0 or not."""
    ends = [
        (_next_whole(p.low_key, p.low_open), -_next_whole(-p.high_key, p.high_open)) for p in found.pieces
    ]
    ends = [(low, high) for low, high in ends if low <= high]
    few = sum(high - low + 1 for low, high in ends) <= _MAX_POINTS
    if few and (found.domain == "Z" or all(low >= 1 for low, _ in ends)):
        values = [num(int(low) + k) for low, high in ends for k in range(int(high - low) + 1)]
        return Region(tuple(_piece(v, False, v, False) for v in values), "R", found.variable)
    pieces = tuple(_piece(_whole_end(low), False, _whole_end(high), False) for low, high in ends)
    return Region(pieces, found.domain, found.variable)


def _next_whole(key: Any, is_open: bool) -> Any:
    """The first whole number from here upwards; an infinity as it is."""
    if abs(key) == NUMBERS.inf:
        return key
    whole = NUMBERS.ceil(key)
    return whole + 1 if is_open and whole == key else whole


def _whole_end(key: Any) -> Node:
    if abs(key) == NUMBERS.inf:
        return INFINITY if key > 0 else _MINUS_INFINITY
    return num(int(key))


def _same_variable(one: Region, two: Region) -> bool:
    return one.variable is None or two.variable is None or one.variable == two.variable


def _union(one: Region, two: Region) -> Region | None:
    if one.domain != two.domain or not _same_variable(one, two):
        return None
    return _tidy(one.pieces + two.pieces, one.domain, one.variable or two.variable)


def _both(one: Region, two: Region) -> Region | None:
    """What two regions share."""
    domains = {one.domain, two.domain} - {"R"}
    if len(domains) > 1 or not _same_variable(one, two):
        return None
    pieces = [_overlap(p, q) for p in one.pieces for q in two.pieces]
    if None in pieces:
        return None
    return _tidy(tuple(p for p in pieces if p), next(iter(domains), "R"), one.variable or two.variable)


def _overlap(p: Piece, q: Piece) -> Piece | None:
    """What two intervals share (an empty interval where nothing); None where their ends cannot be ordered."""
    low = _inner((p.low, p.low_open, p.low_key), (q.low, q.low_open, q.low_key), 1)
    high = _inner((p.high, p.high_open, p.high_key), (q.high, q.high_open, q.high_key), -1)
    return Piece(*low[:2], *high[:2], low[2], high[2]) if low and high else None


def _inner(one: _End, two: _End, sign: int) -> _End | None:
    """The end further inside: the larger of two low ends (sign 1), the smaller of two high ends (sign -1)."""
    infinite = -sign * NUMBERS.inf
    if one == two or two[2] == infinite:
        return one
    if one[2] == infinite:
        return two
    if one[2] is None or two[2] is None:
        return None
    if one[2] == two[2]:
        return one if one[1] else two
    return one if sign * (one[2] - two[2]) > 0 else two


def _complement(found: Region) -> Region | None:
    """The rest of the real line."""
    if not is_ordered(found) and len(found.pieces) > 1:
        return None
    pieces, low, low_open = [], _MINUS_INFINITY, True
    for piece in found.pieces:
        pieces.append(_piece(low, low_open, piece.low, not piece.low_open))
        low, low_open = piece.high, not piece.high_open
    pieces.append(_piece(low, low_open, INFINITY, True))
    return _tidy(tuple(p for p in pieces if p.low != INFINITY and p.high != _MINUS_INFINITY), "R")
