"""Geometry3K: 0.9 for the right answer, 0.1 for the form (reasoning in <think>, answer in a box), as EasyR1's math reward.

EasyR1 loads this file by its path (`worker.reward.reward_function: .../geometry3k.py:compute_score`), so imports are
absolute.
"""

from __future__ import annotations

from typing import Any

from gmpo_vl.rewards.formats import thinks_then_boxes
from gmpo_vl.rewards.scoring import answer_and_form, right, verdicts_of, with_settings
from gmpo_vl.verify import Gold, Verdict

REWARD_NAME = "geometry3k"
REWARD_TYPE = "batch"


def compute_score(
    reward_inputs: list[dict[str, Any]], format_weight: float = 0.1, rounded_golds: bool = True
) -> list[dict[str, float]]:
    """One dict of `overall`, `format` and `accuracy` per input, in order.

    format_weight: the share of the form in `overall`.
    rounded_golds: a decimal gold stands for every value that rounds to it: 2\\sqrt{21} and 9.17 answer 9.2, 9.3 and 9 do
        not. False asks for the decimal's own value. Two in three of Geometry3K's decimals are rounded (docs/decisions.md).
    """
    forms = [float(thinks_then_boxes(given["response"])) for given in reward_inputs]
    return answer_and_form(right(verdicts(reward_inputs, rounded_golds)), forms, format_weight)


def verdicts(reward_inputs: list[dict[str, Any]], rounded_golds: bool = True) -> list[Verdict]:
    """What the verifier says about each input; asked twice about one batch, it answers from its cache."""
    return verdicts_of(reward_inputs, _rounded if rounded_golds else None)


def _rounded(gold: Gold) -> Gold:
    decimal = all(
        "." in text and text.lstrip("-").replace(".", "", 1).strip().isdigit() for text in gold.alternatives
    )
    return with_settings(gold, type="rounded") if decimal else gold
