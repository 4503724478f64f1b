r"""Tokens to a tree: a small grammar for what stands in answers.

    answer   := relation ((',' | ';' | or | and) relation)*          a list when there are several
    relation := set ((= | < | \le | \in | \approx | ...) set)*
    set      := ratio (\cup ratio)*
    ratio    := sum (':' sum)*
    sum      := term (('+' | '-' | \pm) term)*
    term     := factor (('*' | '/' | nothing) factor)*
    factor   := ['-'] primary ('^' ... | '!' | '%' | degree)*

tree.py lists the nodes.
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache

from gmpo_vl.verify.lex import FUNCTIONS, lex
from gmpo_vl.verify.reader import Reader
from gmpo_vl.verify.tokens import Token, Unreadable
from gmpo_vl.verify.tree import Node, num

MAX_ITEMS = 64  # of a list; the longest gold has 18
_MAX_DIGITS = 400  # of one literal
_MAX_TENS = 2_000  # of a decimal exponent
_RELATIONS = set(
    [
        "=",
        "<",
        ">",
        "<=",
        ">=",
        "!=",
        "->",
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
    ]
)
_RELATION_NAMES = {"<=": "le", ">=": "ge", "!=": "ne", "->": "to"}
_VALUES = set(
    [
        "frac",
        "sqrt",
        "pi",
        "binom",
        "lfloor",
        "lceil",
        "infty",
        "begin",
        "unicoderoot",
        "unicodecuberoot",
        "cbrt",
    ]
)  # start a value
_NAMING = set(
    ["overline", "vec", "hat", "tilde", "dot", "ddot", "angle", "triangle", "overarc", "arc", "odot", "Delta"]
)
_MATRICES = set(["pmatrix", "bmatrix", "matrix", "array", "smallmatrix", "Bmatrix", "vmatrix"])


@lru_cache(maxsize=20_000)
def parse(text: str) -> Node:
    """The tree of a normalised text. Raises Unreadable."""
    return _Parser(lex(text)).whole()


class _Parser(Reader):
    # --- lists and relations --------------------------------------------------------------------------------------
    def whole(self) -> Node:
        node = self.sequence()
        self.take(".")
        if self.i < len(self.tokens):
            raise Unreadable(f"left over: {self.peek()!r}")
        return node

    def sequence(self) -> Node:
        self.deeper()
        items, joints = [self.relation()], set()
        while joint := self.separator():
            joints.add(joint)
            items.append(self.relation())
            if len(items) > MAX_ITEMS:
                raise Unreadable("too many items")
        self.depth -= 1
        return items[0] if len(items) == 1 else Node("either" if joints == {"or"} else "list", tuple(items))

    def separator(self) -> str:
        """Consume `,`, `;`, or, and (or `, and`) and return the last one; "" without one."""
        joint = ""
        while self.kind() == "sep" or self.peek() in (",", ";"):
            joint = self.peek()
            self.i += 1
        return joint

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
        self.deeper()
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
            self.deeper()
            node = self.term()
            self.depth -= 1
            return node if op == "+" else Node("neg", (node,)) if op == "-" else Node(op, (num(0), node))
        if self.take("\\$"):
            return Node("unit", (self.term(), "dollar^1"))
        node = self.factor()
        while True:
            if self.take("/"):
                node = Node("div", (node, self.letters() or self.signed_factor()))
            elif self.take("*"):
                node = Node("mul", (node, self.signed_factor()))
            elif self.is_times_sign():
                self.i += 1
                node = Node("mul", (node, self.signed_factor()))
            elif self.starts_factor():
                node = Node("mul", (node, self.factor()))
            else:
                return node

    def letters(self) -> Node | None:
        """The denominator of `t/RC`: letters written together divide together; None for anything else."""
        n = 0
        while self.kind(n) == "name" and (n == 0 or not self.tokens[self.i + n].spaced):
            n += 1
        if n < 2 or self.peek(n) in ("^", "_", "'", "("):
            return None
        node = self.symbol()
        for _ in range(n - 1):
            node = Node("mul", (node, self.symbol()))
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
            return self.peek(-1) in ("}", ")", "!", "pi") or (self.kind(-1) == "name" and self.peek(1) == "^")
        if kind == "op":
            return text in ("(", "[", "{") or (text == "|" and self.bars_open())
        return kind == "cmd" and (text in FUNCTIONS or text in _NAMING or text in _VALUES)

    def mixed(self) -> Node | None:
        r"""`1\frac{4}{5}`, `4 4/11`: a whole number and a proper fraction of whole numbers; None for anything else."""
        if self.kind() != "num" or not self.peek().isdigit() or len(self.peek()) > 20:
            return None
        start, whole = self.i, int(self.peek())
        self.i += 1
        if self.peek() == "frac":
            part = self.primary()
        elif (
            self.kind() == "num"
            and self.tokens[self.i].spaced
            and self.peek(1) == "/"
            and self.kind(2) == "num"
        ):
            part = self.plain_fraction()
        else:
            part = num(0)
        top, bottom = part.args if part.op == "div" else (num(0), num(0))
        if (
            top.op == bottom.op == "num"
            and top.args[1].isdigit()
            and bottom.args[1].isdigit()
            and 0 < top.args[0] < bottom.args[0]
        ):
            return Node("mixed", (num(whole + top.args[0] / bottom.args[0]),))
        self.i = start
        return None

    def plain_fraction(self) -> Node:
        top = self.number()
        self.expect("/")
        return Node("div", (top, self.number()))

    def factor(self) -> Node:
        node = self.mixed() or self.primary()
        while True:
            if self.degree_sign():
                temperature = self.temperature()
                node = Node("unit", (node, temperature)) if temperature else Node("deg", (node,))
            elif node.op == "num" and (primes := self.primes()):
                node = Node("unit", (node, "arcmin^1" if primes == "'" else "arcsec^1"))
            elif self.take("^"):
                node = Node("pow", (node, self.exponent()))
            elif self.take("!"):
                node = Node("fact", (node,))
            elif self.take("\\%", "%"):
                node = Node("pct", (node,))
            elif self.peek() == "_" and node.op == "num":
                node = self.based(node)
            else:
                return node

    def exponent(self) -> Node:
        """What stands after `^`: a group, or one factor with its sign; powers bind to the right."""
        if self.take("-"):
            return Node("neg", (self.exponent(),))
        if self.take("+"):
            return self.exponent()
        self.deeper()
        node = self.primary()
        if self.take("^"):
            node = Node("pow", (node, self.exponent()))
        self.depth -= 1
        return node

    # --- primaries ------------------------------------------------------------------------------------------------
    def primary(self) -> Node:
        kind, text = self.kind(), self.peek()
        if kind == "num":
            return self.number()
        if kind == "name":
            return self.symbol()
        if kind == "op" and text in ("(", "["):
            return self.bracket()
        if kind == "op" and text == "{":
            self.i += 1
            node = self.sequence()
            if self.take("over"):
                node = Node("div", (node, self.sum()))
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

    def number(self) -> Node:
        text = self.peek()
        self.i += 1
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
        digits, base = str(node.args[1]), self.base()
        if not digits.replace(".", "").isdigit() or any(int(d) >= base for d in digits.replace(".", "")):
            raise Unreadable("a digit that the base does not have")
        return Node("based", (digits.lstrip("0") or "0", base))

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

    def bracket(self) -> Node:
        opening = self.expect("(", "[")
        if closing := self.take(")"):  # ()
            raise Unreadable("empty brackets")
        inside = self.sequence()
        closing = self.expect(")", "]")
        if inside.op in ("list", "either"):
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
            self.expect("r" + name[1:])
            return Node("floor" if name == "lfloor" else "ceil", (inside,))
        if name in ("\\{", "lbrace"):
            if self.take("\\}", "rbrace"):
                return Node("set", ())
            inside = self.sequence()
            self.expect("\\}", "rbrace")
            return Node("set", inside.args if inside.op in ("list", "either") else (inside,))
        if name == "emptyset":
            return Node("set", ())
        if name in FUNCTIONS:
            return self.function(name)
        if name == "overline" and (ends := self.segment()):  # the segment AB, with or without its bar
            return Node("mul", (Node("sym", (ends[0],)), Node("sym", (ends[1],))))
        if name in _NAMING:
            return Node("sym", (self.named(name),))
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
            self.deeper()
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

    def matrix(self) -> Node:
        kind = self.environment()
        if kind not in _MATRICES:
            raise Unreadable(f"the environment {kind!r}")
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
