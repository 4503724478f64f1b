"""Which answers to one question are the same answer? Asked without the gold, for votes."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

from gmpo_vl.verify import strict
from gmpo_vl.verify.gold import Gold
from gmpo_vl.verify.normalise import normalise
from gmpo_vl.verify.quantities import clearly_apart, roughly, value_at
from gmpo_vl.verify.reading import trees
from gmpo_vl.verify.values import type_of

_log = logging.getLogger(__name__)


def clusters(answers: Sequence[str | None], choices: Sequence[str] = ()) -> list[int | None]:
    """The number of each answer's cluster, in order; None for None and for a blank answer, which have no
    cluster.

    Two answers are the same where the strict profile, with either of them as the gold, accepts the other.
    That is symmetric but not transitive (50 and 0.5 are both 50%), so a cluster holds only answers that are
    all the same pairwise. Spellings are taken by how often they occur, then by their text, and each joins the
    first cluster that it fits. The order of the answers does not matter.

    choices: the question's options, so that a letter and its text are the same.
    """
    spellings = [
        None if answer is None else " ".join(normalise(answer).split()) or None for answer in answers
    ]
    counts = Counter(spelling for spelling in spellings if spelling is not None)
    found: list[list[_Vote]] = []
    number: dict[str, int] = {}
    for spelling in sorted(counts, key=lambda s: (-counts[s], s)):
        vote = _Vote(spelling, Gold((spelling,), choices=tuple(choices)), *_value_of(spelling))
        fits = (i for i, others in enumerate(found) if all(_same(vote, other) for other in others))
        at = next(fits, len(found))
        if at == len(found):
            found.append([])
        found[at].append(vote)
        number[spelling] = at
    return [None if spelling is None else number[spelling] for spelling in spellings]


class _Vote(NamedTuple):
    """A spelling, and it as the gold; for plain arithmetic its value in double precision, and exactly if it
    is rational."""

    spelling: str
    gold: Gold
    rough: complex | None = None
    exact: Fraction | None = None


def _same(one: _Vote, two: _Vote) -> bool:
    if not one.gold.choices:  # an option's text decides otherwise
        if one.exact is not None and one.exact == two.exact:
            return True
        if clearly_apart(one.rough, two.rough):
            return False
    return _accepts(two.gold, one.spelling) or _accepts(one.gold, two.spelling)


# Numbers in signs and four commands: no word, unit, percent, comma or colon, so that the strict profile
# compares values alone.
_ARITHMETIC = re.compile(r"(?:[\d./+*^{}() -]|\\(?:[dt]?frac|sqrt|pi|cdot|times)(?![a-zA-Z]))+", re.ASCII)
_OPS = frozenset("num const add sub mul div neg pow root mixed".split())
_NO_VALUES = ("text", "range", "choice")  # 12/05/2020, 20-30
_MAX_LENGTH = 200  # characters, few enough that nothing is too slow to compute
_LEAST = 1e-20  # below it, a sum of nearly nothing may be nothing


@lru_cache(maxsize=20_000)
def _value_of(spelling: str) -> tuple[complex | None, Fraction | None]:
    """(value in double precision, exact value) of plain arithmetic with one reading; None for anything else.

    Where both spellings have a value the strict profile accepts one for the other only if the values are the
    same to nine digits or more, and always if they are the same rational number.
    """
    if len(spelling) > _MAX_LENGTH or not _ARITHMETIC.fullmatch(spelling) or type_of(spelling) in _NO_VALUES:
        return None, None
    read = trees(spelling)
    if len(read) != 1 or not read[0].summary.ops <= _OPS:
        return None, None
    value, rough = value_at(read[0], ()), roughly(read[0])
    if rough is None:
        return None, None
    if type(value) is Fraction and (value == 0 or abs(rough) > _LEAST):
        return rough, value
    cancels = read[0].contains("add", "sub")
    return (None if cancels or abs(rough) < _LEAST else rough), None


def _accepts(gold: Gold, answer: str) -> bool:
    try:
        return strict.judge(gold, answer) == "equal"
    except Exception:  # a defect of ours costs one vote its cluster, and never the evaluation
        _log.exception("the verifier failed on %.200r against %.200r", gold.alternatives[0], answer)
        return False
