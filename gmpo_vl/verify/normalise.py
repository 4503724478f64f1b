r"""Unicode and spellings to one LaTeX, by table; and an answer without the marks around it: Markdown, quotes,
\therefore.

The text stays text: nothing here decides about equality.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

_SUPERSCRIPTS = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿⁱ", "0123456789+-ni"))
_SUBSCRIPTS = dict(zip("₀₁₂₃₄₅₆₇₈₉ₙ", "0123456789n"))
_FRACTIONS = (
    "½1/2 ⅓1/3 ⅔2/3 ¼1/4 ¾3/4 ⅕1/5 ⅖2/5 ⅗3/5 ⅘4/5 ⅙1/6 ⅚5/6 ⅐1/7 ⅛1/8 ⅜3/8 ⅝5/8 ⅞7/8 ⅑1/9 ⅒1/10".split()
)
# A command, and the signs that stand for it.
_COMMANDS = """
alphaα betaβ gammaγ deltaδ epsilonεϵ zetaζ etaη thetaθ iotaι kappaκ lambdaλ muμ nuν xiξ piπ rhoρ sigmaσ tauτ
upsilonυ phiφϕ chiχ psiψ omegaω GammaΓ DeltaΔ ThetaΘ LambdaΛ XiΞ PiΠ SigmaΣ PhiΦ PsiΨ OmegaΩ langle⟨ rangle⟩
times×✕ cdot·⋅∙• unicoderoot√ unicodecuberoot∛ infty∞ le≤≦⩽ ge≥≧⩾ ne≠ approx≈ cong≅ equiv≡ angle∠ triangle△
cup∪ cap∩ in∈ pm± mp∓ emptyset∅ perp⊥ parallel∥ lfloor⌊ rfloor⌋ lceil⌈ rceil⌉ to→ setminus∖ land∧ lor∨
AA\xc5\u212b
"""
_SIGNS = {
    "-": "−–—‐‑", "/": "⁄∕÷", "*": "∗", r"^{\circ}": "°º˚", "'": '′‘’', "''": '″', "|": "∣", ":": "∶",
    ",": "、", ".": "。", "": "【】「」『』",
    " or ": "或", " and ": "且和与及", r"\mathbb{R} ": "ℝ", r"\mathbb{Z} ": "ℤ", r"\mathbb{N} ": "ℕ",
    r"\mathbb{Q} ": "ℚ", r"\mathbb{C} ": "ℂ", '"': '“”',
}  # fmt: skip
_DROPPED = [*range(0x200B, 0x2010), *range(0x202A, 0x202F), *range(0x2060, 0x2065), 0xFEFF, 0xAD]
_SPACES = [0xA0, 0x1680, *range(0x2000, 0x200B), 0x202F, 0x205F, 0x3000]
_AREAS = "m2 m3 cm2 cm3 mm2 km2".split()
_TABLE: dict[int, str | None] = {
    **{
        ord(sign): rf"\{name} "
        for name, signs in re.findall(r"(\w+?)([^\x00-\x7f]+)", _COMMANDS)
        for sign in signs
    },
    **{ord(sign): text for text, signs in _SIGNS.items() for sign in signs},
    **{ord(f[0]): re.sub(r"(\d+)/(\d+)", r"\\frac{\1}{\2}", f[1:]) for f in _FRACTIONS},
    **{ord(sign): rf"\text{{ {unit[:-1]}}}^{unit[-1]}" for sign, unit in zip("㎡㎥㎠㎤㎟㎢", _AREAS)},
    **dict.fromkeys(_DROPPED, None),
    **dict.fromkeys(_SPACES, " "),
}
# Mathematical letters (𝑥, 𝟑, 𝛼) are the plain ones.
_TABLE |= {
    c: _TABLE.get(ord(plain), plain)
    for c in range(0x1D400, 0x1D800)
    if len(plain := unicodedata.normalize("NFKC", chr(c))) == 1
}
# A currency sign next to a number is a unit; a pound is one word for money and weight. Two dollar signs
# enclose a formula, and so does a stray one before anything but a plain amount.
_CURRENCIES = {"€": "euros", "£": "pounds", "¥": "yensign", "₹": "rupees", "¢": "cents"}
_MONEY = re.compile(r"([€£¥₹¢])\s*(\d[\d,.]*(?:\s*(?:thousand|million|billion|trillion)\b)?)|([€£¥₹¢])")
_DOLLAR = re.compile(r"(?<!\\)\$(?=\s*\d[\d,]*(?:\.\d+)?(?:[\s,;.)]|bn\b|$))")
_US_DOLLAR = re.compile(r"\b(?:USD ?|US ?\\?\$ ?)(?=\d)")
_BILLIONS = re.compile(r"(\\\$ ?\d[\d,]*(?:\.\d+)?) ?bn\b")  # alone it is a product
_PER_CENT = re.compile(r"(?<=\d) ?per cent\b")
_MICRO = re.compile(r"(?<=\d)\s*[µμ]([mgsLAFVC])(?![a-zA-Z])")  # 5 µm
_OHM = re.compile(r"(?<=\d)\s*([kM]?)[ΩΩ]")
_CHINESE_RATIO = re.compile(r"(?<=\d)\s*比\s*(?=\d)")
_CHINESE_PERCENT = re.compile(r"百分之\s*(\d+(?:\.\d+)?)")
_RAISED = re.compile(f"[{''.join(_SUPERSCRIPTS)}]+")
_LOWERED = re.compile(f"[{''.join(_SUBSCRIPTS)}]+")
# Signs of text that LaTeX escapes (snow\_board, R\&D); 7{:}30. In a table \& parts no cells.
_NAMED_SIGNS = {
    "underscore": "_", "asciitilde": "~", "asciicircum": "^", "backslash": "\\", "quotesingle": "'",
    "bar": "|", "less": "<", "greater": ">",
}  # fmt: skip
_ESCAPED = re.compile(
    rf"(?<!\\)\\([_&#%])|\\text({'|'.join(_NAMED_SIGNS)})(?![a-zA-Z])(?:\{{\}}| )?|(?<=\d)\{{(:)\}}(?=\d)"
)
_ESCAPED_IN_TABLE = re.compile(_ESCAPED.pattern.replace("&", ""))
_THOUSANDS_BRACE = re.compile(r"(?<=\d)\{,\}(?=\d{3}(?!\d))")
_THOUSANDS_GROUP = re.compile(r"(?<!\\)\{(-?\d{1,3}(?:,\d{3})+)\}")
_THOUSANDS_THIN = re.compile(r"(?<=\d)(?:,\s*\\!|\\!,|\\[,;])\s*(?=\d{3}(?!\d))")


@lru_cache(maxsize=20_000)
def normalise(text: str) -> str:
    r"""Unicode signs become LaTeX, invisible characters go, thousands (`{,}`, `,\!`, `\,`) close up."""
    if "textdollar" in text:
        text = text.replace("\\textdollar", "\\$")
    if "US" in text:
        text = _US_DOLLAR.sub(r"\\$", text)
    if text.count("$") == 1:
        text = _BILLIONS.sub(r"\1 billion", _DOLLAR.sub(r"\\$", text))
    if "per cent" in text:
        text = _PER_CENT.sub(" percent", text)
    if not text.isascii():
        text = _MONEY.sub(lambda m: f"{m[2] or ''}\\text{{ {_CURRENCIES[m[1] or m[3]]}}}", text)
        text = _OHM.sub(r"\\text{ \1ohm}", _MICRO.sub(r"\\text{ micro\1}", text))
        if "比" in text or "百分之" in text:
            text = _CHINESE_PERCENT.sub(r"\1%", _CHINESE_RATIO.sub(":", text))
        text = _RAISED.sub(lambda m: "^{" + "".join(_SUPERSCRIPTS[c] for c in m[0]) + "}", text)
        text = _LOWERED.sub(lambda m: "_{" + "".join(_SUBSCRIPTS[c] for c in m[0]) + "}", text)
        text = unicodedata.normalize("NFKC", text.translate(_TABLE))
    if "\\" in text or "{" in text:
        escaped = _ESCAPED_IN_TABLE if "\\begin" in text else _ESCAPED
        text = escaped.sub(lambda m: _NAMED_SIGNS.get(m[2]) or m[1] or m[3], text)
        text = _THOUSANDS_BRACE.sub("", text)
        text = _THOUSANDS_THIN.sub("", text)
        text = _THOUSANDS_GROUP.sub(lambda m: "{" + m[1].replace(",", "") + "}", text)  # \\frac{20,000}{\\pi}
    return text.strip().rstrip("\\").rstrip()  # a trailing `\ ` or `\\` is space


# --- marks around an answer, which say nothing about it -----------------------------------------------
_PLAIN = re.compile(r"-?[a-zA-Z\d.]+")
_TAGS = re.compile(r"</?(?:b|i|u|em|strong|code|span|p|center|mark|answer)\s*/?>", re.IGNORECASE)
_BOLD = re.compile(r"(?<![\w*)}\]])\*\*([^*]+)\*\*(?![\w*({\\])|(?<![\w_])__([^_]+)__(?![\w_])")
_STRUCK = re.compile(r"~~[^~]+~~")
_ITALIC = re.compile(r"\*([^*]+)\*\s")  # *9.4* m, at the start, where no product begins
_COLOURS = re.compile(
    r"\\(?:textcolor|color|colorbox)\s*(?:\[[^\]]*\])?\s*\{[^{}]*\}"
    r"|\\(?:framebox|underline|uline|bbox(?:\[[^\]]*\])?|bf|it|rm|displaystyle)(?![a-zA-Z])\s*(?:\[[^\]]*\])?"
)
_START = re.compile(
    r"(?:\\(?:therefore|checkmark|Rightarrow|implies|Longrightarrow|longrightarrow|rightarrow|to|quad"
    r"|qquad)(?![a-zA-Z])"
    r"|\\[,;:! ]|=>|[∴→⇒✓✔✅=:]|~(?!~)|#{1,6}(?=\s)|\s)+"
)
_ENDS = (
    "\\blacksquare", "\\square", "\\Box", "\\qed", "\\checkmark", "\\quad", "\\qquad", "\\,", "\\;", "\\:",
    "\\!", "\\ ", "\\\\", "✓", "✔", "✅", "∎", "■", "□", "Q.E.D.", "QED", "(Q.E.D.)", "(QED)",
    "\\text{(Q.E.D.)}", "\\text{Q.E.D.}", "\\text{QED}", "~", "\ufe0f",
)  # fmt: skip
_AROUND = (
    ("***", "***"), ("**", "**"), ("*", "*"), ("___", "___"), ("__", "__"), ("_", "_"), ("```", "```"),
    ("``", "''"), ("`", "`"), ("\\(", "\\)"), ("\\[", "\\]"), ("$$", "$$"), ("$", "$"), ('"', '"'),
    ("'", "'"), ("“", "”"), ("‘", "’"), ("«", "»"),
)  # fmt: skip
_OPENING = frozenset(opening[0] for opening, _ in _AROUND)
_ROUNDS = 6  # marks inside marks
# A JSON string written twice doubles every backslash; a line break (`\\`) stands beside single ones.
_DOUBLED = re.compile(r"(?<!\\)\\\\(?=[a-zA-Z]{2})")
_SINGLE = re.compile(r"(?<!\\)\\(?!\\)")


# Signs of Chinese text, and what leads to an answer in it: `故答案为：12。`, `所以选C`.
_WIDE = {code: chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)}
_WIDE |= {0x3000: " ", ord("。"): ".", ord("￥"): "¥"} | dict.fromkeys(map(ord, "【】「」『』"), " ")
_CHINESE_LEAD = re.compile(
    r"(?:\s*(?:因此|所以|故|综上(?:所述)?|于是|则|即|可得|解得|得|本题|此题|该题|我|一?共有?|总共有?|有)[,:]?){0,4}\s*"
    r"(?:最终|最后|正确|参考|的){0,4}(?:答案|结果|选项|答)?\s*(?:应该?)?(?:是|为|等于|选择?|选项)?\s*[:,]?\s*"
    r"(?![\u4e00-\u9fff])"
)
_CHINESE_GROUP = re.compile(r"\\(?:text|textbf|mathrm|mbox)\s*\{([^{}]*[\u4e00-\u9fff][^{}]*)\}")
_CHINESE_OPTION = re.compile(r"(?<=[A-H)])\s*(?:选项|项)(?=[.\s]*$)")


@lru_cache(maxsize=50_000)
def unmarked(text: str) -> str:
    """The answer without the marks around it."""
    if _PLAIN.fullmatch(text):
        return text
    text = undoubled(text)
    is_ascii = text.isascii()
    if not is_ascii:
        text = _CHINESE_OPTION.sub("", text.translate(_WIDE))
    if "<" in text:
        text = _TAGS.sub("", text)
    if "\\" in text:
        text = _COLOURS.sub("", text)
    if "~~" in text:
        text = _STRUCK.sub("", text)
    if "**" in text or "__" in text:
        text = _BOLD.sub(lambda m: (m[1] or m[2]).strip(), text)
        if text.count("**") == 1:  # never closed: no power begins or ends with its sign
            text = text.removeprefix("**").removesuffix("**")
    elif text[:1] == "*":
        text = _ITALIC.sub(r"\1 ", text)
    for _ in range(_ROUNDS):
        before = text
        text = _without_ends(text.strip())
        if start := _START.match(text):
            text = text[start.end() :]
        if not is_ascii and (lead := _CHINESE_LEAD.match(_opened(text))):
            rest = _opened(text)[lead.end() :]
            text = rest if rest.strip(" .,:") else _opened(text)  # 是。 is no lead
        text = _without_pair(text)
        if text == before:
            break
    return text


def _opened(text: str) -> str:
    """`\\text{选C}` as its content."""
    group = _CHINESE_GROUP.fullmatch(text)
    return group[1].strip() if group else text


def undoubled(text: str) -> str:
    r"""`\\frac{1}{2}` as `\frac{1}{2}`, where every backslash is doubled."""
    if "\\\\" in text and _DOUBLED.search(text) and not _SINGLE.search(text):
        return text.replace("\\\\", "\\")
    return text


def _without_ends(text: str) -> str:
    while text.endswith(_ENDS):
        ended = next(end for end in _ENDS if text.endswith(end))
        text = text[: -len(ended)].rstrip()
    return text


def _without_pair(text: str) -> str:
    if text[:1] not in _OPENING:
        return text
    for opening, closing in _AROUND:
        if text.startswith(opening) and text.endswith(closing) and len(text) > len(opening) + len(closing):
            inner = text[len(opening) : -len(closing)]
            whole = opening[0] == "\\" or opening == "**"  # **3*x**
            alone = (opening,) if whole else (opening[-1], closing[0])
            if all(mark not in inner for mark in alone):  # not "a" or "b"
                return inner.strip()
    return text
