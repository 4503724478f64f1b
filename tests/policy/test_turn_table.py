"""What docs/agents.md says of weights and baselines of games: exactly, on the toy of its table."""

import runpy
import sys
from pathlib import Path

import pytest
import torch

from gmpo_vl.policy import TurnRules, turn_advantages

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.append(str(BENCHMARKS))
TABLE = runpy.run_path(str(BENCHMARKS / "turn_table.py"))
GROUP, TURNS, PAIRS = TABLE["GROUP"], TABLE["TURNS"], TABLE["PAIRS"]


def gradient_of(this, weight, baseline, estimator="grpo_no_std", normed=False):
    advantages = TABLE["expected_advantages"](this, baseline, estimator)
    return TABLE["gradient"](this, advantages, weight, normed)


def test_the_toy_s_gradient_is_that_of_its_expected_score():
    """By finite differences of the logits; chances add up to 1."""
    this = TABLE["toy"](3)
    go_on_K = this.pull_K.neg() + 1
    logits_K = torch.logit(go_on_K).requires_grad_()
    p_K = logits_K.sigmoid()
    reached_K = torch.cat([torch.ones(1, dtype=torch.float64), p_K.cumprod(0)])
    chance_E = torch.cat([reached_K[:-1] * (1 - p_K), reached_K[-1:]])
    assert chance_E.tolist() == pytest.approx(this.chance_E.tolist(), rel=1e-12)
    assert float(this.chance_E.sum()) == pytest.approx(1.0, rel=1e-12)
    (chance_E @ this.scores_E).backward()
    assert TABLE["true_gradient"](this).tolist() == pytest.approx(logits_K.grad.tolist(), rel=1e-9)
    chances = [chance for _, chance, _ in TABLE["groups"](this)]
    assert sum(chances) == pytest.approx(1.0, rel=1e-12)


@pytest.mark.parametrize(("weight", "baseline"), PAIRS)
def test_only_turns_of_one_weight_with_a_baseline_of_episodes_follow_the_gradient(weight, baseline):
    """(G - 1) / G of it in every parameter; rloo all of it. Advantages are float32."""
    this = TABLE["toy"](0)
    ratio_K = gradient_of(this, weight, baseline) / TABLE["true_gradient"](this)
    if (weight, baseline) == ("turn", "episodes"):
        assert ratio_K.tolist() == pytest.approx([(GROUP - 1) / GROUP] * TURNS, rel=1e-5)
        ratio_K = gradient_of(this, weight, baseline, "rloo") / TABLE["true_gradient"](this)
        assert ratio_K.tolist() == pytest.approx([1.0] * TURNS, rel=1e-5)
    else:
        assert ratio_K.max() > 1.05 * ratio_K.min()


@pytest.mark.parametrize("seed", range(2))
def test_with_two_scores_std_changes_the_length_alone(seed):
    """Of one game, with a baseline of episodes. Of four episodes one to three are won: two deviations."""
    this = TABLE["toy"](seed)
    this = this._replace(scores_E=(this.scores_E > 0.4).double(), group=4)
    found_K, true_K = gradient_of(this, "turn", "episodes", "grpo"), TABLE["true_gradient"](this)
    cosine, projection = TABLE["cosine_and_projection"](found_K, true_K)
    assert cosine == pytest.approx(1.0, abs=1e-9)
    assert projection != pytest.approx(0.75, rel=0.1)
    other, _ = TABLE["cosine_and_projection"](gradient_of(this, "turn", "turns", "grpo"), true_K)
    assert other < 1 - 1e-4


def test_a_baseline_of_turns_is_that_of_the_others_damped_by_an_episode_s_share_of_the_turns():
    this = TABLE["toy"](1)
    for episodes, _, group in TABLE["groups"](this)[::7]:
        (found_N,), _ = turn_advantages([group], TurnRules("grpo_no_std", "turns"))
        lengths = this.lengths_E[list(episodes)].double()
        scores = this.scores_E[list(episodes)]
        want = []
        for i in range(len(episodes)):
            others = [j for j in range(len(episodes)) if j != i]
            mean = (lengths[others] * scores[others]).sum() / lengths[others].sum()
            want.append(float((1 - lengths[i] / lengths.sum()) * (scores[i] - mean)))
        assert found_N.tolist() == pytest.approx(
            torch.tensor(want)[group.episode_N].tolist(), rel=1e-5, abs=1e-6
        )


def test_the_page_s_table_is_as_the_code_is():
    page = TABLE["PAGE"]
    assert page.text() == page.written(), "write it anew: python benchmarks/turn_table.py --write"
