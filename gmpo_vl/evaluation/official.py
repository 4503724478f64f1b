"""Our verdicts beside those of the harness that the answers were imported from.

Importing this needs no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from operator import attrgetter
from typing import Any

import numpy as np

from gmpo_vl.evaluation.aggregates import Shares, aggregated
from gmpo_vl.evaluation.statistics import mean_share, paired_difference
from gmpo_vl.samples import OFFICIAL, SampleRecord
from gmpo_vl.verify import parse_gold
from gmpo_vl.verify.strict import judge

RIGHT = 0.5  # a harness's score from which on it calls an answer right


def is_disputed(reward: dict[str, float], correct: bool) -> bool:
    """Whether the harness says otherwise."""
    return OFFICIAL in reward and (reward[OFFICIAL] >= RIGHT) != correct


def official_figures(records: Sequence[SampleRecord]) -> dict[str, Any] | None:
    """Both totals over the answers that have a verdict of the harness, their difference (ours - official,
    paired by question), and the disputes both ways; None where no answer has one. records: a question's
    together."""
    having = [record for record in records if OFFICIAL in record.reward]
    if not having:
        return None
    groups = [list(group) for _, group in groupby(having, attrgetter("id"))]
    official_Q = np.array([np.mean([r.reward[OFFICIAL] for r in group]) for group in groups])
    ours_Q = np.array([np.mean([r.correct for r in group]) for group in groups])
    official, difference = mean_share(official_Q), paired_difference(official_Q, ours_Q)
    disputed = [record for record in having if is_disputed(record.reward, record.correct)]
    return {
        "answers": len(having),
        "questions": len(groups),
        "value": official.value,
        "ci95": [official.low, official.high],
        "ours": float(ours_Q.mean()),
        "difference": {"value": difference.value, "ci95": [difference.low, difference.high]},
        "only_ours_right": sum(record.correct for record in disputed),
        "only_official_right": sum(not record.correct for record in disputed),
    }


def official_aggregates(name: str, records: Sequence[SampleRecord], n: int) -> Shares | None:
    """The benchmark's shares by the harness's own verdicts, over the questions of which every answer has one;
    None where no question has. records: n per question, a question's together."""
    groups = [records[at : at + n] for at in range(0, len(records), n)]
    judged = [record for group in groups if all(OFFICIAL in r.reward for r in group) for record in group]
    theirs = [replace(record, correct=record.reward[OFFICIAL] >= RIGHT) for record in judged]
    return aggregated(name, theirs, n) if theirs else None


def golds_agree(a: str, b: str) -> bool:
    """Whether two golds can be of one question: what one says is right by the other, without its tolerance.
    One that no verifier reads must be the same text."""
    if a == b:
        return True
    try:
        first, second = (replace(parse_gold(gold), tolerance=None) for gold in (a, b))
    except ValueError:
        return False
    pairs = ((first, second), (second, first))
    return any(judge(gold, text) == "equal" for gold, other in pairs for text in other.answers)
