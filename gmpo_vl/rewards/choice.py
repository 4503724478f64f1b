"""Multiple choice: the right letter, or the text of the right choice where the gold brings the choices."""

from __future__ import annotations

from typing import Any

from gmpo_vl.rewards.scoring import answer_and_form, answered, right, verdicts_of, with_settings
from gmpo_vl.verify import Verdict

REWARD_NAME = "choice"
REWARD_TYPE = "batch"


def compute_score(
    reward_inputs: list[dict[str, Any]], format_weight: float = 0.0, answer_in: str = "box"
) -> list[dict[str, float]]:
    """`overall`, `format` (there was an answer in its place) and `accuracy` per input. answer_in: "box" or "tag"."""
    said = verdicts(reward_inputs, answer_in)
    return answer_and_form(right(said), answered(said), format_weight)


def verdicts(reward_inputs: list[dict[str, Any]], answer_in: str = "box") -> list[Verdict]:
    return verdicts_of(reward_inputs, lambda gold: with_settings(gold, type="choice"), answer_in=answer_in)
