r"""Tokens to a tree: a small grammar for what stands in answers.

    answer   := relation ((',' | ';' | or | and) relation)*          a list when there are several
    relation := set ((= | < | \le | \in | \approx | ...) set)*
    set      := ratio (\cup ratio)*
    ratio    := sum (':' sum)*
    sum      := term (('+' | '-' | \pm) term)*
    term     := factor (('*' | '/' | nothing) factor)*
    factor   := ['-'] primary ('^' ... | '!' | '%' | degree)*

A tree is a `Node(op, args)`; leaves are `num` (Fraction, how it was written), `sym` (name) and `const`.
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from typing import Any, NamedTuple

from gmpo_vl.verify.lex import FUNCTIONS, MAX_DEPTH, Token, Unreadable, lex

_MAX_DIGITS = 400  # of one literal
_MAX_TENS = 2_000  # of a decimal exponent
_RELATIONS = {
    "=",
    "<",
    ">",
    "le",
    "ge",
    "ne",
    "approx",
    "cong",
    "equiv",
    "in",
    "perp",
    "parallel",
    "to",
    "sim",
    "<=",
    ">=",
    "!=",
    "->",
}
_RELATION_NAMES = {"<=": "le", ">=": "ge", "!=": "ne", "->": "to"}
_PAIRS = {"lfloor": "rfloor", "lceil": "rceil", "langle": "rangle", "lbrace": "rbrace", "\\{": "\\}"}
_NAMING = {
    "overline",
    "vec",
    "hat",
    "tilde",
    "dot",
    "ddot",
    "angle",
    "triangle",
    "widehat",
    "overarc",
    "arc",
    "odot",
    "Delta",
    "stackrel",
}
_MATRICES = {"pmatrix", "bmatrix", "matrix", "array", "smallmatrix", "Bmatrix", "vmatrix"}


class Node(NamedTuple):
    op: str
    args: tuple[Any, ...]


@lru_cache(maxsize=20_000)
def parse(text: str) -> Node:
    """The tree of a normalised text. Raises Unreadable."""
    return _Parser(lex(text)).whole()


def num(value: int | Fraction, written: str = "") -> Node:
    return Node("num", (Fraction(value), written))


class _Parser:
    def __init__(self, tokens: list[Token]):
        self.tokens = tokens
        self.i = 0
        self.depth = 0

    # --- reading tokens -------------------------------------------------------------------------------------------
    def peek(self, ahead: int = 0) -> str:
        i = self.i + ahead
        return self.tokens[i].text if 0 <= i < len(self.tokens) else ""

    def kind(self, ahead: int = 0) -> str:
        i = self.i + ahead
        return self.tokens[i].kind if 0 <= i < len(self.tokens) else "end"

    def take(self, *texts: str) -> str:
        """Consume the next token if its text is one of these (and it is no word); "" otherwise."""
        if (
            self.i < len(self.tokens)
            and self.tokens[self.i].text in texts
            and self.tokens[self.i].kind != "word"
        ):
            self.i += 1
            return self.tokens[self.i - 1].text
        return ""

    def expect(self, *texts: str) -> str:
        found = self.take(*texts)
        if not found:
            raise Unreadable(f"expected {texts[0]!r}, found {self.peek()!r}")
        return found

    # --- lists and relations --------------------------------------------------------------------------------------
    def whole(self) -> Node:
        node = self.sequence()
        self.take(".")
        if self.i < len(self.tokens):
            raise Unreadable(f"left over: {self.peek()!r}")
        return node

    def sequence(self) -> Node:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise Unreadable("too deep")
        items = [self.relation()]
        while self.separated():
            items.append(self.relation())
        self.depth -= 1
        return items[0] if len(items) == 1 else Node("list", tuple(items))

    def separated(self) -> bool:
        start = self.i
        while self.kind() == "sep" or self.peek() in (",", ";"):
            self.i += 1
        return self.i > start

    def relation(self) -> Node:
        parts, ops = [self.union()], []
        while self.peek() in _RELATIONS and (self.kind() != "word" or self.peek() == "in"):
            ops.append(_RELATION_NAMES.get(self.peek(), self.peek()))
            self.i += 1
            parts.append(self.union())
        return Node("rel", (tuple(ops), tuple(parts))) if ops else parts[0]

    def union(self) -> Node:
        items = [self.ratio()]
        while self.take("cup"):
            items.append(self.ratio())
        return items[0] if len(items) == 1 else Node("union", tuple(items))

    def ratio(self) -> Node:
        items = [self.sum()]
        while self.take(":"):
            items.append(self.sum())
        return items[0] if len(items) == 1 else Node("ratio", tuple(items))

    # --- arithmetic -----------------------------------------------------------------------------------------------
    def sum(self) -> Node:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise Unreadable("too deep")
        node = self.term()
        while op := self.take("+", "-", "pm", "mp"):
            node = Node({"+": "add", "-": "sub"}.get(op, op), (node, self.term()))
        if self.kind() == "unit":
            node = Node("unit", (node, self.peek()))
            self.i += 1
        self.depth -= 1
        return node

    def term(self) -> Node:
        if op := self.take("-", "+", "pm", "mp"):
            self.depth += 1
            if self.depth > MAX_DEPTH:
                raise Unreadable("too deep")
            node = self.term()
            self.depth -= 1
            return node if op == "+" else Node("neg", (node,)) if op == "-" else Node(op, (num(0), node))
        if self.take("\\$"):
            return Node("unit", (self.term(), "dollar^1"))
        node = self.mixed() or self.factor()
        while True:
            if op := self.take("*", "/"):
                node = Node("mul" if op == "*" else "div", (node, self.signed_factor()))
            elif self.is_times_sign():
                self.i += 1
                node = Node("mul", (node, self.signed_factor()))
            elif self.starts_factor():
                node = Node("mul", (node, self.factor()))
            else:
                return node

    def is_times_sign(self) -> bool:
        """`4.5 x 10^33`: a plain x between a number and a power of ten is a times sign."""
        return self.peek() == "x" and self.kind(-1) == "num" and self.peek(1) == "10" and self.peek(2) == "^"

    def signed_factor(self) -> Node:
        return Node("neg", (self.factor(),)) if self.take("-") else self.factor()

    def starts_factor(self) -> bool:
        kind, text = self.kind(), self.peek()
        if kind == "name":
            return True
        if kind == "num":  # "x 2" and "3 4" are no products
            return self.kind(-1) == "op" and self.peek(-1) in ("}", ")")
        if kind == "op":
            return text in ("(", "[", "{") or (text == "|" and self.bars_open())
        return kind == "cmd" and (
            text in FUNCTIONS or text in _NAMING or text in ("frac", "sqrt", "pi", "binom", "lfloor", "lceil", "infty", "begin")
            or text in ("unicoderoot", "unicodecuberoot", "cbrt")
        )  # fmt: skip

    def mixed(self) -> Node | None:
        r"""`1\frac{4}{5}`, `4 4/11`: a whole number and a proper fraction of whole numbers."""
        if self.kind() != "num" or not self.peek().isdigit():
            return None
        start, whole = self.i, int(self.peek()) if len(self.peek()) < _MAX_DIGITS else 0
        fraction: tuple[str, str] | None = None
        if self.peek(1) == "frac":
            self.i += 2
            fraction = self.plain_argument(), self.plain_argument()
        elif (
            self.kind(1) == "num"
            and self.tokens[self.i + 1].spaced
            and self.peek(2) == "/"
            and self.kind(3) == "num"
        ):
            fraction = self.peek(1), self.peek(3)
            self.i += 4
        if (
            fraction
            and all(part.isdigit() and len(part) < 20 for part in fraction)
            and 0 < int(fraction[0]) < int(fraction[1])
        ):
            return Node("mixed", (num(whole + Fraction(int(fraction[0]), int(fraction[1]))),))
        self.i = start
        return None

    def plain_argument(self) -> str:
        """A `{digits}` group or one digit, as text; "" for anything else (the caller then goes back)."""
        if self.peek() == "{" and self.peek(2) == "}" and self.kind(1) == "num":
            self.i += 3
            return self.peek(-2)
        if self.kind() == "num" and len(self.peek()) == 2 and self.peek(-1) == "frac":
            raise Unreadable("a mixed number without braces")
        self.i += 1
        return self.peek(-1) if len(self.peek(-1)) == 1 else ""

    def factor(self) -> Node:
        node = self.primary()
        while True:
            if self.peek() == "^" and self.raised_mark():
                node = Node("deg", (node,))
            elif node.op == "num" and (primes := self.primes()):
                node = Node("unit", (node, "arcmin^1" if primes == "'" else "arcsec^1"))
            elif self.take("^"):
                node = Node("pow", (node, self.exponent()))
            elif self.take("!"):
                node = Node("fact", (node,))
            elif self.take("\\%", "%"):
                node = Node("pct", (node,))
            elif self.take("deg", "°"):
                node = Node("deg", (node,))
            elif self.peek() == "_" and node.op == "num":
                node = self.based(node)
            else:
                return node

    def primes(self) -> str:
        r"""Consume `'`, `''`, `^{\prime}` and return them as quotes."""
        count = 0
        while True:
            inside = 2 if self.peek() == "^" and self.peek(1) == "{" else 1 if self.peek() == "^" else 0
            n = 0
            while self.peek(inside + n) == "'":
                n += 1
            if not n or (inside == 2 and self.peek(inside + n) != "}"):
                return "'" * count
            count += n
            self.i += inside + n + (inside == 2)

    def raised_mark(self) -> bool:
        r"""Consume `^\circ`, `^{\circ}`, `^o`: a degree sign."""
        for form in (["^", "circ"], ["^", "{", "circ", "}"], ["^", "deg"], ["^", "{", "deg", "}"]):
            if [self.peek(k) for k in range(len(form))] == form:
                self.i += len(form)
                return True
        return False

    def exponent(self) -> Node:
        """What stands after `^`: a group, or one factor with its sign; powers bind to the right."""
        if self.take("-"):
            return Node("neg", (self.exponent(),))
        if self.take("+"):
            return self.exponent()
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise Unreadable("too deep")
        node = self.primary()
        if self.take("^"):
            node = Node("pow", (node, self.exponent()))
        self.depth -= 1
        return node

    # --- primaries ------------------------------------------------------------------------------------------------
    def primary(self) -> Node:
        kind, text = self.kind(), self.peek()
        if kind == "num":
            self.i += 1
            return self.number(text)
        if kind == "name":
            return self.symbol()
        if kind == "op" and text in ("(", "["):
            return self.bracket()
        if kind == "op" and text == "{":
            self.i += 1
            node = self.sequence()
            self.expect("}")
            return node
        if kind == "op" and text == "|":
            self.i += 1
            node = Node("abs", (self.sum(),))
            self.expect("|")
            return node
        if kind == "cmd":
            return self.command()
        raise Unreadable(f"{text!r} starts no value")

    def bars_open(self) -> bool:
        """Whether a `|` here opens a new pair: there is none open and another one follows."""
        before = sum(t.text == "|" for t in self.tokens[: self.i])
        return before % 2 == 0

    def number(self, text: str) -> Node:
        mantissa, _, exponent = text.lower().partition("e")
        if len(mantissa) > _MAX_DIGITS or len(exponent) > 5 or abs(int(exponent or 0)) > _MAX_TENS:
            raise Unreadable("a number with too many digits")
        if "." in mantissa and self.peek() in ("overline", "dot") and self.kind() == "cmd":
            self.i += 1
            return self.repeating(mantissa)
        return num(
            Fraction(mantissa if mantissa[-1] != "." else mantissa[:-1]) * Fraction(10) ** int(exponent or 0),
            text,
        )

    def repeating(self, mantissa: str) -> Node:
        r"""`0.1\overline{6}`."""
        braces = bool(self.take("{"))
        digits = self.peek()
        if not digits.isdigit() or len(digits) > 30:
            raise Unreadable("no digits under the bar")
        self.i += 1
        if braces:
            self.expect("}")
        places = len(mantissa.partition(".")[2])
        start = Fraction(mantissa if mantissa[-1] != "." else mantissa[:-1])
        return num(start + Fraction(int(digits), (10 ** len(digits) - 1) * 10**places), "repeating")

    def based(self, node: Node) -> Node:
        """`2516_8`, `4210_{5}`: digits in a base from 2 to 16."""
        self.expect("_")
        braces = bool(self.take("{"))
        base, digits = self.peek(), str(node.args[1])
        names = {
            "two": "2",
            "three": "3",
            "four": "4",
            "five": "5",
            "six": "6",
            "seven": "7",
            "eight": "8",
            "nine": "9",
            "ten": "10",
        }
        base = names.get(base, base)
        if not (base.isdigit() and len(base) < 3 and 2 <= int(base) <= 16):
            raise Unreadable("a subscript that is no base")
        self.i += 1
        if braces:
            self.expect("}")
        if any(d >= base for d in digits if int(base) <= 10):
            raise Unreadable("a digit that the base does not have")
        return Node("based", (digits.lstrip("0") or "0", int(base)))

    def symbol(self) -> Node:
        name = self.peek()
        self.i += 1
        name += self.subscript()
        name += self.primes()
        if (
            self.peek() == "(" and self.kind(1) == "num" and self.peek(2) == ")" and len(name) < 20
        ):  # f(0), I(0): a value's name
            name += f"({self.peek(1)})"
            self.i += 3
        if name in ("e", "i"):
            return Node("const", (name,))
        return Node("sym", (name,))

    def subscript(self) -> str:
        """The name that a subscript adds, "" without one."""
        if self.peek() != "_":
            return ""
        self.i += 1
        if self.take("{"):
            start, depth = self.i, 1
            while depth:
                if self.i >= len(self.tokens):
                    raise Unreadable("a subscript is never closed")
                depth += {"{": 1, "}": -1}.get(self.peek(), 0)
                self.i += 1
            return "_" + "".join(t.text for t in self.tokens[start : self.i - 1])
        self.i += 1
        return "_" + self.peek(-1)

    def bracket(self) -> Node:
        opening = self.expect("(", "[")
        if closing := self.take(")"):  # ()
            raise Unreadable("empty brackets")
        inside = self.sequence()
        closing = self.expect(")", "]")
        if inside.op == "list":
            return Node("tuple", (opening, closing, inside.args))
        if (opening, closing) not in (("(", ")"), ("[", "]")):
            raise Unreadable("brackets that do not match")
        return inside if inside.op != "mixed" else inside.args[0]

    def command(self) -> Node:
        name = self.peek()
        self.i += 1
        if name in ("pi", "infty"):
            return Node("const", (name,))
        if name == "frac":
            return Node("div", (self.argument(), self.argument()))
        if name == "binom":
            return Node("binom", (self.argument(), self.argument()))
        if name in ("sqrt", "cbrt", "unicoderoot", "unicodecuberoot"):
            return self.root(name)
        if name in ("lfloor", "lceil"):
            inside = self.sum()
            self.expect(_PAIRS[name])
            return Node("floor" if name == "lfloor" else "ceil", (inside,))
        if name in ("\\{", "lbrace"):
            if self.take("\\}", "rbrace"):
                return Node("set", ())
            inside = self.sequence()
            self.expect("\\}", "rbrace")
            return Node("set", inside.args if inside.op == "list" else (inside,))
        if name == "emptyset":
            return Node("set", ())
        if name in FUNCTIONS:
            return self.function(name)
        if name in _NAMING:
            return self.named(name)
        if name == "begin":
            return self.matrix()
        raise Unreadable(f"the command {name!r}")

    def argument(self) -> Node:
        r"""An argument of `\frac` or `\binom`: a group, or one digit, or one symbol."""
        if self.take("{"):
            node = self.sum()
            self.expect("}")
            return node
        if self.kind() == "num":
            digits = self.peek()
            if len(digits) == 1:
                self.i += 1
                return num(int(digits), digits)
            if len(digits) == 2 and self.peek(-1) in ("frac", "binom") and digits.isdigit():  # \frac12
                self.tokens[self.i : self.i + 1] = [Token("num", digits[0]), Token("num", digits[1])]
                return self.argument()
            raise Unreadable("digits without braces")
        if self.kind() in ("name", "cmd") and self.peek() not in ("frac",):
            return self.primary()
        raise Unreadable(f"{self.peek()!r} is no argument")

    def root(self, name: str) -> Node:
        degree = num(3 if name in ("cbrt", "unicodecuberoot") else 2)
        if name == "sqrt" and self.take("["):
            degree = self.sum()
            self.expect("]")
        if (
            self.peek() == "{"
            or (self.kind() == "num" and len(self.peek()) == 1)
            or self.kind() in ("name", "cmd")
        ):
            return Node("root", (degree, self.argument()))
        if self.peek() == "(" or (self.kind() == "num" and name != "sqrt"):
            return Node("root", (degree, self.primary()))
        raise Unreadable("a root without a clear end")

    def function(self, name: str) -> Node:
        r"""`\sin 2t`, `\sin^2(x)`, `\log_{10} 250`, `\max`: without brackets the argument is the product that follows."""
        base: Node | None = None
        power: Node | None = None
        while self.peek() in ("_", "^") and self.kind() == "op":
            if self.take("_"):
                base = self.argument() if self.peek() == "{" or self.kind() == "name" else self.primary()
            else:
                self.expect("^")
                power = self.argument() if self.peek() == "{" or len(self.peek()) == 1 else self.primary()
        if self.peek() in ("(", "[", "{"):
            inside = self.primary()
        else:
            self.depth += 1
            if self.depth > MAX_DEPTH:
                raise Unreadable("too deep")
            inside = self.signed_factor()
            while self.starts_factor() and self.peek() not in FUNCTIONS:
                inside = Node("mul", (inside, self.factor()))
            self.depth -= 1
        if (
            power is not None
            and power.op == "neg"
            and power.args[0] == num(1, "1")
            and name in ("sin", "cos", "tan")
        ):
            name, power = "arc" + name, None
        node = Node("fn", (name, inside) if base is None else (name, inside, base))
        return node if power is None else Node("pow", (node, power))

    def named(self, name: str) -> Node:
        r"""`\angle ABC`, `\overline{AB}`, `\dot{x}_0`: a thing with a name, an opaque symbol."""
        if self.take("{"):
            start, depth = self.i, 1
            while depth:
                if self.i >= len(self.tokens):
                    raise Unreadable("a name is never closed")
                depth += {"{": 1, "}": -1}.get(self.peek(), 0)
                self.i += 1
            inside = "".join(t.text for t in self.tokens[start : self.i - 1])
        else:
            start = self.i
            while self.kind() == "name" and (self.i == start or not self.tokens[self.i - 1].text.islower()):
                self.i += 1
            if self.i == start and self.kind() == "num":
                self.i += 1
            inside = "".join(t.text for t in self.tokens[start : self.i])
        if not inside:
            raise Unreadable(f"{name} of nothing")
        return Node("sym", (f"{name} {inside}{self.subscript()}",))

    def matrix(self) -> Node:
        kind = self.environment()
        if kind == "array" and self.take("{"):
            while not self.take("}"):
                self.i += 1
                if self.kind() == "end":
                    raise Unreadable("an array without columns")
        rows: list[tuple[Node, ...]] = []
        row = [self.sum()]
        while True:
            if self.take("&"):
                row.append(self.sum())
                continue
            rows.append(tuple(row))
            if self.take("\\\\") and self.peek() != "end":
                row = [self.sum()]
                continue
            self.expect("end")
            if self.environment() != kind:
                raise Unreadable("a matrix is never closed")
            return Node("matrix", ("det" if kind == "vmatrix" else "matrix", tuple(rows)))

    def environment(self) -> str:
        self.expect("{")
        name = "".join(t.text for t in self.tokens[self.i : self.i + 12])
        name = name.partition("}")[0]
        while not self.take("}"):
            if self.kind() == "end":
                raise Unreadable("an environment without a name")
            self.i += 1
        if name not in _MATRICES:
            raise Unreadable(f"the environment {name!r}")
        return name
