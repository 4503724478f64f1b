"""Text mathematics, as Dr.GRPO and GMPO train on it: the right answer in a box is everything; `format` says that there was a box."""

from __future__ import annotations

from typing import Any

from gmpo_vl.rewards.scoring import answer_and_form, answered, right, verdicts_of
from gmpo_vl.verify import Verdict

REWARD_NAME = "math"
REWARD_TYPE = "batch"


def compute_score(
    reward_inputs: list[dict[str, Any]], format_weight: float = 0.0, profile: str = "strict"
) -> list[dict[str, float]]:
    """`overall`, `format` and `accuracy` per input.

    format_weight: the share of the form in `overall`. profile: "strict", or "paper" for the published grader's decisions.
    """
    said = verdicts(reward_inputs, profile)
    return answer_and_form(right(said), answered(said), format_weight)


def verdicts(reward_inputs: list[dict[str, Any]], profile: str = "strict") -> list[Verdict]:
    return verdicts_of(reward_inputs, profile=profile)
