"""The r1v form: `<think>...</think><answer>...</answer>`.

Half is for the answer in the tag and half for the form, as EasyR1's.

The form counts in the response alone. Where the chat template opens <think> in the prompt, as Qwen3.5's does,
no response begins with it: set `format_weight` to 0 there.
"""

from gmpo_vl.rewards.about import TAG, About
from gmpo_vl.rewards.scoring import functions_of

REWARD_NAME = "r1v"
REWARD_TYPE = "batch"
ABOUT = About(
    when="Prompts that ask for <think> and <answer>, such as r1v; any kind of answer.",
    gold="a number, an expression, a letter, a word",
    reads=TAG,
    examples=(
        ("5", "<think>2 + 3</think> <answer>5</answer>"),
        ("5", "<answer>5</answer>"),
        ("5", r"\boxed{5}"),
    ),
    parts={"format": "1 for <think>...</think><answer>...</answer> and nothing else"},
)
compute_score, verdicts = functions_of(REWARD_NAME)
