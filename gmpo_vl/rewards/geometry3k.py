"""Geometry3K: 0.9 for the right answer, 0.1 for the form (reasoning in <think>, answer in a box), as EasyR1's math reward.

EasyR1 loads this file by its path (`worker.reward.reward_function: .../geometry3k.py:compute_score`), so imports are
absolute.
"""

from __future__ import annotations

from typing import Any

from gmpo_vl.rewards.formats import thinks_then_boxes
from gmpo_vl.verify import Verdict, verify_batch

REWARD_NAME = "geometry3k"
REWARD_TYPE = "batch"


def compute_score(reward_inputs: list[dict[str, Any]], format_weight: float = 0.1) -> list[dict[str, float]]:
    """One dict of `overall`, `format` and `accuracy` per input, in order. `format_weight` is the share of the form."""
    scores = []
    for given, verdict in zip(reward_inputs, verdicts(reward_inputs)):
        form = float(thinks_then_boxes(given["response"]))
        accuracy = float(verdict.correct)
        overall = (1 - format_weight) * accuracy + format_weight * form
        scores.append({"overall": overall, "format": form, "accuracy": accuracy})
    return scores


def verdicts(reward_inputs: list[dict[str, Any]]) -> list[Verdict]:
    """What the verifier says about each input; asked twice about one batch, it answers from its cache."""
    return verify_batch(
        [given["ground_truth"] for given in reward_inputs], [given["response"] for given in reward_inputs]
    )
