r"""Tokens to a tree: a small grammar for what stands in answers.

    answer   := relation ((',' | ';' | or | and) relation)*          a list when there are several
    relation := set ((= | < | \le | \in | \approx | ...) set)*
    set      := shared ((\cup | \setminus) shared)*
    shared   := ratio (\cap ratio)*
    ratio    := sum (':' sum)*
    sum      := term (('+' | '-' | \pm) term)*
    term     := factor (('*' | '/' | nothing) factor)*
    factor   := ['-'] primary ('^' ... | '!' | '%' | degree)*

tree.py lists the nodes.
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache

from gmpo_vl.verify.counting import combinations
from gmpo_vl.verify.latex_commands import NAMING, VALUES, angle, command, numbers, set_builder
from gmpo_vl.verify.lex import FUNCTIONS, lex
from gmpo_vl.verify.reader import Reader
from gmpo_vl.verify.sense import is_measure
from gmpo_vl.verify.tokens import Token, Unreadable
from gmpo_vl.verify.tree import Node, num

MAX_ITEMS = 64  # of a list; the longest gold has 18
_MAX_DIGITS = 400  # of one literal
_MAX_TENS = 2_000  # of a decimal exponent
_MAX_WORDS = 5  # in a name
_AFTER = frozenset(("^", "deg", "°", "'", "!", "\\%", "%", "_"))  # a factor
_NO_NAME = frozenset("not never wrong incorrect if unless".split())
_RELATIONS = frozenset("= < > <= >= != -> le ge ne approx cong equiv in perp parallel to sim".split())
_RELATION_NAMES = {"<=": "le", ">=": "ge", "!=": "ne", "->": "to"}


def parse(text: str) -> Node:
    """The tree of a normalised text. Raises Unreadable."""
    return readings(text)[0]


def going_on(digits: str) -> Node:
    """0.333... and 0.1666...: the shortest block of digits that ends it at least three times (two or more digits: twice) goes on."""
    decimals = digits.partition(".")[2]
    for size in range(1, len(decimals) // 2 + 1):
        block, times = decimals[-size:], 3 if size == 1 else 2
        if decimals.endswith(block * times):
            start = Fraction(digits[:-size])
            return num(
                start + Fraction(int(block), (10**size - 1) * 10 ** (len(decimals) - size)), "repeating"
            )
    raise Unreadable("digits that go on unknown")


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


class Parser(Reader):
    def __init__(self, tokens: list[Token]):
        super().__init__(tokens)
        self.may_count = not {"C", "P"}.isdisjoint(
            {token.text for token in tokens}
        )  # combinations, arrangements

    # --- lists and relations --------------------------------------------------------------------------------------
    def whole(self) -> Node:
        node = self.sequence()
        self.take(".")
        if self.kind() != "end":
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
        if len(items) == 1:
            return items[0]
        if joints == {"and"} and all(item.op == "rel" and item.args[0] != ("=",) for item in items):
            return Node("both", tuple(items))  # x > 1 and x < 4
        return Node("either" if joints == {"or"} else "list", tuple(items))

    def separator(self) -> str:
        """Consume `,`, `;`, or, and (or `, and`) and return the last one; "" without one."""
        joint = ""
        while self.kind() == "sep" or self.peek() in (",", ";"):
            joint = self.peek()
            self.i += 1
        return joint

    def relation(self) -> Node:
        parts, ops = [self.words() or self.union()], []
        while self.peek() in _RELATIONS and (self.kind() != "word" or self.peek() == "in"):
            ops.append(_RELATION_NAMES.get(self.peek(), self.peek()))
            self.i += 1
            parts.append(self.union())
        return Node("rel", (tuple(ops), tuple(parts))) if ops else parts[0]

    def words(self) -> Node | None:
        r"""The name in `\text{Area of the square} = 12`; None where no words stand before an equals sign."""
        n = 0
        while self.kind(n) == "word":
            n += 1
        if not 0 < n <= _MAX_WORDS or self.peek(n) not in ("=", "approx"):
            return None
        words = [self.peek(k).lower() for k in range(n)]
        if not _NO_NAME.isdisjoint(words):
            return None
        self.i += n
        return Node("sym", (" ".join(words),))

    def union(self) -> Node:
        node = self.ratio()
        while op := self.take("cup", "setminus", "cap"):
            right = self.ratio()
            while op != "cap" and self.take("cap"):
                right = Node("cap", (right, self.ratio()))
            items = (*node.args, right) if (node.op, op) == ("union", "cup") else (node, right)
            node = Node({"cup": "union", "setminus": "minus"}.get(op, op), items)
        return node

    def ratio(self) -> Node:
        items = [self.sum()]
        if self.take("choose"):  # {7 \\choose 3}
            items = [Node("binom", (items[0], self.sum()))]
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
        if op := self.take("-", "+", "pm", "mp", "\\$"):
            return self.amount() if op == "\\$" else self.signed_term(op)
        node = self.factor()
        while True:
            if op := self.take("/", "*"):
                under = self.letters() if op == "/" else None
                node = Node("div" if op == "/" else "mul", (node, under or self.signed_factor()))
            elif self.is_times_sign():
                self.i += 1
                node = Node("mul", (node, self.signed_factor()))
            elif self.starts_factor():
                node = Node("mul", (node, self.factor()))
            else:
                return node

    def signed_term(self, sign: str) -> Node:
        self.deeper()
        node = self.term()
        self.depth -= 1
        return node if sign == "+" else Node("neg", (node,)) if sign == "-" else Node(sign, (num(0), node))

    def amount(self) -> Node:
        amount = self.term()
        self.take("dollar^1")  # $5 USD
        return Node("unit", (amount, "dollar^1"))

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
        if kind == "numbers":  # 2\\mathbb{Z}
            return True
        return kind == "cmd" and (text in FUNCTIONS or text in NAMING or text in VALUES)

    def mixed(self) -> Node | None:
        r"""`1\frac{4}{5}`, `4 4/11`: a whole number and a proper fraction of whole numbers; None for anything else."""
        if self.kind() != "num" or (self.peek(1) != "frac" and self.kind(1) != "num"):
            return None
        if not self.peek().isdecimal() or len(self.peek()) > 20:
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
            and top.args[1].isdecimal()
            and bottom.args[1].isdecimal()
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
        while self.peek() in _AFTER:
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
                break
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
        if self.may_count and (chosen := combinations(self)):
            return chosen
        if kind == "num":
            return self.number()
        if kind == "name":
            return self.symbol()
        if kind == "op" and text == "<":
            return angle(self, ">")
        if kind == "op" and text in ("(", "["):
            return self.bracket()
        if kind == "op" and text == "{":
            self.i += 1
            if builder := set_builder(self):
                return builder
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
            return command(self)
        if kind == "numbers":
            return numbers(self)
        raise Unreadable(f"{text!r} starts no value")

    def bars_open(self) -> bool:
        """Whether a `|` here opens a new pair: there is none open and another one follows."""
        before = sum(t.text == "|" for t in self.tokens[: self.i])
        return before % 2 == 0

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
            return going_on(mantissa)
        value = Fraction(mantissa if mantissa[-1] != "." else mantissa[:-1])
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
        places = len(mantissa.partition(".")[2])
        start = Fraction(mantissa if mantissa[-1] != "." else mantissa[:-1])
        return num(start + Fraction(int(digits), (10 ** len(digits) - 1) * 10**places), "repeating")

    def based(self, node: Node) -> Node:
        """`2516_8`, `4210_{5}`: digits in a base from 2 to 16."""
        digits, base = str(node.args[1]), self.base()
        if not digits.replace(".", "").isdecimal() or any(int(d) >= base for d in digits.replace(".", "")):
            raise Unreadable("a digit that the base does not have")
        return Node("based", (digits.lstrip("0") or "0", base))

    def symbol(self) -> Node:
        name = self.peek()
        self.i += 1
        if name == "Gamma" and self.peek() == "(" and not self.tokens[self.i].spaced:
            return Node("gamma", (self.bracket(),))
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
