"""Text mathematics, as Dr.GRPO and GMPO train on it: the right answer in a box is everything.

`format` says that there was a box.
"""

from gmpo_vl.rewards.scoring import functions_of

REWARD_NAME = "math"
REWARD_TYPE = "batch"
compute_score, verdicts = functions_of(REWARD_NAME)
