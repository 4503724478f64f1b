"""A number, a measure, a point, an inequality or a list, spelled in the other ways in which models write it.

Every spelling means the same beyond doubt (natural_forms.py); where it could be read otherwise there is none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple


class Form(NamedTuple):
    """name: how the text differs from the gold, in a few words."""

    name: str
    text: str


# --- labels ---------------------------------------------------------------------------------------------
_TEXT_GROUP = re.compile(r"\\(?:text|mathrm|textrm|textbf|mathbf|rm|mbox)\s*\{[\s~]*([^{}]*)\}")
_NAME = re.compile(  # x, AB, x_1, f(3), \angle ABC, m \angle 1, Surface area
    r"(?:\\(?:angle|triangle|theta|alpha|beta|gamma|phi|mu|sigma|lambda)\b|[A-Za-z][A-Za-z ]*)"
    r"[A-Za-z \d'’]*(?:_\{?[\w\\ ]+\}?)?(?:\\angle ?\w+)?(?:\([\w, .]+\))?"
)
_COMMANDS = re.compile(
    r"\\(?:[dt]?frac|sqrt|pi|cdot|times|left|right|circ|degree|infty|div)(?![A-Za-z])|\\[,;:!% ]|\\$"
)


def labelled(text: str) -> tuple[str, str]:
    """`Area = 9.4` as (Area, 9.4), `Domain: x > 3` as (Domain, x > 3); ("", text) without a label."""
    plain = _TEXT_GROUP.sub(r"\1", text)
    for sign in ("=", "≈", "\\approx", ":", "："):
        left, found, right = plain.partition(sign)
        name, value = left.strip(), text.partition(sign)[2].strip()
        if not found or not right.strip() or not _NAME.fullmatch(name):
            continue
        words = sign in (":", "：") and len(name) > 1 and name.replace(" ", "").isalpha()
        if words or (sign not in (":", "：") and (is_value(value) or _POINT.fullmatch(value))):
            return name, value
    return "", text


def is_value(text: str) -> bool:
    """Whether a text is a number: digits, roots, fractions, pi, a unit; nothing that has a name."""
    value = _measured(text)
    left = _COMMANDS.sub("", flat(text) if value is None else value[0])
    return _DIGITS.fullmatch(left) is not None and _NUMERIC.search(text) is not None


_NUMERIC = re.compile(r"\d|\\pi|π")
_DIGITS = re.compile(r"(?!.*[\d.]\s+-?\d)[\d\s.,{}()^+\-*/π°%√]+", re.DOTALL)  # 4 3 -1 are several


def inside(text: str) -> str:
    """Without one pair of dollars around everything."""
    text = text.strip()
    for mark in ("$$", "$"):
        inner = text[len(mark) : -len(mark)]
        if text.startswith(mark) and text.endswith(mark) and inner and not re.search(r"\$|\\$", inner):
            return inner.strip()
    return text


# --- numbers ----------------------------------------------------------------------------------------------
_PLAIN = re.compile(r"-?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|-?\.\d+")
_WHOLE_FRACTION = re.compile(r"(-?)\\[dt]?frac\s*\{\s*(\d+)\s*\}\s*\{\s*(\d+)\s*\}")
_RATIO = re.compile(r"(\d+)\s*:\s*(\d+)")
_SLASH = re.compile(r"(-?)(\d+)\s*/\s*(\d+)")
_ROOT = re.compile(r"(-?\d*)\s*\\sqrt\s*\{?\s*(\d+)\s*\}?")


def of_number(text: str) -> Iterator[Form]:
    """A number without a unit, spelled otherwise."""
    if _PLAIN.fullmatch(text):
        whole, dot, decimals = text.replace(",", "").partition(".")
        yield Form("without thousands separators", whole + dot + decimals)
        if len(whole.lstrip("-")) > 3:
            yield Form("with thousands separators", f"{int(whole):,}{dot}{decimals}")
            yield Form(
                "with LaTeX's thousands separators", f"{int(whole):,}{dot}{decimals}".replace(",", "{,}")
            )
        yield Form("as text", f"\\text{{{text}}}")
        if decimals:
            yield Form("with a zero at the end", f"{text}0")
            yield Form("with an approximately sign", f"\\approx {text}")
        return
    if found := _RATIO.fullmatch(text):
        yield Form("ratio with spaces", f"{found[1]} : {found[2]}")
        yield Form("ratio without spaces", f"{found[1]}:{found[2]}")
        yield Form("ratio with a Chinese colon", f"{found[1]}：{found[2]}")
    if not is_value(text) or "," in text or _measured(text):
        return
    if "\\" in text:
        yield Form("without spaces", re.sub(r"(\\[A-Za-z]+ (?=[A-Za-z]))|\s+", lambda m: m[1] or "", text))
        yield Form("with dfrac", text.replace("\\frac", "\\dfrac"))
        yield Form("with π", re.sub(r"\s*\\pi(?![A-Za-z])", "π", text))
    if found := _WHOLE_FRACTION.fullmatch(text):
        yield Form("with a slash", f"{found[1]}{found[2]}/{found[3]}")
    if found := _SLASH.fullmatch(text):
        yield Form("as a LaTeX fraction", f"{found[1]}\\frac{{{found[2]}}}{{{found[3]}}}")
    if found := _ROOT.fullmatch(text):
        yield Form("with √", f"{found[1]}√{found[2]}")


# --- units ------------------------------------------------------------------------------------------------
_LENGTHS = {
    "mm": "millimeters", "cm": "centimeters", "dm": "decimeters", "m": "meters", "km": "kilometers",
    "in": "inches", "ft": "feet", "yd": "yards", "mi": "miles",
}  # fmt: skip
_LONG = {
    **_LENGTHS,
    **{f"{short}^2": f"square {long}" for short, long in _LENGTHS.items()},
    **{f"{short}^3": f"cubic {long}" for short, long in _LENGTHS.items()},
    "mg": "milligrams", "g": "grams", "kg": "kilograms", "lb": "pounds", "oz": "ounces", "s": "seconds",
    "min": "minutes", "h": "hours", "mL": "milliliters", "L": "liters", "m/s": "meters per second",
    "m/s^2": "meters per second squared", "km/h": "kilometers per hour", "mph": "miles per hour",
    "N": "newtons",
    "J": "joules", "W": "watts", "V": "volts", "Hz": "hertz", "Pa": "pascals", "K": "kelvin",
    "°C": "degrees Celsius", "°F": "degrees Fahrenheit", "°": "degrees", "%": "percent",
}  # fmt: skip
_NO_LONG = ("°T", "kPa", "kJ", "kW", "kN", "g/cm^3", "kg/m^3", "days", "weeks", "years", "months", "dollars",
            "cents", "units", "square units", "cubic units", "people", "students", "ways")  # fmt: skip
_OTHER_NAMES = {
    "ml": "mL", "l": "L", "lbs": "lb", "hr": "h", "hrs": "h", "sec": "s", "secs": "s", "mins": "min",
    "kph": "km/h",
    "deg": "°", "sq cm": "cm^2", "sq m": "m^2", "sq ft": "ft^2", "sq in": "in^2", "foot": "ft", "inch": "in",
}  # fmt: skip


def _british(name: str) -> str:
    return re.sub(r"(meter|liter)", lambda m: m[0][:-2] + "re", name)


def _singular(name: str) -> str:
    words = name.split(" per ")
    return " per ".join(
        [words[0].replace("feet", "foot").replace("inches", "inch").removesuffix("s"), *words[1:]]
    )


_UNITS: dict[str, str] = {}  # every name of a unit, with its short one
for _short, _name in _LONG.items():
    _UNITS |= {form: _short for form in (_short, _name, _british(_name), _singular(_name))}
    _UNITS[_british(_singular(_name))] = _short
_UNITS |= {name: name for name in _NO_LONG} | _OTHER_NAMES
_UNIT = re.compile(
    r"(.*[\d)}π])(\s*)(" + "|".join(map(re.escape, sorted(_UNITS, key=len, reverse=True))) + r")", re.DOTALL
)
_AFTER_A_SPACE = 3  # a unit of fewer letters may be a product of symbols where it is closed up (5m)
_MONEY = re.compile(r"(?:\\?\$|\\textdollar)\s*(\d[\d,]*(?:\.\d+)?)")
_COUNTED = re.compile(r"(\d+) ([a-z]{3,}s)")
_SIZES = frozenset(
    "times hundreds thousands millions billions dozens pairs halves thirds tenths hundredths".split()
)
_RAISED = {"²": "^2", "³": "^3"}


def flat(text: str) -> str:
    """Units as plain text: no groups, one space at most, powers and signs in one spelling."""
    text = _TEXT_GROUP.sub(r" \1 ", text).replace("~", " ").replace("\\%", "%")
    text = re.sub(r"\s*\^\s*\{?\s*\\circ\s*\}?|\\degree(?![a-z])|º", "°", text)
    for sign, power in _RAISED.items():
        text = text.replace(sign, power)
    text = re.sub(r"\s*\^\s*\{\s*([23])\s*\}|\s+\^\s*([23])\b", lambda m: f"^{m[1] or m[2]}", text)
    text = re.sub(r"°\s+(?=[CFT]\b)", "°", text)
    return " ".join(re.sub(r"\\[,;:! ]", " ", text).split())


def _measured(text: str) -> tuple[str, str, str] | None:
    """(value, unit as it is written, its short name) of `4.4 m`; None where the text has no unit."""
    found = _UNIT.fullmatch(flat(text).removesuffix("."))
    if found is None:
        return None
    value, space, unit = found[1].strip(), found[2], found[3]
    grouped = _TEXT_GROUP.search(text) is not None
    if unit.isalpha() and len(unit) < _AFTER_A_SPACE and not space and not grouped:
        return None
    return (value, unit, _UNITS[unit]) if _NUMERIC.search(value) else None


def of_measure(text: str) -> Iterator[Form]:
    if money := _MONEY.fullmatch(text):
        yield Form("unit left out", money[1])
        yield Form("long unit", f"{money[1]} dollars")
        return
    if (counted := _COUNTED.fullmatch(text)) and counted[2] not in _SIZES | {*_UNITS}:
        yield Form("what is counted left out", counted[1])
        yield Form("what is counted as text", f"{counted[1]} \\text{{ {counted[2]}}}")
    if (found := _measured(text)) is None or not is_value(text):
        return
    value, unit, short = found
    long = _LONG.get(short, "")
    yield Form("unit left out", value)
    if short == "°":
        yield Form("degree sign", f"{value}°")
        yield Form("degrees in LaTeX", f"{value}^\\circ")
    elif short == "%":
        yield Form("percent sign", f"{value}%")
        yield Form("percent sign in LaTeX", f"{value}\\%")
    elif short[0] == "°":
        yield Form("unit in LaTeX", f"{value}^\\circ\\text{{{short[1]}}}")
    else:
        base, raised, power = short.partition("^")
        yield Form("unit as text", f"{value} \\text{{ {base}}}" + (f"^{power}" if raised else ""))
        yield Form("short unit", f"{value} {short}")
        yield Form("unit as it is written in a text group", f"{value}\\text{{ {unit}}}")
        if raised:
            yield Form("power as one sign", f"{value} {base}{'²' if power == '2' else '³'}")
    if long:
        yield Form("long unit", f"{value} {_singular(long) if value == '1' else long}")
        yield Form("British unit", f"{value} {_british(_singular(long) if value == '1' else long)}")


_HALVES = re.compile(r"(\d*)\s*([½¼¾])")
_PARTS = {"½": ("1/2", ".5"), "¼": ("1/4", ".25"), "¾": ("3/4", ".75")}
_LARGE = re.compile(r"(\d+)(?:\.(\d{1,3}))? (thousand|million|billion)")
_ZEROS = {"thousand": 3, "million": 6, "billion": 9}


def of_amount(text: str) -> Iterator[Form]:
    """Of a gold of type text that is an amount: `-5 °C`, `2½`, `1.5 million`."""
    if _measured(text) or _MONEY.fullmatch(text):
        yield from of_measure(text)
    if found := _HALVES.fullmatch(text):
        part, decimals = _PARTS[found[2]]
        yield Form("with a slash", f"{found[1]} {part}".strip())
        yield Form("as a decimal", (found[1] or "0") + decimals)
    if found := _LARGE.fullmatch(text):
        zeros = _ZEROS[found[3]]
        yield Form("in digits", f"{int(found[1] + (found[2] or '').ljust(zeros, '0')):,}")


# --- points, inequalities, lists --------------------------------------------------------------------------
_SIGNED = r"-?\s*(?:\d+(?:\.\d+)?|\\[dt]?frac\s*\{\s*\d+\s*\}\s*\{\s*\d+\s*\}|\d+\s*/\s*\d+)"
_POINT = re.compile(
    rf"([A-Z]?'?)\s*(?:=\s*)?(?:\\left)?\s*\(\s*({_SIGNED})\s*[,，]\s*({_SIGNED})\s*(?:\\right)?\)"
)
_NAMED_POINTS = re.compile(rf"{_POINT.pattern}(?:\s*(?:,|;|and)\s*{_POINT.pattern})+")


_NAMED_VALUES = re.compile(rf"x\s*=\s*({_SIGNED})\s*(?:,|and)\s*y\s*=\s*({_SIGNED})")


def of_point(text: str) -> Iterator[Form]:
    if pair := _NAMED_VALUES.fullmatch(text):
        yield Form("as a point", f"({pair[1].strip()}, {pair[2].strip()})")
        return
    if _NAMED_POINTS.fullmatch(text) and all(match[1] for match in _POINT.finditer(text)):
        yield Form("points without names", re.sub(r"[A-Z]'?\s*=?\s*(?=\(|\\left)", "", text))
        return
    found = _POINT.fullmatch(text)
    if found is None:
        return
    name, x, y = found[1], found[2].strip(), found[3].strip()
    if name:
        yield Form("point without its name", f"({x}, {y})")
        yield Form("name and an equals sign", f"{name} = ({x}, {y})")
        yield Form("name closed up", f"{name}({x}, {y})")
    yield Form("with a space", f"({x}, {y})")
    yield Form("without a space", f"({x},{y})")
    yield Form("brackets in LaTeX", f"\\left({x}, {y}\\right)")
    yield Form("in Chinese marks", f"（{x}，{y}）")
    if name or not _can_be_interval(x, y):
        yield Form("as x and y", f"x = {x}, y = {y}")


def _can_be_interval(x: str, y: str) -> bool:
    try:
        return float(x) < float(y)
    except ValueError:
        return True


_SIDES = re.compile(r"\s*(\\(?:le|ge|leq|geq|leqslant|geqslant|lt|gt)(?![a-z])|<=|>=|[<>≤≥])\s*")
_AS = {
    "<": "<", "\\lt": "<", ">": ">", "\\gt": ">", "<=": "\\le", "≤": "\\le", "\\le": "\\le", "\\leq": "\\le",
    "\\leqslant": "\\le", ">=": "\\ge", "≥": "\\ge", "\\ge": "\\ge", "\\geq": "\\ge", "\\geqslant": "\\ge",
}  # fmt: skip
_SWAPPED = {"<": ">", ">": "<", "\\le": "\\ge", "\\ge": "\\le"}
_TYPED = {"<": "<", ">": ">", "\\le": "≤", "\\ge": "≥"}


def of_inequality(text: str) -> Iterator[Form]:
    parts = _SIDES.split(text)
    sides, signs = parts[::2], [_AS[sign] for sign in parts[1::2]]
    if not 2 <= len(sides) <= 3 or not all(side.strip() for side in sides) or re.search(r",|or|and", text):
        return
    yield Form("sides swapped", _joined(sides[::-1], [_SWAPPED[sign] for sign in signs[::-1]]))
    yield Form("signs as typed", _joined(sides, [_TYPED[sign] for sign in signs]))


def _joined(sides: list[str], signs: list[str]) -> str:
    pairs = [f" {sign} {side.strip()}" for sign, side in zip(signs, sides[1:])]
    return sides[0].strip() + "".join(pairs)


_NUMBERS = re.compile(r"-?\d+(?:\.\d+)?(?:\s*,\s*-?\d+(?:\.\d+)?)+")
_THOUSANDS = re.compile(r"-?\d{1,3}(?:,\d{3})+(?:\.\d+)?")


def of_box(text: str) -> Iterator[Form]:
    numbers = re.findall(r"-?\d+(?:\.\d+)?", text)
    if len(numbers) == 4:
        yield Form("without spaces", f"[{','.join(numbers)}]")
        yield Form("with spaces", f"[{', '.join(numbers)}]")
        yield Form("without brackets", ", ".join(numbers))
        yield Form("in round brackets", f"({', '.join(numbers)})")
        yield Form("as two corners", "({}, {}), ({}, {})".format(*numbers))
        yield Form("with names", "x1={}, y1={}, x2={}, y2={}".format(*numbers))


def of_list(text: str) -> Iterator[Form]:
    """`2, 3`, and `[10, 20, 30, 40]`, which may be the box of a thing in a picture."""
    inner = text[1:-1].strip() if text[:1] == "[" and text[-1:] == "]" else text
    if not _NUMBERS.fullmatch(inner) or _THOUSANDS.fullmatch(inner):
        return
    numbers = [number.strip() for number in inner.split(",")]
    if inner == text:
        yield Form("with and", f"{', '.join(numbers[:-1])} and {numbers[-1]}")
        yield Form("with Chinese commas", "，".join(numbers))
    else:
        yield Form("without spaces", f"[{','.join(numbers)}]")
        if len(numbers) > 2:  # two are an interval
            yield Form("without brackets", ", ".join(numbers))
            yield Form("in round brackets", f"({', '.join(numbers)})")
    if inner == text:
        yield Form("with spaces", ", ".join(numbers))
