"""How units of one kind convert: 5 cm are 0.05 m, 60 mph are 60 miles per hour. Units that are not here match only themselves."""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache

_TABLE = """
length: mm 1/1000, cm 1/100, dm 1/10, m 1, km 1000, um 1/1000000, nm 1/1000000000, angstrom 1/10000000000, nmi 1852
imperial length: inch 1, ft 12, yd 36, mi 63360
mass: mg 1/1000, g 1, kg 1000, t 1000000
imperial mass: oz 1, lb 16
time: ms 1/1000, s 1, min 60, h 3600, day 86400, week 604800
years: month 1, yr 12
volume: ml 1, L 1000
money: cent 1/100, dollar 1
"""
_PRODUCTS = {"mph": {"mi": 1, "h": -1}, "kph": {"km": 1, "h": -1}}
_SCALES = {
    unit.split()[0]: (line.partition(":")[0], Fraction(unit.split()[1]))
    for line in _TABLE.strip().splitlines()
    for unit in line.partition(":")[2].split(",")
}


@lru_cache(maxsize=2_000)
def conversion(unit: str, other: str) -> Fraction | None:
    """How many `other` one `unit` is; None where they do not convert. Units as units.py writes them: `km^1*h^-1`."""
    (kinds, factor), (other_kinds, other_factor) = _measured(unit), _measured(other)
    return factor / other_factor if kinds == other_kinds else None


def _measured(unit: str) -> tuple[dict[str, int], Fraction]:
    """The kinds of measure with their powers, and the factor to the kind's own unit."""
    kinds: dict[str, int] = {}
    factor = Fraction(1)
    for name, power in _parts(unit):
        kind, scale = _SCALES.get(name, (name, Fraction(1)))
        kinds[kind] = kinds.get(kind, 0) + power
        factor *= scale**power
    return {kind: power for kind, power in kinds.items() if power}, factor


def _parts(unit: str) -> list[tuple[str, int]]:
    found: list[tuple[str, int]] = []
    for part in filter(None, unit.split("*")):
        name, _, power = part.partition("^")
        number = int(power or 1)
        found += [(n, p * number) for n, p in _PRODUCTS.get(name, {name: 1}).items()]
    return found
