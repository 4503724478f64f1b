"""A sentence around one number, a sum worked out in words, and the words that deny or change either."""

from __future__ import annotations

import re

from gmpo_vl.verify.words import NUMBER, TEXT_GROUP

# Words that leave a number in a sentence unsaid, denied, or one of several.
_UNSURE = frozenset(
    """not no non none never neither nor or if unless wrong incorrect false cannot can't isn't doesn't don't
    won't didn't aren't wasn't either maybe perhaps possibly probably guess about around approximately roughly
    nearly almost least most more less fewer greater larger smaller than over under above below between
    except but plus minus times twice thrice double triple half third quarter dozen hundred thousand
    million billion percent and both one two three four five six seven eight nine ten eleven twelve unknown
    unclear instead should've would've product sum difference square squared cube cubed root reciprocal
    negative th st nd rd first second power without""".split()
)
# Words that make another quantity of what follows them.
_OTHERWISE = frozenset("opposite inverse denominator numerator near undefined invalid impossible".split())
# Before a sum, words that only say what it is about (the total of two boxes) change nothing.
_CHANGING = (_UNSURE | _OTHERWISE) - frozenset(
    """and both one two three four five six seven eight nine ten eleven twelve first second third product sum
    difference hundred thousand million billion percent dozen""".split()
)
# Besides, in a sentence, where no sum is checked.
UNSAID = (
    _UNSURE
    | _OTHERWISE
    | frozenset(
        """doubt doubts hope hopes suppose supposes assume assumes imagine pretend wish think thinks said says
        claim claims unlikely likely other another previous next could might may would used base rest
        remaining remainder error nobody few nothing binary rejected excluded extraneous last old""".split()
    )
)
_SPOKEN = re.compile(r"[A-Za-z]+(?:'[a-z]+)?")
_AMOUNT = re.compile(rf"(?<![\w.\\^_/*+=<>(-])(?:\\?\$ ?)?{NUMBER}(?: ?\\?%|°)?(?![\w^_/*+=<>(-])")
_FORMULA = re.compile(r"[\d=<>+*/^_|{}\[\]\\?,;:]")
# The verb that leads to the number, and what may follow it: what is counted or measured, and a phrase after a
# preposition.
_VERB = re.compile(
    r"\b(?:is|are|was|were|(?:will|should|must) be|equals?|(?:is|are) equal to|has|have|had|took|takes?"
    r"|taken|got|gets?|needs?|needed|pays?|paid|costs?|charges?"
    r"|charged|earns?|earned|spends?|spent|sells?|sold|makes?|made|measures?|weighs?|weighed|remains?|buys?"
    r"|bought|eats?|ate|uses|drinks?|drank|reads?"
    r"|walks?|walked|runs?|ran|travels?|traveled|travelled|drives?|drove|saves?|saved|owes?|owed|scores?"
    r"|scored|collects?|collected|receives?|received|lasts?)"
    r"(?: (?:exactly|only|just|a total of|a distance of))? ?$|\bby a distance of $",
    re.IGNORECASE,
)
_SAID_OF = re.compile(
    r"((?: [A-Za-z]+){0,4}?)(?: (?:for|in|on|at|to|per|each|left|altogether|of|from|during"
    r"|with)\b[^.]*)?[.!]?"
)


def said(text: str) -> str | None:
    """The one number of a sentence, with its unit (`The trip took 35 minutes.`); None for any other text."""
    flat = " ".join(TEXT_GROUP.sub(r" \1 ", text).split())
    amounts = list(_AMOUNT.finditer(flat)) if flat[:1].isalpha() else []
    if len(amounts) != 1:
        return None
    before, amount, after = flat[: amounts[0].start()], amounts[0][0], flat[amounts[0].end() :]
    led = [word for word in _SPOKEN.findall(before) if len(word) > 1]
    match = _SAID_OF.fullmatch(after)
    if not match or len(led) < 2 or not _VERB.search(before) or _FORMULA.search(before + after):
        return None
    around = _SPOKEN.findall(before + after[match.end(1) :])
    if not UNSAID.isdisjoint(word.lower() for word in around):
        return None
    counted = (match[1] or "").strip()
    return rf"{amount}\text{{ {counted}}}" if counted else amount


_COUNTED = re.compile(r"(?<=[\d)])(?:(?: ?/ ?| )[A-Za-z]{3,})+")
_BEFORE = re.compile(r"[A-Za-z]{2,}(?: [A-Za-z]+)* (?=\d)")


def worked(text: str) -> str | None:
    """The sum in `3 boxes * 20 pens/box = 60 pens`, its links not checked yet; None for any other text."""
    flat = " ".join(TEXT_GROUP.sub(r" \1 ", text).split()).rstrip(".")
    if before := _BEFORE.match(flat):
        if not _CHANGING.isdisjoint(word.lower() for word in _SPOKEN.findall(before[0])):
            return None  # not 3 + 4 = 7, half of 3 * 4 = 12
        flat = flat[before.end() :]
    sides = [_COUNTED.sub(" ", side).strip() for side in flat.split("=")]
    if len(sides) < 2 or not all(sides) or not _UNSURE.isdisjoint(w.lower() for w in _SPOKEN.findall(flat)):
        return None
    return " = ".join(sides)


def means_another(text: str) -> bool:
    """Whether a word of a text makes another quantity of what follows: the opposite of x."""
    return not _OTHERWISE.isdisjoint(word.lower() for word in _SPOKEN.findall(text))
