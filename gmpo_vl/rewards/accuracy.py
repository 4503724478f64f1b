"""1 for the right answer in the last box, 0 otherwise; the form is worth nothing."""

from gmpo_vl.rewards.scoring import functions_of

REWARD_NAME = "accuracy"
REWARD_TYPE = "batch"
compute_score, verdicts = functions_of(REWARD_NAME)
