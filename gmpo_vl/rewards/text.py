"""Short text with several references: right if it is one of them.

Case, articles and punctuation do not count.
"""

from gmpo_vl.rewards.scoring import functions_of

REWARD_NAME = "text"
REWARD_TYPE = "batch"
compute_score, verdicts = functions_of(REWARD_NAME)
