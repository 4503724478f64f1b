r"""The text of an answer to a tree: numbers, symbols, brackets, and LaTeX commands with their arguments."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache
from typing import TypeVar

from gmpo_vl.verify.grammar import MAX_ITEMS, NAMING, Grammar
from gmpo_vl.verify.lex import FUNCTIONS, lex
from gmpo_vl.verify.tokens import Token, Unreadable
from gmpo_vl.verify.tree import OF_SEVERAL, Node, num, product, substituted, sym
from gmpo_vl.verify.units import is_measure

_MAX_DIGITS = 400  # of one literal
_MAX_TENS = 2_000  # of a decimal exponent
_MATRICES = frozenset("pmatrix bmatrix matrix array smallmatrix Bmatrix vmatrix".split())
_SIGNED_SETS = {"_>0": ">", "_<0": "<", "_ge0": ">=", "_>=0": ">=", "_le0": "<=", "_<=0": "<="}
_Row = TypeVar("_Row")


def parse(text: str) -> Node:
    """The tree of a normalised text. Raises Unreadable."""
    return readings(text)[0]


@lru_cache(maxsize=20_000)
def readings(text: str) -> tuple[Node, ...]:
    """The trees of a normalised text, one or two: `2 mg` is a measure, and a product. Raises Unreadable."""
    if len(text) < _MAX_DIGITS and text.isdecimal() and text.isascii():  # most answers
        return (num(int(text), text),)
    tokens, symbols = lex(text)
    if symbols == tokens:
        return (Parser(tokens).whole(),)
    try:
        measure = Parser(tokens).whole()
        found = (measure,) if is_measure(measure) else ()
    except Unreadable:
        found = ()
    try:
        return (*found, Parser(symbols).whole())
    except Unreadable:
        if not found:
            raise
        return found


class Parser(Grammar):
    def __init__(self, tokens: list[Token]):
        super().__init__(tokens)
        self.may_count = not {"C", "P"}.isdisjoint({t.text for t in tokens})  # combinations, arrangements

    def primary(self) -> Node:
        kind, text = self.kind(), self.peek()
        if self.may_count and (chosen := self.combinations()):
            return chosen
        if kind == "num":
            return self.number()
        if kind == "name":
            return self.symbol()
        if kind == "op" and text in ("(", "["):
            return self.bracket()
        if kind == "cmd":
            return self.command()
        if kind == "numbers":
            return self.numbers()
        if kind == "op" and text in ("<", "{", "|"):
            self.i += 1
            return self.angle(">") if text == "<" else self.group() if text == "{" else self.bars()
        raise Unreadable(f"{text!r} starts no value")

    # --- numbers and symbols ----------------------------------------------------------------------------
    def number(self) -> Node:
        text = self.peek()
        self.i += 1
        if text.isdecimal() and len(text) <= _MAX_DIGITS:
            return num(int(text), text)
        mantissa, _, exponent = text.lower().partition("e")
        if len(mantissa) > _MAX_DIGITS or len(exponent) > 5 or abs(int(exponent or 0)) > _MAX_TENS:
            raise Unreadable("a number with too many digits")
        if "." in mantissa and self.peek() in ("overline", "dot") and self.kind() == "cmd":
            self.i += 1
            return self.repeating(mantissa)
        if "." in mantissa and (self.follows(".", ".", ".") or self.take("ldots")):
            return _going_on(mantissa)
        value = Fraction(mantissa.rstrip("."))
        return num(value * Fraction(10) ** int(exponent) if exponent else value, text)

    def repeating(self, mantissa: str) -> Node:
        r"""`0.1\overline{6}`."""
        braces = bool(self.take("{"))
        digits = self.peek()
        if not digits.isdecimal() or len(digits) > 30:
            raise Unreadable("no digits under the bar")
        self.i += 1
        if braces:
            self.expect("}")
        if self.kind() == "num":
            raise Unreadable("digits after repeating digits")
        return _repeating(mantissa, digits)

    def symbol(self) -> Node:
        name = self.peek()
        self.i += 1
        if name == "Gamma" and self.peek() == "(" and not self.tokens[self.i].spaced:
            return Node("gamma", (self.bracket(),))
        name += self.subscript()
        name += self.primes()
        if self.peek() == "(" and self.kind(1) == "num" and self.peek(2) == ")" and len(name) < 20:
            name += f"({self.peek(1)})"  # f(0), I(0): a value's name
            self.i += 3
        return Node("const", (name,)) if name in ("e", "i") else sym(name)

    def numbers(self) -> Node:
        r"""`\mathbb{R}`, `\mathbb{Z}^+`, `\mathbb{R}_{\ge 0}`: a set of numbers; `\mathbb{R}^n` is a name."""
        letter = self.peek()
        self.i += 1
        for sign, order in (("+", ">"), ("-", "<")):
            if self.follows("^", sign) or self.follows("^", "{", sign, "}"):
                return Node("numbers", (letter + order,))
        below = self.subscript()
        if below in _SIGNED_SETS:
            return Node("numbers", (letter + _SIGNED_SETS[below],))
        if below or self.peek() == "^":
            return sym(letter + below)
        return Node("numbers", (letter,))

    # --- brackets ---------------------------------------------------------------------------------------
    def bracket(self) -> Node:
        opening = self.expect("(", "[")
        if self.take(")"):
            raise Unreadable("empty brackets")
        inside = self.sequence()
        closing = self.expect(")", "]")
        if inside.op in ("list", "either"):
            return Node("tuple", (opening, closing, inside.args))
        if (opening, closing) not in (("(", ")"), ("[", "]")):
            raise Unreadable("brackets that do not match")
        return inside if inside.op != "mixed" else inside.args[0]

    def angle(self, closing: str) -> Node:
        r"""The rest of `\langle 1, 2 \rangle`, `<1, 2>`: a vector by its components."""
        items = [self.sum()]
        while self.take(","):
            items.append(self.sum())
        self.expect(closing)
        if not 1 < len(items) <= MAX_ITEMS:
            raise Unreadable("angle brackets around no vector")
        return Node("tuple", ("(", ")", tuple(items)))

    def group(self) -> Node:
        if builder := self.set_builder():
            return builder
        node = self.sequence()
        if self.take("over"):
            node = Node("div", (node, self.sum()))
        self.expect("}")
        return node

    def bars(self) -> Node:
        node = Node("abs", (self.sum(),))
        self.expect("|")
        return node

    def set(self) -> Node:
        if self.take("\\}", "rbrace"):
            return Node("set", ())
        if builder := self.set_builder():
            return builder
        inside = self.sequence()
        self.expect("\\}", "rbrace")
        return Node("set", inside.args if inside.op in ("list", "either") else (inside,))

    def set_builder(self) -> Node | None:
        r"""`x \mid x \ge 3\}`, `x \in \mathbb{Z} : |x| < 3\}` after an opening brace; None for others."""
        if self.kind() != "name" or self.peek(1) not in ("|", ":", "in"):
            return None
        start, depth, tokens = self.i, self.depth, self.tokens
        bar = next((k for k in range(start, len(tokens)) if tokens[k].text in ("|", ":")), 0)
        # The bar becomes a token of its own, which no absolute value can close.
        self.tokens = [*tokens[:bar], Token("op", "such"), *tokens[bar + 1 :]]
        try:
            variable = self.symbol()
            domain = self.union() if self.take("in") else Node("numbers", ("R",))
            self.expect("such")
            condition = self.sequence()
            self.expect("\\}", "rbrace", "}")
        except Unreadable:
            condition = num(0)
        if not condition.contains("rel"):
            self.i, self.depth, self.tokens = start, depth, tokens
            return None
        condition = Node("both", condition.args) if condition.op == "list" else condition
        return Node("where", (variable, domain, condition))

    # --- commands ---------------------------------------------------------------------------------------
    def command(self) -> Node:
        name = self.peek()
        self.i += 1
        if name in ("pi", "infty"):
            return Node("const", (name,))
        if name in ("frac", "binom"):
            return Node("div" if name == "frac" else name, (self.argument(), self.argument()))
        if name in ("sqrt", "cbrt", "unicoderoot", "unicodecuberoot"):
            return self.root(name)
        if name in ("lfloor", "lceil"):
            inside = self.sum()
            self.expect("r" + name[1:])
            return Node(name[1:], (inside,))
        if name in ("\\{", "lbrace"):
            return self.set()
        if name in ("sum", "prod"):
            return self.series(name)
        if name == "langle":
            return self.angle("rangle")
        if name == "abs":
            return Node("abs", (self.bracket(),)) if self.peek() == "(" else product("abs")
        if name == "emptyset":
            return Node("set", ())
        if name in FUNCTIONS:
            return self.function(name)
        if name == "overline" and (ends := self.segment()):  # the segment AB, with or without its bar
            return product(ends)
        if name in NAMING:
            return sym(self.named(name))
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
            if len(digits) == 2 and self.peek(-1) in ("frac", "binom") and digits.isdecimal():  # \frac12
                self.tokens[self.i : self.i + 1] = [Token("num", digit) for digit in digits]
                return self.argument()
            raise Unreadable("digits without braces")
        if self.kind() in ("name", "cmd") and self.peek() != "frac":
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
        r"""`\sin 2t`, `\sin^2(x)`, `\log_{10} 250`: without brackets the argument is the next product."""
        base: Node | None = None
        power: Node | None = None
        while self.peek() in ("_", "^") and self.kind() == "op":
            if self.take("_"):
                base = self.argument() if self.peek() == "{" or self.kind() == "name" else self.primary()
            else:
                self.i += 1
                power = self.argument() if self.peek() == "{" or len(self.peek()) == 1 else self.primary()
        if self.peek() in ("(", "[", "{"):
            inside = self.primary()
        else:
            self.deeper()
            inside = self.signed_factor()
            while self.starts_factor() and self.peek() not in FUNCTIONS:
                inside = Node("mul", (inside, self.factor()))
            self.depth -= 1
        if power == Node("neg", (num(1, "1"),)) and name in ("sin", "cos", "tan"):
            name, power = "arc" + name, None
        if inside.op in ("tuple", "set"):  # \\max(3, 7), log(x, 2)
            items = inside.args if inside.op == "set" else inside.args[2]
            if base is not None or not (name in OF_SEVERAL or (name == "log" and len(items) == 2)):
                raise Unreadable(f"{name} of several")
            return Node("fn", (name, *items))
        node = Node("fn", (name, inside) if base is None else (name, inside, base))
        return node if power is None else Node("pow", (node, power))

    def series(self, op: str) -> Node:
        r"""`\sum_{k=1}^{n} k^2` or a product, after its name. The term ends at the next plus or minus."""
        self.expect("_")
        self.expect("{")
        if self.kind() != "name":
            raise Unreadable("a series over nothing")
        name = self.symbol()
        self.expect("=")
        low = self.sum()
        self.expect("}")
        self.expect("^")
        high = self.script()
        body = self.term()
        if high is None or body.contains("sum", "prod"):
            raise Unreadable("such a series")
        bound = Node("bound", (f"#{name.args[0]}",))
        return Node(op, (bound.args[0], low, high, substituted(body, name, bound)))

    # --- environments -----------------------------------------------------------------------------------
    def matrix(self) -> Node:
        kind = self.environment()
        if kind in ("cases", "dcases", "aligned", "system"):
            cases = self.rows(kind, self.case)
            return Node("cases" if all(row.op == "case" for row in cases) else "list", cases)
        if kind not in _MATRICES:
            raise Unreadable(f"the environment {kind!r}")
        if kind == "array" and self.take("{"):
            while not self.take("}"):
                self.i += 1
                if self.kind() == "end":
                    raise Unreadable("an array without columns")
        return Node("matrix", ("det" if kind == "vmatrix" else "matrix", self.rows(kind, self.row)))

    def rows(self, kind: str, row: Callable[[], _Row]) -> tuple[_Row, ...]:
        """The rows of an environment, each read by `row`, up to its end."""
        found = [row()]
        while self.take("\\\\") and self.peek() != "end":
            found.append(row())
        self.expect("end")
        if self.environment() != kind:
            raise Unreadable(f"the environment {kind!r} is never closed")
        return tuple(found)

    def row(self) -> tuple[Node, ...]:
        cells = [self.sum()]
        while self.take("&"):
            cells.append(self.sum())
        return tuple(cells)

    def case(self) -> Node:
        """A value with its condition (`2x & \\text{if } x > 0`), or one of several equations."""
        value = self.relation()
        self.take(",", ";", ".")
        if self.take("&"):
            value = Node("case", (value, self.condition()))
        self.take(",", ";", ".")
        return value

    def condition(self) -> Node:
        """`x > 0`, `if x > 0`, `otherwise`."""
        while self.kind() == "word" and self.peek().lower() in ("if", "for", "when", "where"):
            self.i += 1
        if self.kind() == "word" and self.peek().lower() in ("otherwise", "else", "elsewhere"):
            self.i += 1
            return sym("otherwise")
        return self.relation()


def _repeating(digits: str, block: str) -> Node:
    """0.1 and the block 6: 0.1666..."""
    places = len(digits.partition(".")[2])
    rest = Fraction(int(block), (10 ** len(block) - 1) * 10**places)
    return num(Fraction(digits.rstrip(".")) + rest, "repeating")


def _going_on(digits: str) -> Node:
    """0.333... and 0.1666...: the shortest block of digits that ends it at least three times goes on; a block
    of two or more digits need be there only twice.
    """
    decimals = digits.partition(".")[2]
    for size in range(1, len(decimals) // 2 + 1):
        block, times = decimals[-size:], 3 if size == 1 else 2
        if decimals.endswith(block * times):
            return _repeating(digits[:-size], block)
    raise Unreadable("digits that go on unknown")
