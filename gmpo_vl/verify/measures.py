r"""Quantities as people write them, in the grammar's LaTeX: `30海里`, `45 miles per hour`, `9th grade`, `1
250`. Ranges and times of day: `20 - 30` is no subtraction, `8:15 pm` no ratio.
"""

from __future__ import annotations

import re
from decimal import Decimal
from functools import lru_cache
from typing import NamedTuple

from gmpo_vl.verify.normalise import normalise
from gmpo_vl.verify.units import IRREGULAR, conversion, unit_of
from gmpo_vl.verify.words import NUMBER, TEXT_GROUP

# A Chinese unit, and the English word for it.
_CHINESE_UNITS = """
摄氏度celsius 华氏度fahrenheit 倍times
毫米mm 厘米cm 分米dm 千米km 公里km 海里nauticalmiles 米meters 毫克mg 千克kg 公斤kg 克grams 吨tons
毫升ml 升liters 秒钟seconds 秒seconds 分钟minutes 小时hours 时hours 天days 周weeks 个月months
月months 年years 岁years 元yuan 块钱yuan 美元dollars 度degrees
"""
_CHINESE = dict(re.findall(r"([^\x00-\x7f]+)([a-z]+)", _CHINESE_UNITS))
_CLASSIFIERS = "个只人名位本张条棵件辆支块页种头颗朵座间台瓶杯箱袋套根面场班次组对盒队步段枚把艘户家"
_UNITS = "|".join(sorted(_CHINESE, key=len, reverse=True))
_CHINESE_END = re.compile(  # 5个 is 5
    rf"(?:(平方|立方)?({_UNITS})(\^\{{?[23]\}}?)?(?:[/每](平方|立方)?({_UNITS}))?|[{_CLASSIFIERS}]{{1,2}})\.?$"
)
_CHINESE_RATE = re.compile(rf"每((?:平方|立方)?(?:{_UNITS}))\s*(\d.*)")  # 每秒5米
_RAISED = {"平方": "^2", "立方": "^3", None: ""}


_TEXT = r"(?:\\(?:text|mathrm|mbox|textrm) ?)?"
_ORDINAL = re.compile(  # as plain text, or raised: 9th, 9^{\text{th}} grade
    r"(\d{1,9})(?!.*(?:power|root))"
    r"(?:\^ ?\{? ?(?:\\(?:text|mathrm|mbox|textrm) ?\{ ?)?(st|nd|rd|th) ?\}{0,2}"
    r"|\\textsuperscript\{(st|nd|rd|th)\}|(st|nd|rd|th)\b)"
    rf"(?: ?{_TEXT}\{{? ?[a-z]{{3,}}(?: [a-z]{{3,}})? ?\}}?)?\.?"
)
_SPACED = re.compile(
    r"([-+]?(?:\\?\$)?\s*)(\d{1,3}(?: \d{3})+)((?:\.\d+)?(?:\s*(?:[^\d\s/ ].*)?)?)", re.DOTALL
)
_GROUP = re.compile(rf"({NUMBER})\s*\{{\s*([a-zA-Z]+(?: [a-zA-Z]+)*)\s*\}}(\^\{{?\d\}}?)?")
_FRACTION = re.compile(r"(.*[\d})])\s*\\[dt]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}")
_PART = rf"({NUMBER})\s*([a-zA-Z]+)\.?"
_TWO_PARTS = re.compile(rf"{_PART}\s*(?:(?:,|and)\s*)?{_PART}")
_FEET = re.compile(rf"({NUMBER})\s*'\s*({NUMBER})\s*(?:''|\")")
_RAISED_WORD = r"[A-Za-z]+(?:\^(?:-?\d|\{-?\d\}))?"
_COUNTED = re.compile(rf"((?:\\?\$\s*)?{NUMBER}) ({_RAISED_WORD}(?: ?[ /] ?{_RAISED_WORD}){{0,5}})\.?")
# Words (no command), a letter in braces, a prime, or digits parted by a space: without these there is nothing
# to do.
_UNIT_LIKE = re.compile(
    r"(?<![\\a-zA-Z])[a-zA-Z]{2}|\d ?\{[a-zA-Z]|'|\d \d|\d\s*[a-zA-Z]\b|degree|frac *\{ *\\(?:text|math)"
)
_HAS_LETTER = re.compile(r"(?<![\\a-zA-Z])[a-zA-Z]")
_LONG_WORD = re.compile(r"[a-zA-Z]{4}")  # among short ones, which may be symbols: 6 red apples
_SYMBOLS = re.compile(r"\b(?!of\b)[a-zA-Z]{1,2}\b")
_TEXT_ONLY = ("d", "t")  # units where they are set as text, symbols otherwise
_LETTER = re.compile(r"(.*[\d})])\s*([mgshLNJWV])(\^\d|\^\{\d\})?", re.DOTALL)
_ANY_LETTER = re.compile(r"(.*(?:[\d})]|\\pi))\s*([mgshLlNJWVAKTCFtd]) ?(\^ ?\d|\^ ?\{ ?\d ?\})?", re.DOTALL)
_CLOSED_RATE = re.compile(rf"({NUMBER})(m/s(?:\^\{{?2\}}?)?)")
_METRES = re.compile(r"(?!.*frac)(.*(?:[\d})]|\\pi))\s*(m)(\^\d|\^\{\d\})?", re.DOTALL)
_PARTED = re.compile(  # 3 s, t = 3 s; 2s is a product
    rf"((?:[a-zA-Z](?:_\{{?\w+\}}?)? ?= ?)?{NUMBER})(?: |~|\\[,;: ])+([mgshLlNJWVAKTCFtd])"
)
_OHMS = re.compile(rf"({NUMBER})(?: |~|\\[,;: ])*([kM])?(?: ?\\(?:text|mathrm) ?\{{)? ?\\Omega\b ?\}}?")
_AREA_DIGIT = re.compile(  # 24 cm2, \text{ m3}
    r"(?<=[\d}) ])(\s*(?:\\(?:text|mathrm)\s*\{\s*)?(?:[mcdk]m|ft|in|yd|(?<=\s)m))([23])(\s*\})?$"
)
_BEARING = re.compile(r"(?<=\d) ?\^ ?\{? ?\\circ ?\}? ?(?:T|\\(?:text|mathrm) ?\{ ?T ?\})$")  # true north
_MEASURE_OF = re.compile(r"(?<![a-zA-Z\\])m\s*(?=\\(?:measured)?angle\b)")  # m\angle A is \angle A
_SIGN = re.compile(
    r"(?:(negative|minus)\s+(?=[\d.a-z\\(])|(?:positive|plus)\s+(?=\d)|\\text\s*\{\s*(?:(negative|minus)"
    r"|positive|plus)\s*\}\s*(?=\d))",
    re.IGNORECASE,
)
_PRICE = re.compile(rf"\\?\$ ?({NUMBER}) ?(?:per|/) ?([a-zA-Z]+)\.?")  # $50 per hour
_BRACKETED = re.compile(r"(.*[\d})])\s*\(\s*((?:square |cubic |sq\.? )?[a-zA-Z]+)\s*\)")
_GROUPED_TEXT = re.compile(r"\\(?:text|mathrm|mbox|textrm)\s*\{([^{}]*)\}")


@lru_cache(maxsize=20_000)
def spelled(text: str) -> str:
    r"""A normalised text with its marks of measure as the grammar reads them: Chinese units, ordinals (9th),
    spaces between thousands, negative 3, `60 \frac{km}{h}`, units in brackets, 1 hour 30 minutes.
    """
    if text.isdecimal():
        return text
    text = " ".join(text.split())  # no pattern below meets a run of spaces
    if not text.isascii():
        text = _CHINESE_RATE.sub(r"\2/\1", _GROUPED_TEXT.sub(r" \1 ", text).strip())
        if end := _CHINESE_END.search(text):
            text = text[: end.start()] + _chinese_unit(end)
    if "circ" in text and (north := _BEARING.search(text)):
        return text[: north.start()] + r"^{\circ}"
    if "elsius" in text or "ahrenheit" in text:
        flat = _GROUPED_TEXT.sub(r" \1 ", text).strip()
        text = _CELSIUS.sub(lambda m: rf"^{{\circ}}{m[1][0].upper()}", flat)
    if (end := text.rstrip("} "))[-1:] in ("2", "3") and end[-2:-1].isalpha():
        text = _AREA_DIGIT.sub(r"\1^\2\3", text)
    if "angle" in text:
        text = _MEASURE_OF.sub("", text)
    if not _UNIT_LIKE.search(text):
        return text
    if text[:1] in "mnpMNP\\" and (sign := _SIGN.match(text)):
        text = ("-" if sign[1] or sign[2] else "") + text[sign.end() :]
    if match := _SPACED.fullmatch(text):
        return match[1] + match[2].replace(" ", "") + match[3]
    if (match := _ORDINAL.fullmatch(text)) and _suffix(match[1]) in match.groups():
        return match[1]
    if match := _GROUP.fullmatch(text):
        return rf"{match[1]}\text{{ {match[2]}}}{match[3] or ''}"
    if "frac" in text and (match := _FRACTION.fullmatch(_GROUPED_TEXT.sub(r"\1", text))):
        over, under = match[2].strip(), match[3].strip()
        if unit_of(over, True) and unit_of(under, True):
            return rf"{match[1]}\text{{ {over}/{under}}}"
    flat = (_GROUPED_TEXT.sub(r" \1 ", text) if "\\" in text else text).strip()
    match = _BRACKETED.fullmatch(flat) if "(" in flat else None
    if match and unit_of(match[2].split()[-1], False) is not None:
        return rf"{match[1]}\text{{ {match[2]}}}"
    if "$" in flat and (match := _PRICE.fullmatch(flat)):
        return rf"{match[1]}\text{{ dollars per {match[2]}}}"
    return _in_one_unit(flat) or text.replace("sq.", "sq").replace("*\\degree", "\\degree")


def _chinese_unit(end: re.Match[str]) -> str:
    if not end[2]:
        return ""
    above = f"{_CHINESE[end[2]]}{end[3] or _RAISED[end[1]]}"
    return rf"\text{{ {above}{f'/{_CHINESE[end[5]]}{_RAISED[end[4]]}' if end[5] else ''}}}"


def _suffix(digits: str) -> str:
    """st, nd, rd or th."""
    return "th" if digits[-2:-1] == "1" else {"1": "st", "2": "nd", "3": "rd"}.get(digits[-1], "th")


def _in_one_unit(text: str) -> str | None:
    """`1 hour 30 minutes` as 90 minutes, `3'6''` as 42 inches; None for anything else."""
    if match := _TWO_PARTS.fullmatch(text):
        more, large, rest, small = match.groups()
    elif match := _FEET.fullmatch(text):
        more, large, rest, small = match[1], "feet", match[2], "inches"
    else:
        return None
    units = [unit_of(word, True) for word in (large, small)]
    factor = conversion(f"{units[0]}^1", f"{units[1]}^1") if all(units) else None
    if factor is None or factor <= 1 or rest.startswith("-"):
        return None
    return rf"({more.replace(',', '')}*{factor}+{rest.replace(',', '')})\text{{ {small}}}"


def counted(text: str) -> str | None:
    """`30 cups` and `75g`, as `spelled` gives them, as a number and what it counts; None for others."""
    if "Omega" in text:
        return _in_ohms(text)
    if not _HAS_LETTER.search(text):
        return None
    if match := _COUNTED.fullmatch(text):
        first = re.split(r"[^A-Za-z]", match[2], maxsplit=1)[0]
        if first in _TEXT_ONLY:
            return None
        worded = _LONG_WORD.search(match[2]) and not _SYMBOLS.search(match[2])
        known = first in IRREGULAR or first in ("sq", "cu") or unit_of(first, True) is not None
        if len(first) > 3 or worded or known:
            return rf"{match[1]}\text{{ {match[2]}}}"
    if "\\" not in text:
        if match := _CLOSED_RATE.fullmatch(text):
            return rf"{match[1]}\text{{ {match[2]}}}"
        return _with_letter(_LETTER.fullmatch(text))
    # \\frac12 m and 2\\pi h are products, 5\\sqrt{3} m is a length
    return lettered(text) if "sqrt" in text and "pi" not in text and " m" in text else None


def lettered(text: str) -> str | None:
    r"""A gold `80m`, `30\pi m^2`, `3 s`: golds of school geometry take a bare m for a unit, and a letter that
    a space parts from a plain number is one. None for others.
    """
    if match := _PARTED.fullmatch(text):
        return rf"{match[1]}\text{{ {match[2]}}}"
    return _with_letter(_METRES.fullmatch(text)) or _in_ohms(text)


def with_letter(text: str) -> str | None:
    """`\\frac{1}{4} m^2`, `3A` with the letter as a unit, for where one is looked for; None for others."""
    return _with_letter(_ANY_LETTER.fullmatch(text))


def _in_ohms(text: str) -> str | None:
    """`5 \\Omega` and `2 k\\Omega`, after a plain number."""
    match = _OHMS.fullmatch(text) if "Omega" in text else None
    return rf"{match[1]}\text{{ {match[2] or ''}ohm}}" if match else None


def _with_letter(match: re.Match[str] | None) -> str | None:
    if not match or any(c.isalpha() for c in re.sub(r"\\[a-zA-Z]+", "", match[1])):
        return None
    return rf"{match[1]}\text{{ {match[2]}}}{match[3] or ''}"


# --- ranges and times of day ---------------------------------------------------------------------------
# An end: a plain number with its sign of money before it, or a percent sign, a degree sign or words after it.
_END = rf"(?:\\?\$ ?)?{NUMBER}(?: ?\\?%| ?\^ ?\{{? ?\\circ ?\}}?| ?([a-zA-Z]{{2,}})(?:\^\{{?\d\}}?)?)?"
_RANGE = re.compile(
    rf"(?:from )?({_END}) ?(?:-{{1,3}}|(?<= )to(?= )) ?({_END})|between ({_END}) and ({_END})"
)
_TIME = re.compile(
    r"(\d{1,2})(?::([0-5]\d))?(?::00)? ?(?:([ap]) ?\.? ?m\b\.?|(o'?clock))?"
    r"(?: in the (morning|afternoon|evening))?"
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
    ranges = [text for text in (gold, answer) if ends(text)] if ends(gold) else []
    return any("to" not in text and "between" not in text for text in ranges)


_CELSIUS = re.compile(r"(?:\^ ?\{? ?\\circ ?\}?|\\degree|\bdegrees?) ?(celsius|fahrenheit)\b", re.IGNORECASE)
_COMPASS = re.compile(
    rf"([NS]|north|south|[EW]|east|west) ?({NUMBER}) ?(?:\^ ?\{{? ?\\circ ?\}}?|\\degree|degrees?)?"
    r" ?([EW]|east|west|[NS]|north|south)\.?",
    re.IGNORECASE,
)
_FROM = re.compile(
    rf"({NUMBER}) ?(?:\^ ?\{{? ?\\circ ?\}}?|\\degree|degrees?) ?(north|south|east|west) of (?:due )?"
    r"(north|south|east|west)\.?",
    re.IGNORECASE,
)


@lru_cache(maxsize=20_000)
def compass(text: str) -> tuple[str, str, Decimal] | None:
    """(from, towards, degrees) of `N 37° E`, `37° east of north`; None for anything else."""
    if "E" not in text and "W" not in text and "st" not in text:  # every one turns to the east or west
        return None
    flat = _flat(text)
    if match := _FROM.fullmatch(flat):
        degrees, towards, start = match.groups()
    elif match := _COMPASS.fullmatch(flat):
        start, degrees, towards = match.groups()
    else:
        return None
    start, towards = start[0].upper(), towards[0].upper()
    turned = (start in "NS") != (towards in "NS")
    return (start, towards, Decimal(degrees.replace(",", ""))) if turned else None


class Time(NamedTuple):
    """half: "a", "p", or "" where it is not said. of_day: an hour past 12 says it."""

    hour: int
    minute: int
    half: str
    spelled: bool
    of_day: bool = False


@lru_cache(maxsize=20_000)
def time_of_day(text: str) -> Time | None:
    """`3`, `3:00 pm`, `20:15`, `8 o'clock`; None for others. spelled: it says more than a plain number."""
    match = _TIME.fullmatch(_flat(text).lower()) if text[:1].isdigit() or text[:1] == "\\" else None
    if not match or int(match[1]) > 24:
        return None
    hour, minute = int(match[1]), int(match[2] or 0)
    half = {"morning": "a", "afternoon": "p", "evening": "p"}.get(match[5] or "", match[3] or "")
    if of_day := hour > 12 or hour == 0:
        half, hour = ("p" if 12 < hour < 24 else "a"), hour % 12 or 12
    return Time(hour, minute, half, bool(match[2] or match[3] or match[4] or match[5]), of_day)


def same_time(gold: str, answer: str) -> bool:
    """Whether two texts name the same time of day, at least one of them as such. am or pm may stand in the
    answer alone, but not in the gold alone.
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
