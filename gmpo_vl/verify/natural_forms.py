r"""How models really answer: the ways in which one right answer is written, and answers that are wrong.

A gold is reachable where a reward takes it in all of these forms, not in its own spelling alone. Every form
is a right answer for its gold beyond doubt; where a form could be read otherwise, it is left out. The forms
are texts for the place of the answer, `\boxed{}` or `<answer>`. They are written by rules of their own: a
verifier that is tested with its own rules would find nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from gmpo_vl.data.answers import LETTERS
from gmpo_vl.verify.gold import Gold

MOST_ALTERNATIVES = 4  # of a gold, that forms are written of


class Form(NamedTuple):
    """name: how the text differs from the gold, in a few words."""

    name: str
    text: str


def natural_forms(gold: Gold) -> list[Form]:
    """Right answers for a gold, each text once, the gold's own spelling first.

    None for CountDown, whose gold is a target and no answer. A gold of the type "box", which only this
    function knows, is the box [x1, y1, x2, y2] of a thing in a picture.
    """
    if gold.type == "countdown":
        return []
    if gold.choices:
        forms: Iterable[Form] = _of_choices(gold)
    else:
        texts = gold.alternatives[:MOST_ALTERNATIVES]
        forms = (form for text in texts for form in _of_text(text, gold.type))
    return _distinct(forms)


def wrong_forms(gold: Gold) -> list[Form]:
    """Wrong answers for a gold with choices: letter, letter with text and text of every other option."""
    right = _right_options(gold) if gold.type != "countdown" else []
    if not right:
        return []
    letters = {LETTERS[i] for i in right}
    said = {_key(gold.choices[i]) for i in right} | {_key(letter) for letter in letters}
    forms = []
    for letter, text in zip(LETTERS, gold.choices):
        if letter in letters:
            continue
        forms.append(Form(f"option {letter}", letter))
        if _key(text) not in said and not _MARK.fullmatch(text.strip()):
            forms += [
                Form(f"option {letter} with its text", f"{letter}. {text}"),
                Form(f"text of option {letter}", text),
            ]
    return _distinct(forms)


def unreached(gold: Gold, judge: Callable[[str], bool]) -> list[Form]:
    """The forms of a gold that a judge of texts calls wrong; none for a gold that everybody can reach."""
    return [form for form in natural_forms(gold) if not judge(form.text)]


def _distinct(forms: Iterable[Form]) -> list[Form]:
    by_text: dict[str, Form] = {}
    for form in forms:
        if form.text.strip():
            by_text.setdefault(form.text, form)
    return list(by_text.values())


# --- options ------------------------------------------------------------------------------------------
_MARK = re.compile(r"<image ?\d*>")  # an option that is a picture
_LETTER = re.compile(r"\(?([A-Z])[).]?")
_SEVERAL = re.compile(r"\(?[A-J]\)?(?:(?:\s*[,;&]\s*|\s+and\s+|)\(?[A-J]\)?)+")


def _of_choices(gold: Gold) -> Iterator[Form]:
    right = _right_options(gold)
    if len(right) > 1 and _named_together(gold):
        yield from _of_letters("".join(LETTERS[i] for i in right))
        return
    for i in right:
        letter, text = LETTERS[i], gold.choices[i].strip()
        yield from _of_letter(letter)
        if _MARK.fullmatch(text):
            continue
        yield Form("letter with text", f"{letter}. {text}")
        yield Form("letter in brackets with text", f"({letter}) {text}")
        yield Form("letter in bold LaTeX with text", f"\\textbf{{({letter}) }}{text}")
        others = {_key(form.text) for j, t in enumerate(gold.choices) if j != i for form in _of_option(t)}
        if _key(letter) not in others:
            yield Form("small letter", letter.lower())
        others |= {_key(other) for other in LETTERS[: len(gold.choices)]}
        yield from (form for form in _of_option(text) if _key(form.text) not in others)
    if not right:  # the gold is none of its options
        for text in gold.alternatives[:MOST_ALTERNATIVES]:
            yield from _of_text(text, gold.type)


def _right_options(gold: Gold) -> list[int]:
    """Places of the right options: by letter, else by text."""
    number = min(len(gold.choices), len(LETTERS))
    letters = [match[1] for text in gold.alternatives if (match := _LETTER.fullmatch(text.strip()))]
    if _named_together(gold):
        letters = re.findall("[A-J]", gold.alternatives[0])
    places = sorted({LETTERS.index(letter) for letter in letters})
    named = [i for i in places if i < number]
    return named or [i for i in range(number) if gold.choices[i].strip() in gold.alternatives]


def _named_together(gold: Gold) -> bool:
    """Whether the gold is several letters that are right together (A, C)."""
    return len(gold.alternatives) == 1 and _SEVERAL.fullmatch(gold.alternatives[0].strip()) is not None


def _of_letter(letter: str) -> Iterator[Form]:
    yield Form("letter", letter)
    yield Form("letter in brackets", f"({letter})")
    yield Form("letter and a full stop", f"{letter}.")
    yield Form("letter as text", f"\\text{{{letter}}}")
    yield Form("letter in brackets as text", f"\\text{{({letter})}}")
    yield Form("letter in bold", f"**{letter}**")
    yield Form("letter with a word", f"Option {letter}")
    yield Form("letter on a line of its own", f"\n{letter}\n")
    yield Form("letter in Chinese brackets", f"（{letter}）")
    yield Form("letter after 选", f"选{letter}")


def _of_letters(letters: str) -> Iterator[Form]:
    yield Form("letters", ", ".join(letters))
    yield Form("letters closed up", letters)
    yield Form("letters with and", " and ".join((", ".join(letters[:-1]), letters[-1])))
    yield Form("letters in brackets", ", ".join(f"({letter})" for letter in letters))
    yield Form("letters with Chinese marks", "，".join(letters))


def _of_option(text: str) -> Iterator[Form]:
    """An option's text alone."""
    text = _inside(text.strip())
    yield Form("text alone", text)
    yield Form("text in dollars", f"${text}$") if _is_value(text) else Form("text alone", text)
    yield from _of_measure(text)
    yield from _of_case(text)
    yield Form("text without its full stop", text.removesuffix("."))


def _key(text: str) -> str:
    """What must differ in two texts that mean different things."""
    flat = _flat(_inside(text.strip())).casefold()
    return re.sub(r"[\s()（）.。$*,]", "", flat)


# --- texts without options ------------------------------------------------------------------------------
_WORDS = re.compile(r"(?=.*[A-Za-z]{3}|No\b)[A-Za-z][A-Za-z ,.'-]*", re.DOTALL)
# Words whose case says nothing: none that could be symbols (abc) or names of points (A D and B E).
_CASED = re.compile(r"A (?=[a-z]{3})|[A-Za-z][a-z]{3}|[A-Z][a-z]{1,2}\b|[a-z][aeiou][a-z]\b")
_CHINESE = re.compile(r"[\u4e00-\u9fff]")


def _of_text(text: str, kind: str | None) -> Iterator[Form]:
    yield Form("as the gold is written", text)
    inner = _inside(text)
    if kind == "box":  # of a thing in a picture
        yield from _of_box(inner)
        return
    if kind in (None, "choice") and (letter := _LETTER.fullmatch(inner)) and (kind or letter[1] < "I"):
        yield from _of_letter(letter[1]) if kind else list(_of_letter(letter[1]))[:5]
        return
    if kind in (None, "choice") and _SEVERAL.fullmatch(inner) and (kind or not inner.isalpha()):
        # AC may be a side of a figure where the gold is not called a choice.
        letters = "".join(re.findall("[A-J]", inner))
        yield from (form for form in _of_letters(letters) if kind or form.text != letters)
        return
    if kind == "text" or _WORDS.fullmatch(inner) or _CHINESE.search(inner):
        yield from _of_words(inner)
        return
    label, value = _labelled(inner)
    if label:
        yield Form("label left out", value)
        if _WORDS.fullmatch(label) and inner.startswith(label):
            yield Form("label as text", f"\\text{{{label}}}{inner.removeprefix(label)}")
        if ":" in inner:
            yield Form("label and a Chinese colon", f"{label}：{value}")
    elif _is_value(inner) and not re.search(r"[,(]", inner.partition("\\")[0]):
        yield Form("a name in front", f"x = {inner}")
        yield Form("equals sign in front", f"= {inner}")
    yield from _of_measure(value)
    yield from _of_number(value)
    yield from _of_point(inner)
    yield from _of_inequality(value)
    yield from _of_list(value)
    yield from _with_marks(inner)


def _with_marks(text: str) -> Iterator[Form]:
    if "$" not in text and not re.search(r"(?<![\\A-Za-z])[A-Za-z]{3}", text):
        yield Form("in dollars", f"${text}$")
    yield Form("in bold", f"**{text}**")
    yield Form("on a line of its own", f"\n{text}\n")
    if text[-1:] not in (".", "。"):
        yield Form("with a full stop", f"{text}.")
        yield Form("with a Chinese full stop", f"{text}。")


def _of_words(text: str) -> Iterator[Form]:
    yield from _of_case(text)
    yield Form("as text", f"\\text{{{text}}}")
    yield Form("in bold", f"**{text}**")
    yield Form("in quotes", f'"{text}"')
    if text[-1:] in (".", "。"):
        yield Form("without its full stop", text[:-1])
    else:
        yield Form("with a full stop", f"{text}.")
        yield Form("with a Chinese full stop", f"{text}。")


def _of_case(text: str) -> Iterator[Form]:
    if _WORDS.fullmatch(text) and _CASED.match(text):
        first = text[0].lower() if text[0].isupper() else text[0].upper()
        yield Form("first letter in the other case", first + text[1:])
        if text[1:].islower():
            yield Form("in capitals", text.upper())


# --- labels ---------------------------------------------------------------------------------------------
_TEXT_GROUP = re.compile(r"\\(?:text|mathrm|textrm|textbf|mathbf|rm|mbox)\s*\{[\s~]*([^{}]*)\}")
_NAME = re.compile(  # x, AB, x_1, f(3), \angle ABC, m \angle 1, Surface area
    r"(?:\\(?:angle|triangle|theta|alpha|beta|gamma|phi|mu|sigma|lambda)\b|[A-Za-z][A-Za-z ]*)"
    r"[A-Za-z \d'’]*(?:_\{?[\w\\ ]+\}?)?(?:\\angle ?\w+)?(?:\([\w, .]+\))?"
)
_COMMANDS = re.compile(
    r"\\(?:[dt]?frac|sqrt|pi|cdot|times|left|right|circ|degree|infty|div)(?![A-Za-z])|\\[,;:!% ]|\\$"
)


def _labelled(text: str) -> tuple[str, str]:
    """`Area = 9.4` as (Area, 9.4), `Domain: x > 3` as (Domain, x > 3); ("", text) without a label."""
    flat = _TEXT_GROUP.sub(r"\1", text)
    for sign in ("=", "≈", "\\approx", ":", "："):
        left, found, right = flat.partition(sign)
        name, value = left.strip(), text.partition(sign)[2].strip()
        if not found or not right.strip() or not _NAME.fullmatch(name):
            continue
        words = sign in (":", "：") and len(name) > 1 and name.replace(" ", "").isalpha()
        if words or (sign not in (":", "：") and (_is_value(value) or _POINT.fullmatch(value))):
            return name, value
    return "", text


def _is_value(text: str) -> bool:
    """Whether a text is a number: digits, roots, fractions, pi, a unit; nothing that has a name."""
    value = _measured(text)
    left = _COMMANDS.sub("", _flat(text) if value is None else value[0])
    return re.fullmatch(r"[\d\s.,{}()^+\-*/π°%√]+", left) is not None and _NUMERIC.search(text) is not None


_NUMERIC = re.compile(r"\d|\\pi|π")


def _inside(text: str) -> str:
    """Without one pair of dollars around everything."""
    text = text.strip()
    for mark in ("$$", "$"):
        inner = text[len(mark) : -len(mark)]
        if text.startswith(mark) and text.endswith(mark) and inner and "$" not in inner:
            return inner.strip()
    return text


# --- numbers ----------------------------------------------------------------------------------------------
_PLAIN = re.compile(r"-?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|-?\.\d+")
_WHOLE_FRACTION = re.compile(r"(-?)\\[dt]?frac\s*\{\s*(\d+)\s*\}\s*\{\s*(\d+)\s*\}")
_RATIO = re.compile(r"(\d+)\s*:\s*(\d+)")
_SLASH = re.compile(r"(-?)(\d+)\s*/\s*(\d+)")
_ROOT = re.compile(r"(-?\d*)\s*\\sqrt\s*\{?\s*(\d+)\s*\}?")


def _of_number(text: str) -> Iterator[Form]:
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
    if not _is_value(text) or "," in text or _measured(text):
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


def _flat(text: str) -> str:
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
    found = _UNIT.fullmatch(_flat(text).removesuffix("."))
    if found is None:
        return None
    value, space, unit = found[1].strip(), found[2], found[3]
    grouped = _TEXT_GROUP.search(text) is not None
    if unit.isalpha() and len(unit) < _AFTER_A_SPACE and not space and not grouped:
        return None
    return (value, unit, _UNITS[unit]) if _NUMERIC.search(value) else None


def _of_measure(text: str) -> Iterator[Form]:
    if money := _MONEY.fullmatch(text):
        yield Form("unit left out", money[1])
        yield Form("long unit", f"{money[1]} dollars")
        return
    if (counted := _COUNTED.fullmatch(text)) and counted[2] not in _SIZES | {*_UNITS}:
        yield Form("what is counted left out", counted[1])
        yield Form("what is counted as text", f"{counted[1]} \\text{{ {counted[2]}}}")
    if (found := _measured(text)) is None or not _is_value(text):
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


# --- points, inequalities, lists --------------------------------------------------------------------------
_SIGNED = r"-?\s*(?:\d+(?:\.\d+)?|\\[dt]?frac\s*\{\s*\d+\s*\}\s*\{\s*\d+\s*\}|\d+\s*/\s*\d+)"
_POINT = re.compile(
    rf"([A-Z]?'?)\s*(?:=\s*)?(?:\\left)?\s*\(\s*({_SIGNED})\s*[,，]\s*({_SIGNED})\s*(?:\\right)?\)"
)
_NAMED_POINTS = re.compile(rf"{_POINT.pattern}(?:\s*(?:,|;|and)\s*{_POINT.pattern})+")


_NAMED_VALUES = re.compile(rf"x\s*=\s*({_SIGNED})\s*(?:,|and)\s*y\s*=\s*({_SIGNED})")


def _of_point(text: str) -> Iterator[Form]:
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


def _of_inequality(text: str) -> Iterator[Form]:
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
_THOUSANDS = re.compile(r"\d{1,3}(?:,\d{3})+")


def _of_box(text: str) -> Iterator[Form]:
    numbers = re.findall(r"-?\d+(?:\.\d+)?", text)
    if len(numbers) == 4:
        yield Form("without spaces", f"[{','.join(numbers)}]")
        yield Form("with spaces", f"[{', '.join(numbers)}]")
        yield Form("without brackets", ", ".join(numbers))
        yield Form("in round brackets", f"({', '.join(numbers)})")
        yield Form("as two corners", "({}, {}), ({}, {})".format(*numbers))
        yield Form("with names", "x1={}, y1={}, x2={}, y2={}".format(*numbers))


def _of_list(text: str) -> Iterator[Form]:
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
