"""The article in `a dog`, which is no letter of an option.

No article stands before what has none (`A yes`, `A runs`, `A apple`, `A Dog`), nor before what ends in no
noun that is counted (`A blue`, `A dark blue`, `A taller`, `A north`, `A water`, the symbol in `A y`): there
A is a letter.
"""

from __future__ import annotations

import re

from gmpo_vl.verify.products import is_product

_ARTICLE = re.compile(
    r"(?:(?-i:A (?=[a-z]))|"
    r"(?:(?:(?:it|this|that|there)(?:'s| is)|(?:the )?(?:correct |final )?answer(?: is|:)) )?"
    r"(?-i:a (?=[A-Za-z])))(.+)",
    re.IGNORECASE,
)
_NO_ARTICLE = re.compile(
    r"(?:yes|no|not|none|true|false|all|both|neither|the|than|this|that|these|those|some|many|most|more|less"
    r"|few|never|is|are|was|and|or|you|we|they|he|she)\b|(?!eu|one\b)[aeio]|\w+(?<![suina])s$",
    re.IGNORECASE,
)
_NOT_COUNTED = frozenset(
    """red green blue yellow black white brown pink purple violet gray grey silver gold golden beige
    cyan magenta maroon turquoise teal colorful striped spotted transparent big small large tiny huge
    tall short long wide narrow high low deep thick thin heavy bigger smaller larger taller shorter
    longer wider narrower higher lower deeper thicker thinner heavier lighter hotter colder warmer
    cooler faster slower older younger newer stronger weaker brighter darker better worse best worst
    biggest smallest largest tallest shortest longest highest lowest fastest slowest oldest youngest hot
    cold warm cool wet dry new old young happy sad angry tired hungry scared surprised good bad fast
    slow full empty open closed broken flat sharp soft hard strong weak rich poor clean dirty bright
    loud quiet wooden round rectangular triangular circular straight curved vertical horizontal parallel
    perpendicular linear quadratic nonlinear similar congruent different same true correct wrong
    possible likely certain positive zero two three four five six seven eight nine ten twice left up
    down north south east west northeast northwest southeast southwest forward backward clockwise
    counterclockwise inside outside above below here there today yesterday tomorrow sunny cloudy rainy
    snowy windy foggy stormy water milk tea beer wine sand snow rain rice bread cheese meat butter sugar
    salt grass wood metal plastic leather cotton concrete gasoline oxygen hydrogen nitrogen carbon
    homework furniture traffic soccer baseball basketball football volleyball tennis golf hockey running
    walking standing sitting lying eating drinking sleeping playing reading cooking swimming surfing
    skiing skateboarding snowboarding increasing decreasing rising falling moving""".split()
)


def behind_article(text: str) -> str | None:
    """`dog` of `a dog`, `It's a dog`; None where no article stands in front."""
    found = _ARTICLE.fullmatch(text)
    if found is None or _NO_ARTICLE.match(found[1]):
        return None
    noun = found[1].split()[-1].rstrip(".,;:!?")
    return None if noun.lower() in _NOT_COUNTED or is_product(noun) else found[1]
