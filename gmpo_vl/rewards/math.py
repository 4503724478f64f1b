"""Text mathematics, as Dr.GRPO and GMPO train on it: the right answer in a box is everything.

`format` says that there was a box.
"""

from gmpo_vl.rewards.about import BOX, About
from gmpo_vl.rewards.scoring import functions_of

REWARD_NAME = "math"
REWARD_TYPE = "batch"
ABOUT = About(
    when="MATH, GSM8K and the like, without pictures; profile: paper judges as the published graders do.",
    gold="a number or an expression",
    reads=BOX,
    examples=((r"\frac{32\pi}{3}", r"\boxed{\frac{32}{3}\pi}"), ("5", r"\boxed{6}"), ("5", "It is 5.")),
)
compute_score, verdicts = functions_of(REWARD_NAME)
