r"""What stands around an answer and says nothing about it: Markdown, HTML, quotes, colours, \therefore, a closing mark."""

from __future__ import annotations

import re
from functools import lru_cache

_PLAIN = re.compile(r"-?[a-zA-Z\d.]+")
_TAGS = re.compile(r"</?(?:b|i|u|em|strong|code|span|p|center|mark|answer)\s*/?>", re.IGNORECASE)
_BOLD = re.compile(r"(?<![\w*)}\]])\*\*([^*]+)\*\*(?![\w*({\\])|(?<![\w_])__([^_]+)__(?![\w_])")
_COLOURS = re.compile(
    r"\\(?:textcolor|color|colorbox)\s*(?:\[[^\]]*\])?\s*\{[^{}]*\}"
    r"|\\(?:framebox|underline|uline|bbox(?:\[[^\]]*\])?|bf|it|rm|displaystyle)(?![a-zA-Z])\s*(?:\[[^\]]*\])?"
)
_START = re.compile(
    r"(?:\\(?:therefore|checkmark|Rightarrow|implies|Longrightarrow|longrightarrow|rightarrow|to|quad|qquad)(?![a-zA-Z])"
    r"|\\[,;:! ]|=>|[∴→⇒✓✔✅=:~]|#{1,6}(?=\s)|\s)+"
)
_ENDS = (
    "\\blacksquare", "\\square", "\\Box", "\\qed", "\\checkmark", "\\quad", "\\qquad", "\\,", "\\;", "\\:", "\\!", "\\ ", "\\\\",
    "✓", "✔", "✅", "∎", "■", "□", "Q.E.D.", "QED", "(Q.E.D.)", "(QED)", "\\text{(Q.E.D.)}", "\\text{Q.E.D.}", "\\text{QED}",
    "~", "\ufe0f",
)  # fmt: skip
_AROUND = (
    ("***", "***"), ("**", "**"), ("*", "*"), ("___", "___"), ("__", "__"), ("_", "_"), ("```", "```"), ("``", "''"), ("`", "`"),
    ("\\(", "\\)"), ("\\[", "\\]"), ("$$", "$$"), ("$", "$"), ('"', '"'), ("'", "'"), ("“", "”"), ("‘", "’"), ("«", "»"),
)  # fmt: skip
_OPENING = frozenset(opening[0] for opening, _ in _AROUND)
_ROUNDS = 6  # marks inside marks
# A JSON string written twice doubles every backslash; a line break (`\\`) stands beside single ones.
_DOUBLED = re.compile(r"(?<!\\)\\\\(?=[a-zA-Z]{2})")
_SINGLE = re.compile(r"(?<!\\)\\(?!\\)")


@lru_cache(maxsize=50_000)
def unmarked(text: str) -> str:
    """The answer without the marks around it."""
    if _PLAIN.fullmatch(text):
        return text
    text = undoubled(text)
    if "<" in text:
        text = _TAGS.sub("", text)
    if "\\" in text:
        text = _COLOURS.sub("", text)
    if "**" in text or "__" in text:
        text = _BOLD.sub(lambda m: (m[1] or m[2]).strip(), text)
    for _ in range(_ROUNDS):
        before = text
        text = _without_ends(text.strip())
        if start := _START.match(text):
            text = text[start.end() :]
        text = _without_pair(text)
        if text == before:
            break
    return text


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
            alone = (opening,) if opening[0] == "\\" else (opening[-1], closing[0])
            if all(mark not in inner for mark in alone):  # not "a" or "b"
                return inner.strip()
    return text
