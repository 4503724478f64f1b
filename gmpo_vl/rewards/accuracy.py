"""1 for the right answer in the last box, 0 otherwise; the form is worth nothing."""

from __future__ import annotations

from typing import Any

from gmpo_vl.rewards.scoring import right, verdicts_of
from gmpo_vl.verify import Verdict

REWARD_NAME = "accuracy"
REWARD_TYPE = "batch"


def compute_score(reward_inputs: list[dict[str, Any]]) -> list[dict[str, float]]:
    """`overall` and `accuracy`, which are the same, per input."""
    return [{"overall": a, "accuracy": a} for a in right(verdicts(reward_inputs))]


def verdicts(reward_inputs: list[dict[str, Any]]) -> list[Verdict]:
    return verdicts_of(reward_inputs)
