"""Ranges and times of day: `20 - 30` is no subtraction, `8:15 pm` no ratio."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from gmpo_vl.verify.measures import NUMBER
from gmpo_vl.verify.normalise import normalise
from gmpo_vl.verify.texts import TEXT_GROUP
from gmpo_vl.verify.units import unit_of

# An end: a plain number with its sign of money before it, or a percent sign, a degree sign or words after it.
_END = rf"(?:\\?\$ ?)?{NUMBER}(?: ?\\?%| ?\^ ?\{{? ?\\circ ?\}}?| ?([a-zA-Z]{{2,}})(?:\^\{{?\d\}}?)?)?"
_RANGE = re.compile(
    rf"(?:from )?({_END}) ?(?:-{{1,3}}|(?<= )to(?= )) ?({_END})|between ({_END}) and ({_END})"
)
_TIME = re.compile(
    r"(\d{1,2})(?::([0-5]\d))?(?::00)? ?(?:([ap]) ?\.? ?m\b\.?|(o'?clock))?(?: in the (morning|afternoon|evening))?"
)


@lru_cache(maxsize=20_000)
def ends(text: str) -> tuple[str, str] | None:
    """The two ends of `20 - 30`, `60%-80%`, `20 to 30 cm`, `between 2.0 and 2.4`; None for anything else."""
    if "-" not in normalise(text)[1:] and "to" not in text and "between" not in text:
        return None
    match = _RANGE.fullmatch(_flat(text))
    if not match:
        return None
    low, word, high, other = match.groups()[:4] if match[1] else match.groups()[4:]
    named = all(w is None or len(w) > 4 or unit_of(w, True) for w in (word, other))
    return (low.strip(), high.strip()) if named else None


def is_range(gold: str, answer: str) -> bool:
    """Whether a gold is a range: it has a dash, or the answer has one (`20 to 30` may be a ratio, too)."""
    return ends(gold) is not None and any(
        "to" not in text and "between" not in text for text in (gold, answer) if ends(text)
    )


class Time(NamedTuple):
    """half: "a", "p", or "" where it is not said; an hour past 12 says it (of_day)."""

    hour: int
    minute: int
    half: str
    spelled: bool
    of_day: bool = False


@lru_cache(maxsize=20_000)
def time_of_day(text: str) -> Time | None:
    """`3`, `3:00 pm`, `20:15`, `8 o'clock`; None for anything else. spelled: it says more than a plain number."""
    match = _TIME.fullmatch(_flat(text).lower()) if text[:1].isdigit() or text[:1] == "\\" else None
    if not match or int(match[1]) > 24:
        return None
    hour, minute = int(match[1]), int(match[2] or 0)
    half = {"morning": "a", "afternoon": "p", "evening": "p"}.get(match[5] or "", match[3] or "")
    if of_day := hour > 12 or hour == 0:
        half, hour = ("p" if 12 < hour < 24 else "a"), hour % 12 or 12
    return Time(hour, minute, half, bool(match[2] or match[3] or match[4] or match[5]), of_day)


def same_time(gold: str, answer: str) -> bool:
    """Whether two texts name the same time of day, at least one of them as such. The answer may say am or pm where the gold
    does not; what the gold says, the answer must.
    """
    if not (":" in answer or "m" in answer.lower() or "clock" in answer):
        return False
    ours, theirs = time_of_day(gold), time_of_day(answer)
    if not ours or not theirs or not (theirs.spelled and (ours.spelled or ours.minute == 0)):
        return False
    if theirs.of_day and not ours.half:  # 20:15 is no 8:15, though 8:15 pm may be
        return False
    return ours[:2] == theirs[:2] and ours.half in ("", theirs.half)


def _flat(text: str) -> str:
    return " ".join(
        TEXT_GROUP.sub(r" \1 ", normalise(text)).replace("$", "" if "\\$" not in text else "$").split()
    )
