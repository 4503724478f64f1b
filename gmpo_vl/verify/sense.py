"""Does it make sense to take letters after a number for a unit? `7 cm` and `2 mg` may be measures; `\\pi hr^2` is a product."""

from __future__ import annotations

import re

from gmpo_vl.verify.tree import Node, contains, is_name, symbols
from gmpo_vl.verify.units import unit_of

# Two letters that formulas multiply: after a root, a fraction or pi they are symbols, and closed up to a small whole number
# they are at least as likely to be.
_SYMBOLS_TOO = frozenset("mg g ml L ms ns nm pc dm lb kg km ft yd um h m s mi K N V".split())
_LENGTHS = frozenset("mm cm dm m km nm um inch ft yd mi".split())
_RATES = ("m^1*s^-1", "m^1*s^-2")
_COEFFICIENT = re.compile(r"(?:[^=]*=)?\s*-?\d([a-zA-Z]{2,3})")
_PARTS = ("rel", "list", "either", "set", "tuple", "union", "ratio", "neg", "pm", "mp")


def is_measure(node: Node) -> bool:
    """Whether the units in a tree stand where units can stand: at the end of a value without symbols, not inside a power, root
    or fraction; only lengths and rates have powers; and what may well be symbols needs a plain number before it.
    """
    if node.op == "unit":
        return _measures(*node.args)
    if node.op in _PARTS:
        nested = [arg if type(arg) is tuple else (arg,) for arg in node.args]
        values = [part for parts in nested for part in parts if type(part) is Node]
        if node.op == "rel":
            values = [side for side in values if not is_name(side)]
        return all(is_measure(value) for value in values)
    return not symbols(node) and not contains(node, ("unit",))


def is_coefficient(gold: str) -> bool:
    """`2mg`, closed up: in a gold rather twice m g than two milligrams (which `2 mg` and `250mg` are)."""
    match = _COEFFICIENT.fullmatch(gold)
    return match is not None and unit_of(match[1], False) in _SYMBOLS_TOO


def _measures(value: Node, unit: str) -> bool:
    if symbols(value) or contains(value, ("unit",)):
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
    if value.op == "mul":
        mantissa, power = value.args
        return (
            mantissa.op == "num"
            and power.op == "pow"
            and power.args[0].op == "num"
            and power.args[0].args[0] == 10
        )
    return value.op == "num"
