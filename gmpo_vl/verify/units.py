"""Unit words, whole words only. A single letter is a unit only where the writer set it as text (`\\text{ m}`)."""

from __future__ import annotations

_GROUPS = """
deg: degree degrees deg degs
arcsec: arcsecond arcseconds arcsec arcsecs
arcmin: arcminute arcminutes arcmin arcmins
dollar: dollar dollars usd bucks
cent: cent cents
mm: millimeter millimeters millimetre millimetres mm
cm: centimeter centimeters centimetre centimetres cm cms
dm: decimeter decimeters decimetre decimetres dm
m: meter meters metre metres
km: kilometer kilometers kilometre kilometres km kms
nm: nanometer nanometers nm
um: micrometer micrometers micron microns um
inch: inch inches
ft: foot feet ft
yd: yard yards yd yds
mi: mile miles
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
_CASED = {"ms", "mm", "nm", "mg", "ml", "pa", "pc", "mpc"}  # here the case tells prefixes apart


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
