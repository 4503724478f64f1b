"""Multiple choice: the right letter, or the text of the right choice where the gold brings the choices."""

from gmpo_vl.rewards.scoring import functions_of

REWARD_NAME = "choice"
REWARD_TYPE = "batch"
compute_score, verdicts = functions_of(REWARD_NAME)
