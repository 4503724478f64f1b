r"""Units: their words, how they convert, and whether letters after a number are a unit (`7 cm`) or symbols
(`\pi hr^2`).

Only whole words are units. A single letter is one only where the writer set it as text (`\text{ m}`).
"""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache

from gmpo_vl.verify.tokens import Token, letters
from gmpo_vl.verify.tree import Node, is_name

# Units by kind: a unit, its size within the kind (none where it does not convert), and its words; a star adds
# the plural.
_KINDS = {
    "length": "mm 1/1000: millimeter* millimetre* mm; cm 1/100: centimeter* centimetre* cm*;"
    " dm 1/10: decimeter* decimetre* dm; m 1: meter* metre*; km 1000: kilometer* kilometre* km*;"
    " um 1/1000000: micrometer* micrometre* micron* um microm; nm 1/1000000000: nanometer* nm;"
    " angstrom 1/10000000000: angstrom*; nmi 1852: nauticalmile*",
    "imperial length": "inch 1: inch inches; ft 12: foot feet ft; yd 36: yard* yd*; mi 63360: mile*",
    "astronomy": "ly: lightyear*; pc: parsec* pc; kpc: kpc; Mpc: Mpc; AU: AU",
    "mass": "ug 1/1000000: microgram* microg; mg 1/1000: milligram* mg; g 1: gram*;"
    " kg 1000: kilogram* kg*; t 1000000: ton* tonne*",
    "imperial mass": "oz 1: ounce* oz; lb 16: pound* lb*",
    "time": "ns 1/1000000000: nanosecond* ns; us 1/1000000: microsecond* micros;"
    " ms 1/1000: millisecond* ms; s 1: second* sec*; min 60: minute* min*;"
    " h 3600: hour* hr*; day 86400: day*; week 604800: week*",
    "years": "month 1: month*; yr 12: year* yr*",
    "volume": "uL 1/1000000: microliter* microlitre* microL;"
    " ml 1/1000: milliliter* millilitre* ml mL; L 1: liter* litre*; gal: gallon* gal",
    "money": "dollar 100: dollar* usd bucks; cent 1: cent*; yuan: yuan rmb cny; euro: euro* eur;"
    " yen: yen jpy; yensign: yensign; rupee: rupee* inr",
    "angle": "deg: degree* deg*; arcmin: arcminute* arcmin*; arcsec: arcsecond* arcsec*; rad: radian* rad*",
    "speed": "mph: mph; kph: kph kmph kmh",
    "temperature": "K: kelvin*; degC: celsius; degF: fahrenheit",
    "energy": "J 1: joule*; kJ 1000: kJ kilojoule*; MJ 1000000: MJ megajoule*; kWh 3600000: kWh",
    "heat": "cal 1: cal calorie*; kcal 1000: kcal kilocalorie*",
    "particles": "eV 1: eV; keV 1000: keV; MeV 1000000: MeV",
    "power": "W 1: watt*; kW 1000: kW kilowatt*; MW 1000000: MW megawatt*",
    "frequency": "Hz 1: Hz hertz; kHz 1000: kHz; MHz 1000000: MHz; GHz 1000000000: GHz",
    "pressure": "Pa 1: Pa pascal*; kPa 1000: kPa kilopascal*; MPa 1000000: MPa; GPa 1000000000: GPa",
    "force": "N 1: newton*; kN 1000: kN kilonewton*",
    "voltage": "V 1: volt*; uV 1/1000000: microV; mV 1/1000: mV millivolt*; kV 1000: kV kilovolt*",
    "current": "A 1: ampere* amp*; uA 1/1000000: microA; mA 1/1000: mA milliampere* milliamp*",
    "resistance": "ohm 1: ohm*; kohm 1000: kohm* kiloohm* kilohm*; Mohm 1000000: Mohm* megaohm* megohm*",
    "charge": "C 1: coulomb*; mC 1/1000: mC; uC 1/1000000: microC microcoulomb*; nC 1/1000000000: nC",
    "capacitance": "F 1: farad*; uF 1/1000000: microF microfarad*; nF 1/1000000000: nF;"
    " pF 1/1000000000000: pF",
    "physics": "mol: mole* mol; atm: atm atmosphere*; T: tesla*; erg: erg*; dyn: dyne*; Nm: Nm",
    "data": "bit: bit*; byte: byte*; Kb: Kb kb kbit; KB: KB kB; Mb: Mb Mbit; MB: MB; Gb: Gb Gbit;"
    " GB: GB; TB: TB",
    "counts": "people: people person*; student: student*; way: way*; time: times; point: point*",
}
_NONE = {"unit", "units"}  # "units" says nothing: it matches every unit and none
_LETTERS = {c: c for c in "mgsLNJWVAKTht"}
_LETTERS |= {"C": "degC", "F": "degF", "l": "L", "hr": "h", "in": "inch", "d": "day"}
_WORDS: dict[str, str] = {}
_SIZES: dict[
    str, tuple[str, Fraction]
] = {}  # of the units that convert: their kind, and how much of it they are
for _kind, _units in _KINDS.items():
    for _unit, _size, _words in re.findall(r"(\w+) ?([\d/]*): ([^;]+)", _units):
        _WORDS |= {
            form: _unit for w in _words.split() for form in ([w[:-1], w[:-1] + "s"] if w[-1] == "*" else [w])
        }
        if _size:
            _SIZES[_unit] = (_kind, Fraction(_size))
_FOLDED = {word.lower(): unit for word, unit in _WORDS.items()}
_CASED = frozenset("ms mm nm mg ml pa pc mpc kb mb gb tb".split())  # here the case tells prefixes apart


# Words after a number that change what it says (also in the plural: hundredths); any other noun (12 right
# triangles) only names what is counted.
_MEANINGFUL = frozenset(
    """not no none at least most more less fewer than if when where unless or and mod through to from between
    approximately about around except plus minus times over under above below maybe possibly probably
    perhaps likely always sometimes either neither both only double triple doubled tripled halved percent
    percentage percentile lakh crore bn mn mln gross score ten dozen pair couple hundred thousand million
    billion trillion half halve third quarter fourth fifth sixth seventh eighth ninth tenth eleventh twelfth
    sixteenth twentieth hundredth thousandth millionth billionth zero one two three four five six seven
    eight nine eleven twelve twenty thirty forty fifty sixty seventy eighty ninety is are was be has equal
    does but for all any some each sum product difference power squared cubed factorial root base digit th
    st nd rd pm am a an wrong correct incorrect answer guess true false unknown negative too many much extra
    spare positive reciprocal inverse opposite square cube multiple factor fraction this these""".split()
)
IRREGULAR = frozenset("men women children mice geese teeth feet fish sheep dice data vertices".split())


def unit_of(word: str, as_text: bool) -> str | None:
    """The unit that `word` names ("" for plain "units"), None for none. as_text: it was set as text."""
    if word.lower() in _NONE:
        return ""
    if as_text and word in _LETTERS:
        return _LETTERS[word]
    if word in _WORDS:
        return _WORDS[word]
    folded = len(word) > 3 or (word.lower() not in _CASED and len(word) > 2)
    return _FOLDED.get(word.lower()) if folded else None


_EXTENTS = frozenset("old tall long wide high deep thick apart away".split())  # 6 inches tall
_WRITTEN_AS = frozenset(("word", "short", "name"))
_OF_NOTHING = frozenset(("min", "sec"))  # functions, which at the end are units: 5 min, 2 L/min
_CLOSING = frozenset((")", "}", "]", "|", "pi", "%"))
_RAISED = {"square": 2, "sq": 2, "squared": 2, "cubic": 3, "cu": 3, "cubed": 3}
_MARGIN = [Token("end", "")] * 4  # after the last token: more than anything here looks or steps ahead


def fold_units(tokens: list[Token], letters_too: bool = True) -> list[Token]:
    """Runs of unit words after a number become one `unit` token, whose text is the same for the same unit.

    letters_too: also letters that are not set as text (2 mg), which are a product of symbols otherwise.
    """
    ends_in_unit = len(tokens) > 1 and tokens[-1].kind == "cmd" and tokens[-1].text in _OF_NOTHING
    if _WRITTEN_AS.isdisjoint({token.kind for token in tokens}) and not ends_in_unit:
        return tokens  # no letters, no units
    if not letters_too:
        tokens = [part for token in tokens for part in (letters(token) if token.kind == "short" else [token])]
    if ends_in_unit:
        tokens = [*tokens[:-1], Token("word", tokens[-1].text, True)]
    out: list[Token] = []
    tokens, i = [*tokens, *_MARGIN], 0
    while tokens[i].kind != "end":
        if out and tokens[i].kind in _WRITTEN_AS and _ends_value(out[-1]):
            read = _rate if letters_too and tokens[i].kind == "name" else _unit_run
            unit, after = read(tokens, i)
            if after == i:
                unit, after = _noun_run(tokens, i)
            if after > i:
                out.append(Token("unit", unit, tokens[i].spaced))
                i = after
                continue
        out += letters(tokens[i]) if tokens[i].kind == "short" else [tokens[i]]
        i += 1
    return out


def _ends_value(token: Token) -> bool:
    return token.kind == "num" or token.text in _CLOSING or (token.kind == "name" and token.text in "ei")


def _rate(tokens: list[Token], i: int) -> tuple[str, int]:
    """Read `m/s`, `m/s^2`, `g/cm^3`, `N/m`, `N \\cdot m` at i: a letter by a unit or a letter, after a space.
    Other quotients are symbols.
    """
    above, sign, under = _unit_letter(tokens[i]), tokens[i + 1].text, tokens[i + 2]
    if not tokens[i].spaced:
        return "", i
    below = _unit_word(under) or _unit_letter(under)
    is_rate = sign == "/" or (above, sign, below) == ("N", "*", "m")
    if not is_rate or not above or not below or above == below:
        return "", i
    power, after = _unit_power(tokens, i + 3)
    return "*".join(sorted((f"{above}^1", f"{below}^{power if sign == '*' else -power}"))), after


def _unit_run(tokens: list[Token], i: int) -> tuple[str, int]:
    """Read `kcal m^{-2} yr^{-1}`, `miles per hour` at i: the canonical unit, and the position after it."""
    powers: dict[str, int] = {}
    start, sign, power = i, 1, 1
    while True:
        token, after = tokens[i : i + 2]
        low = token.text.lower()
        raised = _RAISED.get(low, 0) if token.kind == "word" else 0
        if raised and low[-1] != "d":
            power, i = raised, i + 1
            continue
        if raised and powers:  # squared, cubed: the unit before it
            powers[next(reversed(powers))] *= raised
            i += 1
            continue
        is_over = powers and (low == "per" or token.text == "/")
        if is_over and (_unit_word(after) or _unit_letter(after)) is not None:
            sign, i = -1, i + 1
            continue
        if powers and token.text in ("*", ".") and _unit_word(after) is not None:
            i += 1
            continue
        unit = _unit_word(token)
        if unit is None and (
            sign < 0 or (powers and token.spaced and _unit_power(tokens, i + 1)[0] < 0)  # kg m^{-2}
        ):
            unit = _unit_letter(token)
        if unit is None:
            break
        exponent, i = _unit_power(tokens, i + 1)
        powers[unit] = powers.get(unit, 0) + sign * power * exponent
        power = 1
    if not powers:
        return "", start
    i = _after_unit(tokens, i, powers)
    named = {unit: p for unit, p in powers.items() if unit and p}
    return "*".join(f"{unit}^{p}" for unit, p in sorted(named.items())), i


def _after_unit(tokens: list[Token], i: int, powers: dict[str, int]) -> int:
    """The position after a full stop, an extent (6 inches tall) or a noun (dollars per ticket) at i."""
    if tokens[i].text == "per" and _plain_words(tokens, i + 1, 1) == i + 2 and tokens[i + 2].kind == "end":
        powers[tokens[i + 1].text.lower().rstrip("s")] = -1
        return i + 2
    return i + ((tokens[i].text == "." and tokens[i + 1].kind == "end") or tokens[i].text in _EXTENTS)


def _noun_run(tokens: list[Token], i: int) -> tuple[str, int]:
    """Up to four plain words at i that name what was counted: the last one, in the singular, and the position
    after them.

    What is counted stands in the plural (5 distinct integers), except after 1; so a mere word is no noun (5
    unknown). What it is counted by, or made of, may follow (9 letters per day, 640 cups of rice).
    """
    if tokens[i].kind != "word":
        return "", i
    end = _plain_words(tokens, i, 4)
    of = next((k for k in range(i + 1, end) if tokens[k].text.lower() in ("of", "per", "old")), end)
    if of == end and tokens[end].text == "/":  # 20 pens/box
        end = _plain_words(tokens, end + 1, 1)
        end = of if end == of + 1 else end
    closed = tokens[end].kind in ("end", "sep") or tokens[end].text in (".", ",", ")", "}", "\\}")
    if not i < of <= end or not closed:
        return "", i
    last = tokens[of - 1].text.lower()
    counted = last.endswith("s") or last in IRREGULAR or tokens[i - 1].text == "1"
    return (last.rstrip("s"), end) if counted else ("", i)


def _plain_words(tokens: list[Token], i: int, most: int) -> int:
    """The position after at most so many words at i; i where one of them changes what a number says."""
    end = i
    while tokens[end].kind == "word" and end - i < most:
        word = tokens[end].text
        low = word.lower()
        if not word.isalpha() or len(word) < 2 or not _MEANINGFUL.isdisjoint((low, low.rstrip("s"))):
            return i
        end += 1
    return end


def _unit_word(token: Token) -> str | None:
    return unit_of(token.text, True) if token.kind in ("word", "short") else None


def _unit_letter(token: Token) -> str | None:
    """The m of `kg/m`, which is no text: a unit after another one only."""
    return _LETTERS.get(token.text) if token.kind == "name" else None


def _unit_power(tokens: list[Token], i: int) -> tuple[int, int]:
    """`^2`, `^{2}`, `^{-2}` after a unit word: the power (1 without one) and the position after it."""
    if tokens[i].text == "^":
        texts = [t.text for t in tokens[i + 1 : i + 5]]
        for form in (1, 3, 4):
            inner = "".join(texts[:form]).removeprefix("{").removesuffix("}")
            closed = (texts[:1] == ["{"]) == (texts[form - 1 : form] == ["}"])
            if closed and inner.lstrip("-").isdecimal() and len(inner) < 3:
                return int(inner), i + 1 + form
    return 1, i


# --- conversion -----------------------------------------------------------------------------------------
_SIGNS = ({"yensign^1", "yen^1"}, {"yensign^1", "yuan^1"})  # ¥ is either
_PRODUCTS = {"mph": {"mi": 1, "h": -1}, "kph": {"km": 1, "h": -1}, "Nm": {"N": 1, "m": 1}}


@lru_cache(maxsize=2_000)
def conversion(unit: str, other: str) -> Fraction | None:
    """How many `other` one `unit` is (5 cm are 0.05 m); None where they do not convert."""
    if {unit, other} in _SIGNS:
        return Fraction(1)
    (kinds, factor), (other_kinds, other_factor) = _measured(unit), _measured(other)
    return factor / other_factor if kinds == other_kinds else None


def _measured(unit: str) -> tuple[dict[str, int], Fraction]:
    """The kinds of measure with their powers, and the factor to the kind's own unit."""
    kinds: dict[str, int] = {}
    factor = Fraction(1)
    for part in filter(None, unit.split("*")):
        name, _, power = part.partition("^")
        for base, exponent in _PRODUCTS.get(name, {name: 1}).items():
            exponent *= int(power or 1)
            kind, size = _SIZES.get(base, (base, Fraction(1)))
            kinds[kind] = kinds.get(kind, 0) + exponent
            factor *= size**exponent
    return {kind: power for kind, power in kinds.items() if power}, factor


# --- a unit, or symbols? --------------------------------------------------------------------------------
# Letters that formulas multiply. After a root, a fraction or pi they are symbols; closed up to a small whole
# number they are at least as likely to be.
_SYMBOLS_TOO = frozenset(
    "mg g ml L ms ns nm pc dm lb kg km ft yd um h m s mi K N V mA mV kV kN kW MW MJ kJ J W A Nm".split()
)
_LENGTHS = frozenset("mm cm dm m km nm um inch ft yd mi".split())
_RATES = ("m^1*s^-1", "m^1*s^-2")
_COEFFICIENT = re.compile(r"(?:[^=]*=)?\s*-?\d([a-zA-Z]{2,3})")
_PARTS = ("rel", "list", "either", "set", "tuple", "union", "ratio", "neg", "pm", "mp")


def is_measure(node: Node) -> bool:
    """Whether the units in a tree stand where units can stand: at the end of a value without symbols, not
    inside a power, root or fraction. Only lengths and rates have powers. A unit that may well be symbols
    needs a plain number before it.
    """
    if node.op == "unit":
        return _measures(*node.args)
    if node.op in _PARTS:
        nested = [arg if type(arg) is tuple else (arg,) for arg in node.args]
        values = [part for parts in nested for part in parts if type(part) is Node]
        if node.op == "rel":
            values = [side for side in values if not is_name(side)]
        return all(is_measure(value) for value in values)
    return not node.symbols and not node.contains("unit")


def is_coefficient(gold: str) -> bool:
    """`2mg`, closed up: in a gold rather twice m g than two milligrams (which `2 mg` and `250mg` are)."""
    match = _COEFFICIENT.fullmatch(gold)
    return match is not None and unit_of(match[1], False) in _SYMBOLS_TOO


def _measures(value: Node, unit: str) -> bool:
    if value.symbols or value.contains("unit"):
        return False
    powers = dict(part.split("^") for part in unit.split("*") if part)
    if unit in _RATES:
        return True
    if len(powers) == 1 and any(power != "1" and name not in _LENGTHS for name, power in powers.items()):
        return False
    return _SYMBOLS_TOO.isdisjoint(powers) or _is_plain(value)


def _is_plain(value: Node) -> bool:
    """5, -2.5, 1\\frac{1}{2}, 3 \\times 10^8."""
    while value.op in ("neg", "mixed"):
        value = value.args[0]
    if value.op == "mul" and value.args[1].op == "pow":
        value, power = value.args
        return value.op == power.args[0].op == "num" and power.args[0].args[0] == 10
    return value.op == "num"
