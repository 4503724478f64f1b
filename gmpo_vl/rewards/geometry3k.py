"""Geometry3K: 0.9 for the right answer, 0.1 for the form (reasoning in <think>, answer in a box), as EasyR1's
math reward.

`rounded_golds`: 2\\sqrt{21} and 9.17 answer a gold 9.2; 9.3 and 9 do not. False asks for the decimal's own
value. Two in three of Geometry3K's decimals are rounded (docs/decisions.md).

The form counts in the response alone. Where the chat template opens <think> in the prompt, as Qwen3.5's does,
no response begins with it: set `format_weight` to 0 there.
"""

from gmpo_vl.rewards.about import BOX, About
from gmpo_vl.rewards.scoring import functions_of

REWARD_NAME = "geometry3k"
REWARD_TYPE = "batch"
ABOUT = About(
    when="Geometry and other mathematics with pictures, under the prompt math, as EasyR1 trains Geometry3K.",
    gold="a number or an expression; a decimal counts as rounded",
    reads=BOX,
    examples=(
        ("9.2", r"<think>The side is $2\sqrt{21}$.</think> \boxed{2\sqrt{21}}"),
        ("9.2", r"<think>It is nine.</think> \boxed{9}"),
        ("9.2", r"\boxed{9.2}"),
    ),
    parts={"format": "1 for <think>...</think> and a box after it"},
)
compute_score, verdicts = functions_of(REWARD_NAME)
