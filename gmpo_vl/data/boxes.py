r"""Where `\boxed{}` and `\fbox{}` stand in a text. Every scan is linear and bounded."""

from __future__ import annotations

import re

MAX_ANSWER = 2_000  # characters in a box; the longest gold of the benchmarks has 330
MAX_LOOKS = 2_000  # mentions of "box" that are looked at, from the right

_BOX = re.compile(r"\\(?:boxed|fbox)\s{0,8}\{")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)  # an escaped brace is content
_CUT = re.compile(r"\\(?:boxed|fbox)\s{0,8}\Z")


def last_start(text: str, end: int) -> int:
    r"""Where the last box command before `end` starts, or -1. A bare `\boxed` at the end counts."""
    for _ in range(MAX_LOOKS):
        at = text.rfind("box", 0, end)
        if at < 1:
            return -1
        start = at - 1 if text[at - 1] == "\\" else at - 2
        if _BOX.match(text, start) or (text[start] == "\\" and _CUT.match(text, start)):
            return start
        end = at
    return -1


def box_at(text: str, start: int) -> tuple[str, int] | None:
    """The balanced content of the box at `start` and the position after it; None if it does not end."""
    opening = text.find("{", start)
    if opening < 0:
        return None
    closing = text.find("}", opening, opening + MAX_ANSWER)
    plain = text[opening + 1 : closing]
    if closing > 0 and "{" not in plain and "\\" not in plain:  # most answers
        return plain, closing + 1
    depth = 0
    for brace in _BRACE.finditer(text, opening, opening + MAX_ANSWER):
        if brace[0] == "{":
            depth += 1
        elif brace[0] == "}":
            depth -= 1
            if depth == 0:
                return text[opening + 1 : brace.start()], brace.end()
    return None
