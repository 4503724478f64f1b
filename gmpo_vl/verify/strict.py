"""The strict profile: a gold and the content of a box to an outcome."""

from __future__ import annotations

from functools import lru_cache

from gmpo_vl.verify import countdown
from gmpo_vl.verify.choices import choices_of, judge_choice, judge_letters
from gmpo_vl.verify.gold import Gold
from gmpo_vl.verify.lex import MAX_CHARS
from gmpo_vl.verify.marks import unmarked
from gmpo_vl.verify.quantities import Leeway
from gmpo_vl.verify.values import judge_value, type_of


@lru_cache(maxsize=50_000)
def judge(gold: Gold, answer: str) -> str:
    """The outcome for the content of a box: `equal`, `different`, `hedged`, `undecided`, `unreadable` or `too_long`."""
    if len(answer) > MAX_CHARS:
        return "too_long"
    if gold.type == "countdown":
        return countdown.judge(gold, answer)
    answer = unmarked(answer)
    outcomes = _outcomes(gold, answer)
    if len(outcomes) == 1:
        return outcomes[0]
    for outcome in ("equal", "undecided"):
        if outcome in outcomes:
            return outcome
    return outcomes[0]


def _outcomes(gold: Gold, answer: str) -> list[str]:
    """One for each right option of a choice, or for each alternative of any other gold."""
    if choices := choices_of(gold):
        return [judge_choice(choice, Leeway(gold.tolerance), answer) for choice in choices]
    return [_judge(alternative, gold, answer) for alternative in gold.alternatives]


def _judge(alternative: str, gold: Gold, answer: str) -> str:
    if gold.type is None and (outcome := judge_letters(alternative, answer)):
        return outcome
    kind = gold.type or type_of(alternative)
    return judge_value(alternative, kind, Leeway(gold.tolerance, kind == "rounded"), answer)


@lru_cache(maxsize=50_000)
def gold_type(gold: Gold) -> str:
    """What a gold is read as; the field of the verdict."""
    return gold.type or ("choice" if gold.choices else type_of(gold.alternatives[0]))
