"""The r1v form: `<think>...</think><answer>...</answer>`, half for the answer in the tag and half for the form, as EasyR1's."""

from __future__ import annotations

from typing import Any

from gmpo_vl.rewards.formats import thinks_then_answers
from gmpo_vl.rewards.scoring import answer_and_form, right, verdicts_of
from gmpo_vl.verify import Verdict

REWARD_NAME = "r1v"
REWARD_TYPE = "batch"


def compute_score(reward_inputs: list[dict[str, Any]], format_weight: float = 0.5) -> list[dict[str, float]]:
    """`overall`, `format` and `accuracy` per input. format_weight: the share of the form in `overall`."""
    forms = [float(thinks_then_answers(given["response"])) for given in reward_inputs]
    return answer_and_form(right(verdicts(reward_inputs)), forms, format_weight)


def verdicts(reward_inputs: list[dict[str, Any]]) -> list[Verdict]:
    return verdicts_of(reward_inputs, answer_in="tag")
