"""Our verdicts beside those of the harness that the answers were imported from.

Importing this needs no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from gmpo_vl.evaluation.aggregates import Shares, aggregated
from gmpo_vl.evaluation.two_graders import RIGHT, compared, shown
from gmpo_vl.samples import OFFICIAL, SampleRecord
from gmpo_vl.verify import parse_gold
from gmpo_vl.verify.strict import judge


def official_figures(records: Sequence[SampleRecord]) -> dict[str, Any] | None:
    """Both totals over the answers that have a verdict of the harness, their difference (ours - official,
    paired by question), and the disputes both ways; None where no answer has one. Its score of at least 0.5
    counts as right where verdicts are compared. records: a question's together."""
    having = [record for record in records if OFFICIAL in record.reward]
    if not having:
        return None
    found = compared(having, lambda record: record.reward[OFFICIAL], lambda record: float(record.correct))
    return {
        "answers": found.table.answers,
        "questions": found.questions,
        **shown(found.first),
        "ours": found.second.value,
        "difference": shown(found.difference),
        "only_ours_right": found.table.only_second,
        "only_official_right": found.table.only_first,
        "agreement": found.table.agreement,
        "kappa": found.table.kappa,
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
