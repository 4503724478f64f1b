r"""LaTeX, or the plain text that models write, to tokens. One linear pass, bounded in characters, tokens and
depth.

Kinds: `num`, `name` (one letter, or `\alpha`-like), `word` (letters that are no product of symbols), `cmd` (a
    LaTeX
command that the parser knows), `op` (one sign), `sep` (or, and), `numbers` (\mathbb{R}), `unit`. The kind
`short` (letters that may be a unit or a product) stands only between this file and units.py.
"""

from __future__ import annotations

import re

from gmpo_vl.verify.tokens import Token, Unreadable, letters
from gmpo_vl.verify.units import fold_units, unit_of

MAX_CHARS = 2_000
MAX_TOKENS = 700

_TOKEN = re.compile(
    r"(?P<space>\s*)(?:(?P<num>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+(?![\d.]))?)"
    r"|(?P<cmd>\\[a-zA-Z]+)"
    r"|(?P<skip>\\[!,:;> ]|\\\(|\\\)|\\\[|\\\]|\$|~|\"|`)"
    r"|(?P<esc>\\\\|\\[{}%$#&_|'])"
    r"|(?P<letters>[a-zA-Z]+)"
    r"|(?P<op>\*\*|<=|>=|!=|==|->|[-+*/^_=<>()\[\]{}|,;:!'&.?%°]))"
)
_NUMBERS = re.compile(
    r"\\(?:mathbb|Bbb|mathds)\s*(?:\{\s*([RZNQC])\s*\}|([RZNQC])(?![a-zA-Z]))|\\([RZNQ])(?![a-zA-Z])"
)
_NUMBER_SETS = frozenset("mathbb Bbb mathds R Z N Q".split())
_SIGNS = {"**": "^", "==": "="}
_JOINTS = {"land": "and", "lor": "or"}
_CUP = re.compile(r"\s(?<=[\])]\s)U\s*[(\[]")
_OPENING = re.compile(r"\s*\{")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)  # an escaped brace is content
_LETTERS = re.compile(r"[a-zA-Z]+")

_IGNORED = frozenset(
    """left right big Big bigg Bigg bigl bigr Bigl Bigr biggl biggr Biggl Biggr middle displaystyle textstyle
    limits nolimits quad qquad rm bf it sf mathstrut null cal boldmath unboldmath scriptstyle notag
    nonumber hfill hspace vphantom protect relax thinspace tiny scriptsize footnotesize small normalsize
    large Large LARGE huge Huge""".split()
)
_TEXT = frozenset(
    """text mbox textbf textit textrm textnormal mathrm hbox textup texttt textsf mathtt mathsf emph
    operatorname""".split()
)
_STYLE = frozenset("mathbf boldsymbol bm mathit mathcal mathbb mathfrak mathscr boxed fbox pmb".split())
_SPELLED = {
    "dfrac": "frac", "tfrac": "frac", "cfrac": "frac", "leq": "le", "leqslant": "le", "geq": "ge",
    "geqslant": "ge", "lt": "<", "gt": ">", "neq": "ne", "lvert": "|", "rvert": "|", "vert": "|", "mid": "|",
    "dbinom": "binom", "tbinom": "binom", "ast": "*", "cdot": "*", "times": "*", "bullet": "*", "div": "/",
    "degree": "deg", "degrees": "deg", "lbrack": "[", "rbrack": "]", "colon": ":", "simeq": "approx",
    "lparen": "(", "rparen": ")", "prime": "'", "varphi": "phi", "varepsilon": "epsilon", "vartheta": "theta",
    "doteq": "approx", "minus": "-", "infin": "infty", "plusmn": "pm", "widehat": "hat", "widetilde": "tilde",
    "thickapprox": "approx", "bar": "overline", "varnothing": "emptyset", "lbrace": "{", "rbrace": "}",
    "dots": "ldots", "cdots": "ldots", "dotsc": "ldots", "overrightarrow": "vec", "colorbox": "color",
    "arctg": "arctan", "tg": "tan", "ctg": "cot", "pmod": "mod", "bmod": "mod", "wedge": "land",
    "smallsetminus": "setminus", "backslash": "setminus", "vee": "lor", "asin": "arcsin", "acos": "arccos",
    "atan": "arctan", "measuredangle": "angle", "textdegree": "deg",
}  # fmt: skip
FUNCTIONS = frozenset(
    """sin cos tan cot sec csc arcsin arccos arctan arccot sinh cosh tanh coth ln log lg exp max min gcd lcm
    det""".split()
)
GREEK = frozenset(
    """alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi rho sigma tau upsilon phi chi
    psi omega hbar ell odot Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega star dagger mho
    nabla partial""".split()
)
_PLAIN = FUNCTIONS | set("abs sqrt pi cbrt infty theta alpha beta gamma lambda sigma omega phi".split())
_PLAIN_SPELLED = {
    "inf": "infty", "infinity": "infty", "Infinity": "infty", "Pi": "pi", "asin": "arcsin", "acos": "arccos",
    "atan": "arctan",
}  # fmt: skip
_MULTIPLES = {"thousand": 3, "million": 6, "billion": 9, "trillion": 12}
# Short words that deny or change what follows; letters of any other word may be a product. NO is a segment.
_NO_PRODUCT = frozenset("not Not NOT no No nor non none half Half less more than over but if".split())
_LONGEST_PRODUCT = 4  # letters in a row that may be a product of symbols; longer ones are a word


def lex(text: str) -> tuple[list[Token], list[Token]]:
    """Tokens of a normalised text, twice: with letters after a number as units, and with only units set as
    text.

    Raises Unreadable for signs outside the grammar and for what exceeds the bounds.
    """
    if len(text) > MAX_CHARS:
        raise Unreadable("too long")
    first = _LETTERS.match(text)
    if first and "=" not in text and "\\" not in text and _letters(first[0], False, False)[0].kind == "word":
        raise Unreadable("a word at the start, which names no value")  # most sentences
    written = _lex(text, in_text=False, depth=0)
    tokens = fold_units(written)
    has_units = "unit" in {token.kind for token in tokens}
    symbols = fold_units(written, letters_too=False) if has_units else tokens
    if len(tokens) > MAX_TOKENS or len(symbols) > MAX_TOKENS:
        raise Unreadable("too many tokens")
    return tokens, symbols


def _lex(text: str, in_text: bool, depth: int) -> list[Token]:
    if depth > 4:
        raise Unreadable("text inside text")
    text = text.rstrip()
    tokens: list[Token] = []
    at, spaced = 0, False
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise Unreadable(f"the sign {text[at:].lstrip()[:1]!r}")
        kind, at = match.lastgroup, match.end()
        space, piece = match.group(1, kind or 0)
        spaced = spaced or space != ""
        if kind == "cmd":
            found, at, spaced = _command(text, at, piece, spaced, depth)
            tokens += found
            continue
        if kind == "skip":
            spaced = True
            continue
        if kind == "num":
            tokens.append(Token("num", piece, spaced))
        elif kind == "op":
            tokens.append(Token("op", _SIGNS.get(piece, piece), spaced))
        elif kind == "esc":
            tokens.append(Token("cmd", piece, spaced))
        elif piece == "U" and _CUP.match(text, at - 2):  # (0,1) U (2,3)
            tokens.append(Token("cmd", "cup", spaced))
        else:
            tokens += _letters(piece, in_text, spaced)
        spaced = False
    return tokens


def _command(text: str, at: int, piece: str, spaced: bool, depth: int) -> tuple[list[Token], int, bool]:
    """The tokens of a command that ends at `at`, where its argument ends, and whether it counts as space."""
    name = piece[1:]
    if name in _IGNORED:
        invisible = (
            name in ("left", "right") and text[at : at + 1] == "." and not text[at + 1 : at + 2].isdigit()
        )
        return [], at + invisible, True  # the bracket of `\left.`
    if name in _TEXT and (group := _group(text, at)):
        return _lex(group[0], True, depth + 1), group[1], True
    if name in _NUMBER_SETS and (named := _NUMBERS.match(text, at - len(piece))):
        return [Token("numbers", named[1] or named[2] or named[3], spaced)], named.end(), False
    if name in _STYLE:
        return [], at, spaced
    if name == "AA":
        return [Token("word", "angstrom", True)], at, False
    name = _SPELLED.get(name, name)
    if name in GREEK:
        kind = "name"
    elif name in _JOINTS:
        kind, name = "sep", _JOINTS[name]
    elif name in "{}":
        kind, name = "cmd", "\\" + name
    else:
        kind = "cmd" if name[0].isalpha() else "op"
    return [Token(kind, name, spaced)], at, False


def _letters(run: str, in_text: bool, spaced: bool) -> list[Token]:
    if len(run) == 1:
        return [Token("word" if in_text and run not in "ie" else "name", run, spaced)]
    low = run.lower()
    if low in ("or", "and") and (in_text or spaced):
        return [Token("sep", low, spaced)]
    if low in ("percent", "to") and (in_text or spaced):
        return [Token("op", {"percent": "%", "to": ":"}[low], spaced)]
    if low in _MULTIPLES:
        return [Token("op", "*", spaced), Token("num", "1" + "0" * _MULTIPLES[low])]
    plain = _PLAIN_SPELLED.get(run, run)
    if plain in _PLAIN:
        return [Token("name" if plain in GREEK else "cmd", plain, spaced)]
    product = not in_text or (run.isupper() and len(run) <= _LONGEST_PRODUCT)  # \text{AB} is a segment
    if not product or run in ("in", "per") or run in _NO_PRODUCT or len(run) > _LONGEST_PRODUCT:
        return [Token("word", run, spaced)]
    # mg is milligrams, or m times g: what stands around it will tell. An hour is no product.
    if unit_of(run, False) is not None:
        return [Token("short" if len(run) < _LONGEST_PRODUCT else "word", run, spaced)]
    if run.startswith("pi") and len(run) == 3:  # "pir"
        return [Token("cmd", "pi", spaced), Token("name", run[2])]
    if run.isupper() and len(run) == _LONGEST_PRODUCT:  # SRAC, a name
        return [Token("name", run, spaced)]
    return letters(Token("short", run, spaced))


def _group(text: str, at: int) -> tuple[str, int] | None:
    """The content of the brace group that follows, and the position after it."""
    start = _OPENING.match(text, at)
    if not start:
        return None
    depth = 1
    for brace in _BRACE.finditer(text, start.end()):
        depth += {"{": 1, "}": -1}.get(brace[0], 0)
        if depth == 0:
            return text[start.end() : brace.start()], brace.end()
    raise Unreadable("a brace is never closed")
