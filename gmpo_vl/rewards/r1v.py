"""The r1v form: `<think>...</think><answer>...</answer>`.

Half is for the answer in the tag and half for the form, as EasyR1's.
"""

from gmpo_vl.rewards.scoring import functions_of

REWARD_NAME = "r1v"
REWARD_TYPE = "batch"
compute_score, verdicts = functions_of(REWARD_NAME)
