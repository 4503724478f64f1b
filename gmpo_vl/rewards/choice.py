"""Multiple choice: the right letter, or the text of the right choice where the gold brings the choices."""

from gmpo_vl.rewards.about import BOX_OR_TAG, About
from gmpo_vl.rewards.scoring import functions_of

REWARD_NAME = "choice"
REWARD_TYPE = "batch"
ABOUT = About(
    when="MMBench, ScienceQA, MathVision's options: every gold that is a letter.",
    gold="a letter; with the texts of the choices (encode_answer) the right text is right as well",
    reads=BOX_OR_TAG,
    examples=(
        ('{"gold": "B", "choices": ["cat", "dog"]}', r"\boxed{\text{dog}}"),
        ("B", r"\boxed{A}"),
    ),
)
compute_score, verdicts = functions_of(REWARD_NAME)
