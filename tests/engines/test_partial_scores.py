"""A reward may leave parts out of some scores: figures are over the responses that have them."""

import pytest

from gmpo_vl.engines.local.engine import train

# `even` is part of the scores of even lengths only, and says 1 there: any mean over other rows would be below
# 1.
REWARD = """
def compute_score(reward_inputs):
    scores = []
    for i, given in enumerate(reward_inputs):
        right = float(sum(map(ord, given["response"])) % 3 == 0)
        scores.append({"overall": right, "accuracy": right, **({"even": 1.0} if i % 2 else {})})
    return scores
"""


@pytest.fixture
def partial_reward(tmp_path) -> str:
    (tmp_path / "partial.py").write_text(REWARD)
    return f"worker.reward.reward_function={tmp_path / 'partial.py'}:compute_score"


def test_a_part_of_some_scores_is_averaged_over_those(make_config, partial_reward):
    lines = train(make_config("trainer.max_steps=2", partial_reward)).read_metrics()
    assert [line["reward/even"] for line in lines if "reward/even" in line] == [1.0, 1.0]
    assert {line["val/even"] for line in lines if "val/even" in line} == {1.0}
    assert any("val/even" in line for line in lines)


def test_filtering_by_a_part_that_no_score_has_is_an_error_with_the_parts_there_are(
    make_config, partial_reward
):
    filtering = ("algorithm.online_filtering=true", "trainer.max_try_make_batch=2")
    with pytest.raises(ValueError, match=r"filter_key='speed'.*overall, accuracy, even"):
        train(make_config(partial_reward, *filtering, "algorithm.filter_key=speed"))


def test_filtering_by_a_part_that_some_scores_have_goes_on(make_config, partial_reward):
    filtering = ("algorithm.online_filtering=true", "trainer.max_try_make_batch=2")
    run = train(make_config("trainer.max_steps=1", partial_reward, *filtering, "algorithm.filter_key=even"))
    assert run.read_metrics()[-1]["filter/tries"] == 2  # every mean is 1: no group has variance
