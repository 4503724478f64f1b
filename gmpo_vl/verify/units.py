"""Unit words, whole words only. A single letter is a unit only where the writer set it as text (`\\text{ m}`)."""

from __future__ import annotations

from gmpo_vl.verify.tokens import Token, letters

_GROUPS = """
deg: degree degrees deg degs
arcsec: arcsecond arcseconds arcsec arcsecs
arcmin: arcminute arcminutes arcmin arcmins
dollar: dollar dollars usd bucks
cent: cent cents
yuan: yuan rmb cny
mm: millimeter millimeters millimetre millimetres mm
cm: centimeter centimeters centimetre centimetres cm cms
dm: decimeter decimeters decimetre decimetres dm
m: meter meters metre metres
km: kilometer kilometers kilometre kilometres km kms
nm: nanometer nanometers nm
angstrom: angstrom angstroms
um: micrometer micrometers micron microns um
inch: inch inches
ft: foot feet ft
yd: yard yards yd yds
mi: mile miles
nmi: nauticalmile nauticalmiles
ly: lightyear lightyears
pc: parsec parsecs pc
kpc: kpc
Mpc: Mpc
AU: AU
mg: milligram milligrams mg
g: gram grams
kg: kilogram kilograms kg kgs
t: ton tons tonne tonnes
lb: pound pounds lb lbs
euro: euro euros eur
yen: yen jpy
rupee: rupee rupees inr
oz: ounce ounces oz
ms: millisecond milliseconds ms
ns: nanosecond nanoseconds ns
s: second seconds sec secs
min: minute minutes min mins
h: hour hours hr hrs
day: day days
week: week weeks
month: month months
yr: year years yr yrs
ml: milliliter milliliters millilitre millilitres ml mL
L: liter liters litre litres
gal: gallon gallons gal
mol: mole moles mol
K: kelvin kelvins
degC: celsius
degF: fahrenheit
N: newton newtons
J: joule joules
kJ: kJ
kcal: kcal kilocalorie kilocalories
cal: cal calorie calories
eV: eV
keV: keV
MeV: MeV
W: watt watts
kW: kW
Hz: Hz hertz
kHz: kHz
MHz: MHz
GHz: GHz
Pa: Pa pascal pascals
kPa: kPa
MPa: MPa
GPa: GPa
atm: atm atmosphere atmospheres
V: volt volts
A: ampere amperes amp amps
ohm: ohm ohms
T: tesla teslas
rad: radian radians rad rads
erg: erg ergs
dyn: dyne dynes
mph: mph
kph: kph kmph kmh
bit: bit bits
byte: byte bytes
Kb: Kb kb kbit
KB: KB kB
Mb: Mb Mbit
MB: MB
Gb: Gb Gbit
GB: GB
TB: TB
people: people person persons
student: student students
way: way ways
time: times
point: point points
"""
_NONE = {"unit", "units"}  # "units" says nothing: it matches every unit and none
_LETTERS = {c: c for c in "mgsLNJWVAKTh"} | {"C": "degC", "F": "degF", "l": "L", "hr": "h", "in": "inch"}
_WORDS = {
    word: line.partition(":")[0]
    for line in _GROUPS.strip().splitlines()
    for word in line.partition(":")[2].split()
}
_FOLDED = {word.lower(): unit for word, unit in _WORDS.items()}
_CASED = {
    "ms",
    "mm",
    "nm",
    "mg",
    "ml",
    "pa",
    "pc",
    "mpc",
    "kb",
    "mb",
    "gb",
    "tb",
}  # here the case tells prefixes apart


# Words after a number that change what it says (also in the plural: hundredths); any other noun (12 right triangles)
# only names what is counted.
_MEANINGFUL = frozenset(
    (
        "not no none at least most more less fewer than if when where unless or and mod through to from "
        "between approximately about around except plus minus times over under above below maybe possibly "
        "probably perhaps likely always sometimes either neither both only double triple doubled tripled halved "
        "percent percentage percentile lakh crore bn mn mln gross score ten dozen pair couple hundred thousand "
        "million billion trillion half halve third quarter fourth fifth sixth seventh eighth ninth tenth "
        "eleventh twelfth sixteenth twentieth hundredth thousandth millionth billionth zero one two three four "
        "five six seven eight nine eleven twelve twenty thirty forty fifty sixty seventy eighty ninety is are "
        "was be has equal does but for all any some each sum product difference power squared cubed factorial root "
        "base digit th st nd rd pm am a an wrong correct incorrect answer guess true false unknown negative "
        "too many much extra spare positive reciprocal inverse opposite square cube multiple factor fraction this these"
    ).split()
)
IRREGULAR = frozenset("men women children mice geese teeth feet fish sheep dice data vertices".split())


def unit_of(word: str, as_text: bool) -> str | None:
    """The unit that `word` names ("" for plain "units"), None if it names none. as_text: it was set as text."""
    if word.lower() in _NONE:
        return ""
    if as_text and word in _LETTERS:
        return _LETTERS[word]
    if word in _WORDS:
        return _WORDS[word]
    return (
        _FOLDED.get(word.lower()) if len(word) > 3 or (word.lower() not in _CASED and len(word) > 2) else None
    )


_EXTENTS = frozenset("old tall long wide high deep thick apart away".split())  # 6 inches tall
_WRITTEN_AS = frozenset(("word", "short", "name"))
_OF_NOTHING = frozenset(("min", "sec"))  # functions, which at the end are units: 5 min, 2 L/min


def fold_units(tokens: list[Token], letters_too: bool = True) -> list[Token]:
    """Runs of unit words after a number become one `unit` token, whose text is the same for the same unit.

    letters_too: also letters that are not set as text (2 mg), which are a product of symbols otherwise.
    """
    ends_in_unit = len(tokens) > 1 and tokens[-1].kind == "cmd" and tokens[-1].text in _OF_NOTHING
    if _WRITTEN_AS.isdisjoint({token.kind for token in tokens}) and not ends_in_unit:
        return tokens  # no letters, no units
    if not letters_too:
        tokens = [part for token in tokens for part in (letters(token) if token.kind == "short" else [token])]
    out: list[Token] = []
    i = 0
    if ends_in_unit:
        tokens = [*tokens[:-1], Token("word", tokens[-1].text, True)]
    while i < len(tokens):
        if out and tokens[i].kind in _WRITTEN_AS and _ends_value(out[-1]):
            unit, after = (
                _rate(tokens, i) if letters_too and tokens[i].kind == "name" else _unit_run(tokens, i)
            )
            if after == i:
                unit, after = _noun_run(tokens, i)
            if after > i:
                out.append(Token("unit", unit, tokens[i].spaced))
                i = after
                continue
        out += letters(tokens[i]) if tokens[i].kind == "short" else [tokens[i]]
        i += 1
    return out


_CLOSING = frozenset((")", "}", "]", "|", "pi", "%"))


def _ends_value(token: Token) -> bool:
    return token.kind == "num" or token.text in _CLOSING or (token.kind == "name" and token.text in "ei")


def _rate(tokens: list[Token], i: int) -> tuple[str, int]:
    """Read `m/s`, `m/s^2`, `g/cm^3` at i: a letter by a unit, after a space; other quotients of single letters are symbols."""
    if not tokens[i].spaced or i + 2 >= len(tokens) or tokens[i + 1].text != "/":
        return "", i
    above = _unit_letter(tokens[i])
    below = "s" if (above, tokens[i + 2].text) == ("m", "s") else _unit_word(tokens[i + 2])
    if not above or not below or above == below:
        return "", i
    power, after = _unit_power(tokens, i + 3)
    return "*".join(sorted((f"{above}^1", f"{below}^{-power}"))), after


def _unit_run(tokens: list[Token], i: int) -> tuple[str, int]:
    """Read `kcal m^{-2} yr^{-1}`, `square inches`, `km / h`, `miles per hour` at i: the canonical unit, the position after it."""
    powers: dict[str, int] = {}
    start, sign, power = i, 1, 1
    while i < len(tokens):
        token = tokens[i]
        low = token.text.lower()
        if (
            token.kind == "word"
            and low in ("square", "sq", "squared", "cubic", "cubed")
            and not (low[-1] == "d" and not powers)
        ):
            if low in ("squared", "cubed"):
                last = next(reversed(powers))
                powers[last] *= 2 if low == "squared" else 3
            else:
                power = 3 if low == "cubic" else 2
            i += 1
            continue
        if (
            powers
            and (low == "per" or token.text == "/")
            and i + 1 < len(tokens)
            and (_unit_word(tokens[i + 1]) or _unit_letter(tokens[i + 1])) is not None
        ):
            sign, i = -1, i + 1
            continue
        if (
            powers
            and token.text in ("*", ".")
            and i + 1 < len(tokens)
            and _unit_word(tokens[i + 1]) is not None
        ):
            i += 1
            continue
        unit = _unit_word(token)
        if unit is None and powers and token.spaced and _unit_power(tokens, i + 1)[0] < 0:  # kg m^{-2}
            unit = _unit_letter(token)
        if unit is None and sign < 0:
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
    """The position after what may follow a unit: a full stop, an extent (6 inches tall), or a noun (12 dollars per ticket)."""
    if i >= len(tokens):
        return i
    if tokens[i].text == "per" and _plain_words(tokens, i + 1, 1) == i + 2 == len(tokens):
        powers[tokens[i + 1].text.lower().rstrip("s")] = -1
        return i + 2
    return i + ((tokens[i].text == "." and i + 1 == len(tokens)) or tokens[i].text in _EXTENTS)


def _noun_run(tokens: list[Token], i: int) -> tuple[str, int]:
    """Up to four plain words at i that name what was counted: the last one, in the singular, and the position after them.

    What is counted stands in the plural (5 distinct integers), except after 1; so a mere word is no noun (5 unknown). What
    it is counted by, or made of, may follow (9 letters per day, 640 cups of rice).
    """
    if tokens[i].kind != "word":
        return "", i
    end = _plain_words(tokens, i, 4)
    of = next((k for k in range(i + 1, end) if tokens[k].text.lower() in ("of", "per", "old")), end)
    if of == end and end < len(tokens) and tokens[end].text == "/":  # 20 pens/box
        end = _plain_words(tokens, end + 1, 1)
        end = of if end == of + 1 else end
    closed = (
        end == len(tokens) or tokens[end].kind == "sep" or tokens[end].text in (".", ",", ")", "}", "\\}")
    )
    if not i < of <= end or not closed:
        return "", i
    last = tokens[of - 1].text.lower()
    counted = last.endswith("s") or last in IRREGULAR or tokens[i - 1].text == "1"
    return (last.rstrip("s"), end) if counted else ("", i)


def _plain_words(tokens: list[Token], i: int, most: int) -> int:
    """The position after the words at i, at most so many and none that changes what a number says; i where one does."""
    end = i
    while end < len(tokens) and tokens[end].kind == "word" and end - i < most:
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
    if i < len(tokens) and tokens[i].text == "^":
        texts = [t.text for t in tokens[i + 1 : i + 5]]
        for form in (1, 3, 4):
            inner = "".join(texts[:form]).removeprefix("{").removesuffix("}")
            closed = (texts[:1] == ["{"]) == (texts[form - 1 : form] == ["}"])
            if closed and inner.lstrip("-").isdecimal() and len(inner) < 3:
                return int(inner), i + 1 + form
    return 1, i
