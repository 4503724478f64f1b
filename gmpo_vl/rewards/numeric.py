"""Numbers read off a picture: right within 5% of the gold, as in ChartQA; words must be equal."""

from gmpo_vl.rewards.scoring import functions_of

REWARD_NAME = "numeric"
REWARD_TYPE = "batch"
compute_score, verdicts = functions_of(REWARD_NAME)
