"""Short text with several references: right if it is one of them.

Case, articles and punctuation do not count, but marks between digits do: 1.5 is no 1-5.
"""

from gmpo_vl.rewards.about import BOX_OR_TAG, About
from gmpo_vl.rewards.scoring import functions_of

REWARD_NAME = "text"
REWARD_TYPE = "batch"
ABOUT = About(
    when="Short answers in words, with several references: TextVQA, OK-VQA, names.",
    gold="a text, or several references",
    reads=BOX_OR_TAG,
    examples=(('{"gold": ["New York", "NYC"]}', r"\boxed{the new york}"), ("New York", r"\boxed{York}")),
)
compute_score, verdicts = functions_of(REWARD_NAME)
