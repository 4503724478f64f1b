"""Short text with several references: right if it is one of them.

Case, articles and punctuation do not count, but marks between digits do: 1.5 is no 1-5. Letters are words,
never symbols: PA is no AP. A number is one in words, too: two is 2 and 2.0. An amount may lack its unit, and
be written otherwise (-5 °C, 2½, 1.5 million); but 2nd is no 2, 1002 no 01002, $7 no 7%, and 3+4 is not worked
out.
"""

from gmpo_vl.rewards.about import BOX_OR_TAG, About
from gmpo_vl.rewards.scoring import functions_of

REWARD_NAME = "text"
REWARD_TYPE = "batch"
ABOUT = About(
    when="Short answers in words, or in words and numbers; several references: TextVQA, OK-VQA, GQA, names.",
    gold="a text, or several references",
    reads=BOX_OR_TAG,
    examples=(
        ('{"gold": ["New York", "NYC"]}', r"\boxed{the new york}"),
        ("New York", r"\boxed{York}"),
        ("2", r"\boxed{two}"),
    ),
)
compute_score, verdicts = functions_of(REWARD_NAME)
