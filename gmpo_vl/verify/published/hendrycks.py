"""The string rules of the published graders (Hendrycks et al., MATH): a form that must be the same string.

Written anew from their behaviour; their mistakes are part of it. GMPO's grader has a form with unit words and
matrices, mathruler 0.1.0 an older one without.
"""

from __future__ import annotations

import re
from functools import lru_cache

_UNITS = (
    "east|degree|mph|kmph|ft|m sqaure| m east|sq m|deg|mile|q .|monkey|prime|ratio|profit of rs|rd|o|"
    "gm|p . m|lb|tile|per|dm|lt|gain|ab|way|west|a .|b .|c .|d .|e .|f .|g .|h .|t|a|h|no change|men|"
    "soldier|pie|bc|excess|st|inches|noon|percent|by|gal|kmh|c|acre|rise|a . m|th|π r 2|sq|mark|l|toy|"
    "coin|sq . m|gallon|° f|profit|minw|yr|women|feet|am|pm|hr|cu cm|square|v â € ™|are|rupee|rounds|"
    "cubic|cc|mtr|s|ohm|number|kmph|day|hour|minute|min|second|man|woman|sec|cube|mt|sq inch|mp|∏ cm ³|"
    "hectare|more|sec|unit|cu . m|cm 2|rs .|rs|kg|g|month|km|m|cm|mm|apple|liter|loss|yard|pure|year|"
    "increase|decrease|d|less|Surface|litre|pi sq m|s .|metre|meter|inch"
).split("|")
_UNIT_RULES = [
    (u.partition(".")[0], re.compile(rf"(^|\W){u}($|\W)")) for u in _UNITS + [u + "s" for u in _UNITS]
]
ENCLOSING_TEXT = re.compile(r"^\\text\{(.+?)\}$")
_UNBRACED_FRACTION = re.compile(r"\\frac(?!\{)(.)(.)", re.DOTALL)
_UNBRACED_ROOT = re.compile(r"\\sqrt(?!\{)(.)", re.DOTALL)
_SLASH = re.compile(r"(0|-?[1-9]\d*)/(0|-?[1-9]\d*)")


@lru_cache(maxsize=20_000)
def string_form(text: str, older: bool) -> str:
    """The form that must be the same string. older: mathruler's, without unit words and matrices."""
    text = text.strip()
    enclosed = ENCLOSING_TEXT.search(text)
    text = enclosed[1].strip() if enclosed else text
    before = text
    text = text.replace("\n", "").replace("\\!", "").replace("\\\\", "\\")
    if not older:
        text = re.sub(r"\\begin\{array\}\{[^}\n]*\}", r"\\begin{pmatrix}", text)
        text = text.replace("\\end{array}", "\\end{pmatrix}").replace("bmatrix", "pmatrix")
    text = text.replace("tfrac", "frac").replace("dfrac", "frac")
    if not older:
        text = text.replace("\\neq", "\\ne").replace("\\leq", "\\le").replace("\\geq", "\\ge")
    text = text.replace("\\left", "").replace("\\right", "")
    if not older:
        text = _without_unit_words(text)
    text = text.replace("^{\\circ}", "").replace("^\\circ", "").replace("\\$", "")
    if text.count("\\text{ ") > 1:  # their rule gives up here and keeps the text as it was
        return before
    text = text.partition("\\text{ ")[0].replace("\\%", "")
    text = text.replace("%", "") if older else text
    text = text.replace(" .", " 0.").replace("{.", "{0.")
    if not text:
        return text
    text = "0" + text if text[0] == "." else text
    left, equals, right = text.partition("=")
    text = right if equals and "=" not in right and len(left) <= 2 else text
    if text.endswith(("\\sqrt", "\\frac")):
        return before
    text = _UNBRACED_ROOT.sub(r"\\sqrt{\1}", text).replace(" ", "")
    text = _braced_fractions(text)
    slash = _SLASH.fullmatch(text)
    return "\\frac{1}{2}" if text == "0.5" else f"\\frac{{{slash[1]}}}{{{slash[2]}}}" if slash else text


def _without_unit_words(text: str) -> str:
    """Their longest-lived trap: single letters and words such as `a`, `t`, `o` go as units."""
    start = text.find("\\text{")
    if start >= 0 and text.endswith("}"):
        text = text[:start].strip() or text
    for _ in range(2):
        for needle, rule in _UNIT_RULES:
            if needle in text and (shorter := rule.sub(r"\1\2", text)):
                text = shorter
    return text


def _braced_fractions(text: str) -> str:
    first, *rest = text.split("\\frac")
    done = first
    for piece in rest:
        if not piece.startswith("{"):
            if len(piece) < 2:
                return text
            second = piece[1] if piece[1] == "{" else "{" + piece[1] + "}"
            piece = "{" + piece[0] + "}" + second + piece[2:]
        done += "\\frac" + piece
    return done
