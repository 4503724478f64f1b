"""1 for the right answer in the last box, 0 otherwise; the form is worth nothing."""

from gmpo_vl.rewards.about import BOX, About
from gmpo_vl.rewards.scoring import functions_of

REWARD_NAME = "accuracy"
REWARD_TYPE = "batch"
ABOUT = About(
    when="The answer is all that counts: for evaluation, and where the form needs no teaching.",
    gold="a number, an expression, a letter, a word; several golds, of which one is enough",
    reads=BOX,
    examples=((r"\frac12", r"<think>Half.</think> \boxed{0.5}"), ("5", "The answer is 5.")),
)
compute_score, verdicts = functions_of(REWARD_NAME)
