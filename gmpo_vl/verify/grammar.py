r"""Tokens to a tree: a small grammar for what stands in answers.

    answer   := relation ((',' | ';' | or | and) relation)*          a list when there are several
    relation := set ((= | < | \le | \in | \approx | ...) set)*
    set      := shared ((\cup | \setminus) shared)*
    shared   := ratio (\cap ratio)*
    ratio    := sum (':' sum)*
    sum      := term (('+' | '-' | \pm) term)*
    term     := factor (('*' | '/' | nothing) factor)*
    factor   := ['-'] primary ('^' ... | '!' | '%' | degree)*

parse.py reads the primaries: numbers, symbols, brackets and commands. tree.py lists the nodes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from gmpo_vl.verify.lex import FUNCTIONS
from gmpo_vl.verify.tokens import Reader, Unreadable
from gmpo_vl.verify.tree import Node, num, sym

MAX_ITEMS = 64  # of a list; the longest gold has 18
_MAX_WORDS = 5  # in a name
NAMING = frozenset("overline vec hat tilde dot ddot angle triangle overarc arc odot Delta".split())  # a thing
# Commands that start a factor.
_STARTING = FUNCTIONS | NAMING
_STARTING |= set("abs frac sqrt pi binom sum prod langle lfloor lceil infty begin cbrt".split())
_STARTING |= {"unicoderoot", "unicodecuberoot"}
_AFTER = frozenset(("^", "deg", "°", "'", "!", "\\%", "%", "_"))  # a factor
_NO_NAME = frozenset("not never wrong incorrect if unless half twice double triple minus than".split())
_RELATIONS = frozenset("= < > <= >= != -> le ge ne approx cong equiv in perp parallel to sim".split())
_RELATION_NAMES = {"<=": "le", ">=": "ge", "!=": "ne", "->": "to"}


class Grammar(Reader, ABC):
    """Lists, relations and arithmetic. A subclass reads the primaries."""

    @abstractmethod
    def primary(self) -> Node:
        """A number, a symbol, a bracket, or a command with its arguments. Raises Unreadable."""

    @abstractmethod
    def number(self) -> Node: ...

    @abstractmethod
    def symbol(self) -> Node: ...

    # --- lists and relations ----------------------------------------------------------------------------
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
        return sym(" ".join(words))

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

    # --- arithmetic -------------------------------------------------------------------------------------
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
            return self.signed_term(op) if op != "\\$" else self.amount()
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

    def amount(self) -> Node:
        amount = self.term()
        self.take("dollar^1")  # $5 USD
        return Node("unit", (amount, "dollar^1"))

    def signed_term(self, sign: str) -> Node:
        self.deeper()
        node = self.term()
        self.depth -= 1
        return node if sign == "+" else Node("neg", (node,)) if sign == "-" else Node(sign, (num(0), node))

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
        if kind in ("name", "numbers"):  # 2\\mathbb{Z}
            return True
        if kind == "num":  # "x 2" and "3 4" are no products
            return self.peek(-1) in ("}", ")", "!", "pi") or (self.kind(-1) == "name" and self.peek(1) == "^")
        if kind == "op":
            return text in ("(", "[", "{") or (text == "|" and not self.is_inside_bars())
        return kind == "cmd" and text in _STARTING

    def is_inside_bars(self) -> bool:
        return sum(t.text == "|" for t in self.tokens[: self.i]) % 2 == 1

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

    def mixed(self) -> Node | None:
        r"""`1\frac{4}{5}`, `4 4/11`: a whole number and a proper fraction of such; None for others."""
        if self.kind() != "num" or (self.peek(1) != "frac" and self.kind(1) != "num"):
            return None
        if not self.peek().isdecimal() or len(self.peek()) > 20:
            return None
        start, whole = self.i, int(self.peek())
        self.i += 1
        parts: tuple[Node, ...] = ()
        if self.peek() == "frac":
            parts = self.primary().args
        elif self.tokens[self.i].spaced and self.peek(1) == "/" and self.kind(2) == "num":
            top = self.number()
            self.expect("/")
            parts = (top, self.number())
        if parts and all(part.op == "num" and part.args[1].isdecimal() for part in parts):
            top, bottom = (part.args[0] for part in parts)
            if 0 < top < bottom:
                return Node("mixed", (num(whole + top / bottom),))
        self.i = start
        return None

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

    def based(self, node: Node) -> Node:
        """`2516_8`, `4210_{5}`: digits in a base from 2 to 16."""
        digits, base = str(node.args[1]), self.base()
        if not digits.replace(".", "").isdecimal() or any(int(d) >= base for d in digits.replace(".", "")):
            raise Unreadable("a digit that the base does not have")
        return Node("based", (digits.lstrip("0") or "0", base))

    # --- counting ---------------------------------------------------------------------------------------
    def combinations(self) -> Node | None:
        """`{}^nC_r`, `_nC_r`, `7C3`, `C(7, 3)`, `nCr(7, 3)`, and P for arrangements; None for others."""
        return self._around() or self._between() or self._called()

    def _around(self) -> Node | None:
        start = self.i
        if not self.follows("{", "}") and self.peek() not in ("^", "_"):
            return None
        if (
            self.take("^", "_")
            and (n := self.script())
            and (letter := self.take("C", "P"))
            and self.take("_")
            and (k := self.script())
        ):
            return _chosen(letter, n, k)
        self.i = start
        return None

    def script(self) -> Node | None:
        """What is raised or lowered: a group, a number or one symbol."""
        if self.take("{"):
            node = self.sum()
            self.expect("}")
            return node
        if self.kind() == "num":
            return self.number()
        if self.kind() == "name":
            self.i += 1
            return sym(self.peek(-1))
        return None

    def _between(self) -> Node | None:
        if self.kind() != "num" or self.peek(1) not in ("C", "P") or self.kind(2) != "num":
            return None
        letter, after = self.tokens[self.i + 1 : self.i + 3]
        if letter.spaced or after.spaced or not (self.peek() + after.text).isdecimal():
            return None
        n = self.number()
        self.i += 1
        return _chosen(letter.text, n, self.number())

    def _called(self) -> Node | None:
        start = self.i
        letter = (
            "C" if self.follows("n", "C", "r") else "P" if self.follows("n", "P", "r") else self.take("C")
        )
        if letter and self.take("(") and not self.tokens[self.i - 1].spaced:
            n = self.sum()
            if self.take(","):
                k = self.sum()
                self.expect(")")
                if _can_choose(n, k):  # C(1, 2) is a point
                    return _chosen(letter, n, k)
        self.i = start
        return None


def _can_choose(n: Node, k: Node) -> bool:
    """Whole numbers n >= k >= 0; or letters, which are taken for such."""
    if n.symbols or k.symbols:
        return not n.contains("rel")
    whole = all(part.op == "num" and part.args[0].denominator == 1 for part in (n, k))
    return whole and n.args[0] >= k.args[0]


def _chosen(letter: str, n: Node, k: Node) -> Node:
    if letter == "C":
        return Node("binom", (n, k))
    return Node("div", (Node("fact", (n,)), Node("fact", (Node("sub", (n, k)),))))
