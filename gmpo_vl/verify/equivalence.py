"""Which answers to one question are the same answer? Asked without the gold, for votes."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence

from gmpo_vl.verify import strict
from gmpo_vl.verify.gold import Gold
from gmpo_vl.verify.normalise import normalise

_log = logging.getLogger(__name__)


def clusters(answers: Sequence[str | None], choices: Sequence[str] = ()) -> list[int | None]:
    """The number of each answer's cluster, in order; None for None and for a blank answer, which have no cluster.

    Two answers are the same where the strict profile, with either of them as the gold, accepts the other. That is symmetric
    but not transitive (50 and 0.5 are both 50%), so a cluster holds only answers that are all the same pairwise: spellings are
    taken by how often they occur, then by their text, and each joins the first cluster that it fits. The order of the answers
    does not matter.

    choices: the question's options, so that a letter and its text are the same.
    """
    spellings = [
        None if answer is None else " ".join(normalise(answer).split()) or None for answer in answers
    ]
    counts = Counter(spelling for spelling in spellings if spelling is not None)
    found: list[list[str]] = []
    number: dict[str, int] = {}
    for spelling in sorted(counts, key=lambda s: (-counts[s], s)):
        at = next((i for i, others in enumerate(found) if _all_same(spelling, others, choices)), len(found))
        if at == len(found):
            found.append([])
        found[at].append(spelling)
        number[spelling] = at
    return [None if spelling is None else number[spelling] for spelling in spellings]


def _all_same(answer: str, others: list[str], choices: Sequence[str]) -> bool:
    return all(_accepts(other, answer, choices) or _accepts(answer, other, choices) for other in others)


def _accepts(gold: str, answer: str, choices: Sequence[str]) -> bool:
    try:
        return strict.judge(Gold((gold,), choices=tuple(choices)), answer) == "equal"
    except Exception:  # a defect of ours costs one vote its cluster, and never the evaluation
        _log.exception("the verifier failed on %.200r against %.200r", gold, answer)
        return False
