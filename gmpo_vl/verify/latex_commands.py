r"""What a LaTeX command and its arguments stand for: fractions, roots, functions, sets, floors, matrices, named things."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gmpo_vl.verify.counting import series
from gmpo_vl.verify.lex import FUNCTIONS
from gmpo_vl.verify.tokens import Token, Unreadable
from gmpo_vl.verify.tree import OF_SEVERAL, Node, contains, num

if TYPE_CHECKING:
    from gmpo_vl.verify.parse import Parser

NAMING = frozenset("overline vec hat tilde dot ddot angle triangle overarc arc odot Delta".split())  # a thing
VALUES = frozenset(
    "abs frac sqrt pi binom sum prod langle lfloor lceil infty begin unicoderoot unicodecuberoot cbrt".split()
)  # start a value
_MATRICES = frozenset("pmatrix bmatrix matrix array smallmatrix Bmatrix vmatrix".split())


def command(p: Parser) -> Node:
    """What a command and its arguments stand for."""
    name = p.peek()
    p.i += 1
    if name in ("pi", "infty"):
        return Node("const", (name,))
    if name == "frac":
        return Node("div", (argument(p), argument(p)))
    if name == "binom":
        return Node("binom", (argument(p), argument(p)))
    if name in ("sqrt", "cbrt", "unicoderoot", "unicodecuberoot"):
        return _root(p, name)
    if name in ("lfloor", "lceil"):
        inside = p.sum()
        p.expect("r" + name[1:])
        return Node("floor" if name == "lfloor" else "ceil", (inside,))
    if name in ("\\{", "lbrace"):
        if p.take("\\}", "rbrace"):
            return Node("set", ())
        if builder := set_builder(p):
            return builder
        inside = p.sequence()
        p.expect("\\}", "rbrace")
        return Node("set", inside.args if inside.op in ("list", "either") else (inside,))
    if name in ("sum", "prod"):
        return series(p, name)
    if name == "langle":
        p.i -= 1
        return angle(p, "rangle")
    if name == "abs" and p.peek() == "(":
        return Node("abs", (p.bracket(),))
    if name == "abs":
        return Node("mul", (Node("mul", (Node("sym", ("a",)), Node("sym", ("b",)))), Node("sym", ("s",))))
    if name == "emptyset":
        return Node("set", ())
    if name in FUNCTIONS:
        return _function(p, name)
    if name == "overline" and (ends := p.segment()):  # the segment AB, with or without its bar
        return Node("mul", (Node("sym", (ends[0],)), Node("sym", (ends[1],))))
    if name in NAMING:
        return Node("sym", (p.named(name),))
    if name == "begin":
        return _matrix(p)
    raise Unreadable(f"the command {name!r}")


def angle(p: Parser, closing: str) -> Node:
    r"""`\langle 1, 2 \rangle`, `<1, 2>`: a vector by its components."""
    p.i += 1
    items = [p.sum()]
    while p.take(","):
        items.append(p.sum())
    p.expect(closing)
    if not 1 < len(items) <= 64:
        raise Unreadable("angle brackets around no vector")
    return Node("tuple", ("(", ")", tuple(items)))


def argument(p: Parser) -> Node:
    r"""An argument of `\frac` or `\binom`: a group, or one digit, or one symbol."""
    if p.take("{"):
        node = p.sum()
        p.expect("}")
        return node
    if p.kind() == "num":
        digits = p.peek()
        if len(digits) == 1:
            p.i += 1
            return num(int(digits), digits)
        if len(digits) == 2 and p.peek(-1) in ("frac", "binom") and digits.isdecimal():  # \frac12
            p.tokens[p.i : p.i + 1] = [Token("num", digits[0]), Token("num", digits[1])]
            return argument(p)
        raise Unreadable("digits without braces")
    if p.kind() in ("name", "cmd") and p.peek() not in ("frac",):
        return p.primary()
    raise Unreadable(f"{p.peek()!r} is no argument")


def set_builder(p: Parser) -> Node | None:
    r"""`x \mid x \ge 3\}`, `x \in \mathbb{Z} : |x| < 3\}` after an opening brace; None for anything else."""
    if p.kind() != "name" or p.peek(1) not in ("|", ":", "in"):
        return None
    start, depth, tokens = p.i, p.depth, p.tokens
    bar = next((k for k in range(p.i, len(tokens)) if tokens[k].text in ("|", ":")), 0)
    p.tokens = [
        *tokens[:bar],
        Token("op", "such"),
        *tokens[bar + 1 :],
    ]  # no bar that an absolute value could close
    try:
        variable = p.symbol()
        domain = p.union() if p.take("in") else Node("numbers", ("R",))
        p.expect("such")
        condition = p.sequence()
        p.expect("\\}", "rbrace", "}")
    except Unreadable:
        condition = num(0)
    if not contains(condition, ("rel",)):
        p.i, p.depth, p.tokens = start, depth, tokens
        return None
    return Node(
        "where", (variable, domain, Node("both", condition.args) if condition.op == "list" else condition)
    )


def numbers(p: Parser) -> Node:
    r"""`\mathbb{R}`, `\mathbb{Z}^+`, `\mathbb{R}_{\ge 0}`: a set of numbers; `\mathbb{R}^n` and the like are names."""
    letter = p.peek()
    p.i += 1
    start = p.i
    if p.follows("^", "+") or p.follows("^", "{", "+", "}"):
        return Node("numbers", (letter + ">",))
    if p.follows("^", "-") or p.follows("^", "{", "-", "}"):
        return Node("numbers", (letter + "<",))
    below = p.subscript()
    if sign := {"_>0": ">", "_<0": "<", "_ge0": ">=", "_>=0": ">=", "_le0": "<=", "_<=0": "<="}.get(below):
        return Node("numbers", (letter + sign,))
    if below or p.peek() == "^":
        return Node("sym", (letter + below,))
    p.i = start
    return Node("numbers", (letter,))


def _root(p: Parser, name: str) -> Node:
    degree = num(3 if name in ("cbrt", "unicodecuberoot") else 2)
    if name == "sqrt" and p.take("["):
        degree = p.sum()
        p.expect("]")
    if p.peek() == "{" or (p.kind() == "num" and len(p.peek()) == 1) or p.kind() in ("name", "cmd"):
        return Node("root", (degree, argument(p)))
    if p.peek() == "(" or (p.kind() == "num" and name != "sqrt"):
        return Node("root", (degree, p.primary()))
    raise Unreadable("a root without a clear end")


def _function(p: Parser, name: str) -> Node:
    r"""`\sin 2t`, `\sin^2(x)`, `\log_{10} 250`, `\max`: without brackets the argument is the product that follows."""
    base: Node | None = None
    power: Node | None = None
    while p.peek() in ("_", "^") and p.kind() == "op":
        if p.take("_"):
            base = argument(p) if p.peek() == "{" or p.kind() == "name" else p.primary()
        else:
            p.expect("^")
            power = argument(p) if p.peek() == "{" or len(p.peek()) == 1 else p.primary()
    if p.peek() in ("(", "[", "{"):
        inside = p.primary()
    else:
        p.deeper()
        inside = p.signed_factor()
        while p.starts_factor() and p.peek() not in FUNCTIONS:
            inside = Node("mul", (inside, p.factor()))
        p.depth -= 1
    if (
        power is not None
        and power.op == "neg"
        and power.args[0] == num(1, "1")
        and name in ("sin", "cos", "tan")
    ):
        name, power = "arc" + name, None
    if inside.op in ("tuple", "set"):  # \\max(3, 7), log(x, 2)
        items = inside.args if inside.op == "set" else inside.args[2]
        if base is not None or not (name in OF_SEVERAL or (name == "log" and len(items) == 2)):
            raise Unreadable(f"{name} of several")
        return Node("fn", (name, *items))
    node = Node("fn", (name, inside) if base is None else (name, inside, base))
    return node if power is None else Node("pow", (node, power))


def _matrix(p: Parser) -> Node:
    kind = p.environment()
    if kind in ("cases", "dcases", "aligned", "system"):
        return _cases(p, kind)
    if kind not in _MATRICES:
        raise Unreadable(f"the environment {kind!r}")
    if kind == "array" and p.take("{"):
        while not p.take("}"):
            p.i += 1
            if p.kind() == "end":
                raise Unreadable("an array without columns")
    rows: list[tuple[Node, ...]] = []
    row = [p.sum()]
    while True:
        if p.take("&"):
            row.append(p.sum())
            continue
        rows.append(tuple(row))
        if p.take("\\\\") and p.peek() != "end":
            row = [p.sum()]
            continue
        p.expect("end")
        if p.environment() != kind:
            raise Unreadable("a matrix is never closed")
        return Node("matrix", ("det" if kind == "vmatrix" else "matrix", tuple(rows)))


def _cases(p: Parser, kind: str) -> Node:
    """The rows of a cases environment: values with conditions, or equations that hold together (a list)."""
    rows: list[Node] = []
    while True:
        value = p.relation()
        p.take(",", ";", ".")
        rows.append(Node("case", (value, _condition(p))) if p.take("&") else value)
        p.take(",", ";", ".")
        if p.take("\\\\") and p.peek() != "end":
            continue
        p.expect("end")
        if p.environment() != kind:
            raise Unreadable("cases are never closed")
        return Node("cases" if all(row.op == "case" for row in rows) else "list", tuple(rows))


def _condition(p: Parser) -> Node:
    """`x > 0`, `if x > 0`, `otherwise`."""
    while p.kind() == "word" and p.peek().lower() in ("if", "for", "when", "where"):
        p.i += 1
    if p.kind() == "word" and p.peek().lower() in ("otherwise", "else", "elsewhere"):
        p.i += 1
        return Node("sym", ("otherwise",))
    return p.relation()
