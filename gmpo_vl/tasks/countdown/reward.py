"""CountDown, scored as TinyZero does: nothing without `<answer>`, 0.1 for a wrong or invalid expression, 1
for a right one.

Three things differ: "= TARGET" may follow the expression, values are exact, and different answers in tags
side by side count as one invalid answer.
"""

from __future__ import annotations

from typing import Any

from gmpo_vl.rewards.about import About
from gmpo_vl.rewards.scoring import verdicts_of
from gmpo_vl.rewards.values import check_values
from gmpo_vl.verify import Verdict

REWARD_NAME = "countdown"
REWARD_TYPE = "batch"
ABOUT = About(
    when="The task countdown: an expression of all given numbers that gives a target.",
    gold='encode_answer(target, type="countdown", choices=numbers)',
    reads="the last <answer>, which the task's own prompt asks for",
    examples=(
        (
            '{"gold": "24", "type": "countdown", "choices": ["8", "3", "8", "3"]}',
            "<answer>8/(3-8/3)</answer>",
        ),
        ('{"gold": "24", "type": "countdown", "choices": ["8", "3", "8", "3"]}', "<answer>8*3</answer>"),
    ),
    options={"attempt": "what an answer that is wrong is worth"},
)


def compute_score(reward_inputs: list[dict[str, Any]], attempt: float = 0.1) -> list[dict[str, float]]:
    """`overall`, `accuracy` and `format` (there was an answer) per input. attempt: what a wrong answer is
    worth.

    The gold is `encode_answer(target, type="countdown", choices=numbers)`.
    """
    check_values(REWARD_NAME, attempt=attempt)
    scores = []
    for verdict in verdicts(reward_inputs):
        form = float(verdict.extracted is not None)
        scores.append(
            {
                "overall": 1.0 if verdict.correct else attempt * form,
                "accuracy": float(verdict.correct),
                "format": form,
            }
        )
    return scores


def verdicts(reward_inputs: list[dict[str, Any]]) -> list[Verdict]:
    return verdicts_of(reward_inputs, answer_in="tag")
