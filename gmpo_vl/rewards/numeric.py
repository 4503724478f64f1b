"""Numbers read off a picture: right within 5% of the gold, as in ChartQA; words must be equal."""

from gmpo_vl.rewards.about import BOX_OR_TAG, About
from gmpo_vl.rewards.scoring import functions_of

REWARD_NAME = "numeric"
REWARD_TYPE = "batch"
ABOUT = About(
    when="Numbers read off a chart or a scale: ChartQA, PlotQA.",
    gold="a number; a word must be equal",
    reads=BOX_OR_TAG,
    examples=(("100", r"\boxed{104}"), ("100", r"\boxed{106}"), ("Canada", r"\boxed{canada}")),
)
compute_score, verdicts = functions_of(REWARD_NAME)
