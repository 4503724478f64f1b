"""Numbers read off a picture: relaxed accuracy, right within 5% of the gold as in ChartQA; words must be equal."""

from __future__ import annotations

from typing import Any

from gmpo_vl.rewards.scoring import answer_and_form, answered, right, verdicts_of, with_settings
from gmpo_vl.verify import Verdict

REWARD_NAME = "numeric"
REWARD_TYPE = "batch"


def compute_score(
    reward_inputs: list[dict[str, Any]],
    tolerance: float = 0.05,
    format_weight: float = 0.0,
    answer_in: str = "box",
) -> list[dict[str, float]]:
    """`overall`, `format` and `accuracy` per input. tolerance: relative, where the gold brings none of its own."""
    said = verdicts(reward_inputs, tolerance, answer_in)
    return answer_and_form(right(said), answered(said), format_weight)


def verdicts(
    reward_inputs: list[dict[str, Any]], tolerance: float = 0.05, answer_in: str = "box"
) -> list[Verdict]:
    return verdicts_of(
        reward_inputs, lambda gold: with_settings(gold, tolerance=tolerance), answer_in=answer_in
    )
