r"""LaTeX as the plain text that the published graders compare: `\frac{1}{2}` is `1/2`, `\sqrt[3]{4}` is
`√(4)`.

It follows what pylatexenc's LatexNodes2Text gives for what stands in answers; the paper profile alone uses
it.
"""

from __future__ import annotations

import re
import unicodedata

_PIECE = re.compile(r"\\[a-zA-Z]+\s*|\\.|[{}]|[^\\{}]", re.DOTALL)
# A command and its sign.
_SIGNS = """
piπ infty∞ cup∪ cap∩ cdot· times× div÷ pm± mp∓ le≤ leq≤ leqslant⩽ ge≥ geq≥ geqslant⩾ neq≠ approx≈ cong≅
equiv≡ in∈ circ∘ angle∠ perp⊥ parallel∥ ldots… dots… cdots⋯ to→ lfloor⌊ rfloor⌋ lceil⌈ rceil⌉ emptyset∅
alphaα betaβ gammaγ deltaδ epsilonϵ varepsilonε zetaζ etaη thetaθ lambdaλ muμ nuν xiξ rhoρ sigmaσ tauτ phiϕ
varphiφ chiχ psiψ omegaω GammaΓ DeltaΔ ThetaΘ LambdaΛ SigmaΣ PhiΦ OmegaΩ hbarħ odot⊙ ast∗ star⋆ bullet∙ sim∼
simeq≃ partial∂ sum∑ int∫
"""
_SYMBOLS = dict(re.findall(r"([a-zA-Z]+)([^\x00-\x7f])", _SIGNS))
_SYMBOLS |= {"prime": "'", "lvert": "|", "rvert": "|", "mid": "|", "quad": "  ", "qquad": "    "}
_WORDS = frozenset(
    "sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh ln log lg exp max min gcd det lim".split()
)
_ACCENTS = dict(zip("hat dot ddot vec bar tilde".split(), "\u0302\u0307\u0308\u20d7\u0305\u0303"))
_ESCAPED = {",": " ", ";": " ", ":": " ", " ": " ", "!": "", "\\": "\n", "|": ""}
_MATRICES = {"pmatrix", "bmatrix", "array", "smallmatrix"}  # these get brackets
_MAX_DEPTH = 40


def latex_to_text(text: str) -> str:
    """The plain text of a piece of LaTeX; what cannot be read stays as it is."""
    try:
        pieces, done, at = _PIECE.findall(text), "", 0
        while at < len(pieces):  # a brace that closes nothing is skipped
            piece, at = _sequence(pieces, at, 0)
            done, at = done + piece, at + 1
    except _Broken:
        return text
    return done


class _Broken(ValueError):
    """Braces or environments that do not match."""


def _sequence(pieces: list[str], at: int, depth: int) -> tuple[str, int]:
    if depth > _MAX_DEPTH:
        raise _Broken
    out: list[str] = []
    while at < len(pieces) and pieces[at] != "}":
        piece, at = _one(pieces, at, depth)
        if piece is None:
            return "".join(out), at
        out.append(piece)
    return "".join(out), at


def _one(pieces: list[str], at: int, depth: int) -> tuple[str | None, int]:
    """One character, group or command at `at`; None for the end of an environment."""
    piece = pieces[at]
    if piece == "{":
        inside, end = _sequence(pieces, at + 1, depth + 1)
        if end >= len(pieces) or pieces[end] != "}":
            raise _Broken
        return inside, end + 1
    if not piece.startswith("\\"):
        return ("\xa0" if piece == "~" else piece), at + 1
    name = piece[1:].strip()
    if not name.isalpha():
        return _ESCAPED.get(piece[1:], piece[1:]), at + 1
    return _command(name, pieces, at + 1, depth)


def _command(name: str, pieces: list[str], at: int, depth: int) -> tuple[str | None, int]:
    if name == "frac":
        top, at = _argument(pieces, at, depth)
        bottom, at = _argument(pieces, at, depth)
        return f"{top}/{bottom}", at
    if name == "sqrt":
        if at < len(pieces) and pieces[at] == "[":
            while at < len(pieces) and pieces[at] != "]":
                at += 1
            at += 1
        inside, at = _argument(pieces, at, depth)
        return f"√({inside})", at
    if name in ("mbox", "hspace", "vspace", "phantom"):
        return "", _argument(pieces, at, depth)[1]
    if name in _ACCENTS:
        inside, at = _argument(pieces, at, depth)
        return unicodedata.normalize("NFC", inside[:1] + _ACCENTS[name]) + inside[1:], at
    if name == "mathbf":
        inside, at = _argument(pieces, at, depth)
        return "".join(_bold(c) for c in inside), at
    if name == "begin":
        return _environment(pieces, at, depth)
    if name == "end":
        return None, _argument(pieces, at, depth)[1]
    return _SYMBOLS.get(name, name if name in _WORDS else ""), at


def _argument(pieces: list[str], at: int, depth: int) -> tuple[str, int]:
    while at < len(pieces) and pieces[at].isspace():
        at += 1
    if at >= len(pieces) or pieces[at] == "}":
        raise _Broken
    inside, at = _one(pieces, at, depth + 1)
    return inside or "", at


def _environment(pieces: list[str], at: int, depth: int) -> tuple[str, int]:
    name, at = _argument(pieces, at, depth)
    if name == "array":
        _, at = _argument(pieces, at, depth)
    inside, at = _sequence(pieces, at, depth + 1)
    if name not in _MATRICES:
        return inside, at
    rows = [[cell.strip() for cell in row.split("&")] for row in inside.split("\n")]
    return "[ " + "; ".join(" ".join(row) for row in rows) + " ]", at


def _bold(char: str) -> str:
    kind = "DIGIT" if char.isdigit() else "CAPITAL" if char.isupper() else "SMALL"
    label = unicodedata.name(char, "").removeprefix("DIGIT ") if char.isdigit() else char.upper()
    try:
        return unicodedata.lookup(f"MATHEMATICAL BOLD {kind} {label}")
    except KeyError:
        return char
