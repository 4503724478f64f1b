"""Multiple choice: a letter, alone or before its text; or, where the choices are known, the text of the right one."""

from __future__ import annotations

import re

from gmpo_vl.verify.gold import Gold
from gmpo_vl.verify.normalise import normalise
from gmpo_vl.verify.quantities import Leeway
from gmpo_vl.verify.texts import TEXT_GROUP, bare
from gmpo_vl.verify.values import CHOICE, judge_value, type_of

_CHOICE_IN_ANSWER = re.compile(
    r"(?:(?:the\s+)?(?:correct\s+)?(?:answer|option|choice)\s*(?:is|:)?\s*)?\(?([A-Za-z])(?:\)|[.:](?=\s|$)|$)\s*(.*)",
    re.DOTALL | re.IGNORECASE,
)
# After the right letter: another one (A only where it is no article), a list of letters, or that it is wrong.
_TAKEN_BACK = re.compile(
    r"\b[B-HJ-Z]\b|\bA\b(?!\s+\w\w)|\bor\b|\band\b|^(?:[a-j]\W+)+[a-j]$|^(?:wrong|incorrect)\b"
    r"|\b(?:is|was|be)\s+(?:wrong|incorrect|false|not\s+(?:right|correct|true|it|the))\b"
)


def judge_choice(alternative: str, gold: Gold, answer: str) -> str:
    """A letter, alone or before its text; or, where the choices are known, the text of the right one."""
    letter = _letter(alternative, gold)
    match = _CHOICE_IN_ANSWER.fullmatch(
        TEXT_GROUP.sub(r" \1 ", normalise(answer)).replace("$", "").replace("\\ ", " ").strip(" .")
    )
    index = ord(letter) - ord("A") if letter else -1
    content = gold.choices[index] if 0 <= index < len(gold.choices) else ""
    leeway = Leeway(gold.tolerance)
    if match and letter:
        rest = match[2].strip()
        if match[1].upper() != letter or (rest and not rest[0].isalnum() and rest[0] not in "\\({-.["):
            return "different"
        if rest and content:
            return judge_value(content, type_of(content), leeway, rest)
        return "hedged" if _TAKEN_BACK.search(bare(rest)) else "equal"
    if not content:
        return "different"
    return judge_value(content, type_of(content), leeway, answer)


def _letter(alternative: str, gold: Gold) -> str | None:
    match = CHOICE.fullmatch(bare(alternative))
    if match:
        return match[1]
    matches = [i for i, choice in enumerate(gold.choices) if choice.strip() == alternative]
    return chr(ord("A") + matches[0]) if matches else None
