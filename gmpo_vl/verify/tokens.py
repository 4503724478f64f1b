"""Tokens, and reading them one after the other: what the grammar (grammar.py, parse.py) is written with."""

from __future__ import annotations

from typing import NamedTuple

MAX_DEPTH = 32
_BASES: dict[str, int] = dict(
    zip("two three four five six seven eight nine ten eleven twelve".split(), range(2, 13))
)
_MARGIN = 8  # end tokens after the last one: more than anything here looks or steps ahead


class Unreadable(ValueError):
    """The text is no formula, list or relation that this grammar knows."""


class Token(NamedTuple):
    kind: str
    text: str
    spaced: bool = False  # white space before it


_END = Token("end", "")


def letters(token: Token) -> list[Token]:
    """A run of letters as the product of its symbols."""
    return [Token("name", token.text[0], token.spaced), *(Token("name", c) for c in token.text[1:])]


class Reader:
    """A place in a list of tokens. Before the first and after the last stand `end` tokens without text."""

    def __init__(self, tokens: list[Token]):
        self.tokens = [*tokens, *[_END] * _MARGIN]
        self.i = 0
        self.depth = 0

    def peek(self, ahead: int = 0) -> str:
        return self.tokens[self.i + ahead].text  # the index -1 is an end token, too

    def kind(self, ahead: int = 0) -> str:
        return self.tokens[self.i + ahead].kind

    def take(self, *texts: str) -> str:
        """Consume the next token if its text is one of these (and it is no word); "" otherwise."""
        token = self.tokens[self.i]
        if token.text in texts and token.kind != "word":
            self.i += 1
            return token.text
        return ""

    def expect(self, *texts: str) -> str:
        found = self.take(*texts)
        if not found:
            raise Unreadable(f"expected {texts[0]!r}, found {self.peek()!r}")
        return found

    def follows(self, *texts: str) -> bool:
        """Consume these tokens if they all come next."""
        if all(self.peek(k) == text for k, text in enumerate(texts)):
            self.i += len(texts)
            return True
        return False

    def deeper(self) -> None:
        """Count one level down; the caller takes it back. This bounds the nesting, and so the stack."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise Unreadable("too deep")

    def braced(self) -> str:
        """What stands between the opening brace that was just consumed and its partner, as text."""
        start, depth = self.i, 1
        while depth:
            if self.kind() == "end":
                raise Unreadable("a brace is never closed")
            depth += {"{": 1, "}": -1}.get(self.peek(), 0)
            self.i += 1
        return "".join(t.text for t in self.tokens[start : self.i - 1])

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

    def degree_sign(self) -> bool:
        r"""Consume `^\circ`, `^{\circ}`, `\degree`, `°`."""
        if self.peek() != "^":
            return bool(self.take("deg", "°"))
        braced = self.peek(1) == "{"
        if self.peek(1 + braced) not in ("circ", "deg") or (braced and self.peek(3) != "}"):
            return False
        self.i += 4 if braced else 2
        return True

    def temperature(self) -> str:
        """Consume the C or F of a degree sign and return its unit; "" for a plain angle."""
        if self.peek() in ("C", "F") and self.kind() in ("name", "word", "unit"):
            self.i += 1
            return f"deg{self.peek(-1)}^1"
        return ""

    def subscript(self) -> str:
        """Consume a subscript and return what it adds to the name; "" without one."""
        if not self.take("_"):
            return ""
        if self.take("{"):
            return "_" + self.braced()
        self.i += 1
        return "_" + self.peek(-1)

    def base(self) -> int:
        r"""Consume the base in `_8`, `_{8}`, `_{\text{eight}}`: from 2 to 16."""
        self.expect("_")
        text = self.braced() if self.take("{") else self.peek()
        self.i += self.peek(-1) != "}"
        text = text.removeprefix("(").removesuffix(")")
        base = _BASES.get(text, int(text) if text.isdecimal() and len(text) < 3 else 0)
        if not 2 <= base <= 16:
            raise Unreadable("a subscript that is no base")
        return base

    def segment(self) -> list[str]:
        r"""Consume the `{AB}` of `\overline{AB}` and return its letters; an empty list for anything else."""
        if self.peek() == "{" and self.peek(3) == "}" and self.peek(1).isupper() and self.peek(2).isupper():
            self.i += 4
            return [self.peek(-3), self.peek(-2)]
        return []

    def named(self, name: str) -> str:
        r"""The name of a thing: what follows `\angle`, `\hat`, `\dot`."""
        if self.take("{"):
            inside = self.braced()
        else:
            start = self.i
            while self.kind() == "name" and (self.i == start or self.peek().isupper()):
                self.i += 1
            if self.i == start and self.kind() == "num":
                self.i += 1
            inside = "".join(t.text for t in self.tokens[start : self.i])
        if not inside:
            raise Unreadable(f"{name} of nothing")
        return f"{name} {inside}{self.subscript()}"

    def environment(self) -> str:
        r"""The name in `\begin{name}` or `\end{name}`."""
        self.expect("{")
        return self.braced()
