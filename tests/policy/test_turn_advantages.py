"""Advantages and weights of turns: by hand, against the formulas, and with one turn an episode today's."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gmpo_vl.policy import Episodes, TurnRules, step_advantages, turn_advantages, turn_weights
from gmpo_vl.policy.episodes import OF_STATES, TURN_ESTIMATORS, anchored_share, discounted_returns

NAN = float("nan")
BASELINES, PENALTIES = ("turns", "episodes"), ("before", "after")
AS_TODAY = ("grpo", "grpo_no_std", "rloo", "reinforce_plus_plus_baseline")


def games(scores, lengths, penalties=None, rewards=None, seen=None, key="") -> Episodes:
    """An episode per score, of as many turns as `lengths` says; its score is its last turn's reward."""
    turns = sum(lengths)
    last = [r for score, n in zip(scores, lengths) for r in [0.0] * (n - 1) + [score]]
    return Episodes(
        torch.tensor(scores, dtype=torch.float64),
        torch.arange(len(scores)).repeat_interleave(torch.tensor(lengths)),
        torch.tensor(penalties or [0.0] * turns, dtype=torch.float64),
        torch.tensor(rewards or last, dtype=torch.float64),
        seen or [str(n) for n in range(turns)],
        key,
    )


def one(group: Episodes, *rules, **more) -> list[float]:
    (found,), _ = turn_advantages([group], TurnRules(*rules, **more))
    return found.tolist()


SCORES = [[1.0, 0.0, 0.25, 1.0], [0.1, 0.1, 0.1, 0.1], [0.7, NAN, 0.2, 0.3], [NAN, NAN, 0.5, NAN]]


@pytest.mark.parametrize(
    ("estimator", "baseline"),
    [(e, b) for e in AS_TODAY for b in BASELINES if (e, b) != ("rloo", "turns")],
)
@pytest.mark.parametrize("penalty", PENALTIES)
def test_one_turn_an_episode_is_today_s_to_the_last_digit(estimator, baseline, penalty):
    found, std = turn_advantages([games(s, [1] * 4) for s in SCORES], TurnRules(estimator, baseline, penalty))
    want, std_today = step_advantages(
        [torch.tensor(s, dtype=torch.float64).unsqueeze(-1) for s in SCORES], estimator
    )
    assert std == std_today
    for ours, todays in zip(found, want):
        assert ours.dtype == todays.dtype
        assert ours.tolist() == todays.tolist()


@given(
    st.lists(
        st.tuples(st.sampled_from([0.0, 0.3, 1.0, 10.0]), st.integers(1, 9)), min_size=2, max_size=8
    ).filter(lambda games: len({score for score, _ in games}) > 1)
)
def test_without_penalties_each_baseline_is_a_plain_mean_of_what_it_is_named_after(played):
    scores, lengths = [list(column) for column in zip(*played)]
    rows = [score for score, n in played for _ in range(n)]
    for baseline, over in (("turns", rows), ("episodes", scores)):
        mean, std = torch.tensor(over).double().mean(), torch.tensor(over).double().std()
        want = [(score - float(mean)) / (float(std) + 1e-6) for score in rows]
        assert one(games(scores, lengths), "grpo", baseline) == pytest.approx(want, rel=1e-5, abs=1e-6)
        want = [score - float(mean) for score in rows]
        assert one(games(scores, lengths), "grpo_no_std", baseline) == pytest.approx(want, rel=1e-5, abs=1e-6)
    leave_one_out = [
        score - (sum(scores) - score) / (len(scores) - 1) for score, n in played for _ in range(n)
    ]
    assert one(games(scores, lengths), "rloo", "episodes") == pytest.approx(leave_one_out, rel=1e-5, abs=1e-6)


def test_penalties_before_are_in_the_statistics_and_after_they_are_not():
    """Two episodes of one and three turns: 1 won, 0 lost with its second turn invalid."""
    group = games([1.0, 0.0], [1, 3], penalties=[0, 0, 0.1, 0])
    mean = (1 - 0.1) / 4
    assert one(group, "grpo_no_std") == pytest.approx([1 - mean, -mean, -0.1 - mean, -mean])
    rows = torch.tensor([1.0, 0.0, -0.1, 0.0], dtype=torch.float64)
    want = (rows - mean) / (rows.std() + 1e-6)
    assert one(group, "grpo") == pytest.approx(want.tolist(), rel=1e-6)
    # v = 1, 1/3, 1/3, 1/3: the second episode's mean is -0.1/3; sum v is 2.
    mean = (1 - 0.1 / 3) / 2
    variance = (1 - mean) ** 2 + (2 * mean**2 + (0.1 + mean) ** 2) / 3
    want = [(r - mean) / (math.sqrt(variance) + 1e-6) for r in rows.tolist()]
    assert one(group, "grpo", "episodes") == pytest.approx(want, rel=1e-6)
    assert one(group, "grpo_no_std", "turns", "after") == pytest.approx([0.75, -0.25, -0.35, -0.25])
    assert one(group, "grpo_no_std", "episodes", "after") == pytest.approx([0.5, -0.5, -0.6, -0.5])


@pytest.mark.parametrize("baseline", BASELINES)
def test_the_batch_s_deviation_has_the_baseline_s_weights(baseline):
    groups = [games([1.0, 0.0, 0.0], [2, 5, 1]), games([0.0, 0.0], [4, 4]), games([3.0, NAN, 1.0], [1, 7, 3])]
    found, std = turn_advantages(groups, TurnRules("reinforce_plus_plus_baseline", baseline))
    centred, _ = turn_advantages(groups, TurnRules("grpo_no_std", baseline))
    weights = [1 / g.lengths_N if baseline == "episodes" else torch.ones(len(g.episode_N)) for g in groups]
    weights = [v * g.scored_N for v, g in zip(weights, groups)]
    count = sum(float(v.sum()) for v in weights)
    assert count == pytest.approx(7 if baseline == "episodes" else 20)
    squares = sum(float((v * a.double() ** 2).sum()) for v, a in zip(weights, centred))
    assert std == pytest.approx(math.sqrt(squares / (count - 1) + 1e-8), rel=1e-6)
    for a, c, v in zip(found, centred, weights):
        torch.testing.assert_close(a, (c / std).float())
        assert abs(float((v * a).sum())) < 1e-6  # the batch's mean is 0, so it is not subtracted
    turned = turn_advantages(groups[::-1], TurnRules("reinforce_plus_plus_baseline", baseline))
    assert turned[1] == std


@pytest.mark.parametrize("estimator", TURN_ESTIMATORS)
@pytest.mark.parametrize("penalty", PENALTIES)
def test_equal_scores_give_exactly_0_and_unscored_episodes_change_nothing(estimator, penalty):
    rules = TurnRules(estimator, "episodes", penalty)
    flat = games([0.1] * 3, [3, 7, 1], rewards=[0.1] + [0.0] * 10, seen=["a"] * 11)
    flat = Episodes(flat.scores_G, flat.episode_N, flat.penalties_N, 0 * flat.rewards_N, flat.seen_N)
    assert one(flat, estimator, "episodes", penalty) == [0.0] * 11
    some = games([1.0, NAN, 0.0], [2, 3, 4], penalties=[0.1, 0, 9, 9, 9, 0, 0.2, 0, 0], seen=["a"] * 9)
    less = games([1.0, 0.0], [2, 4], penalties=[0.1, 0, 0, 0.2, 0, 0], seen=["a"] * 6)
    (found,), std = turn_advantages([some], rules)
    (want,), std_without = turn_advantages([less], rules)
    assert std == std_without
    assert found[2:5].tolist() == [0.0] * 3
    assert torch.equal(torch.cat([found[:2], found[5:]]), want)
    alone = games([NAN, 0.4], [2, 3], penalties=[0.1] * 5)
    left = -0.1 if penalty == "after" else 0.0
    assert one(alone, estimator, "episodes", penalty) == pytest.approx([0, 0, left, left, left])


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match=r"rloo leaves an episode out.*episode_baseline episodes"):
        one(games([1.0, 0.0], [1, 2]), "rloo")
    with pytest.raises(ValueError, match=r"gdpo has no advantages of turns.*gigpo"):
        one(games([1.0, 0.0], [1, 2]), "gdpo", "episodes")
    with pytest.raises(ValueError, match=r"'game 7' has 1 episode.*worker.rollout.n"):
        one(games([1.0], [4], key="game 7"), "grpo")
    with pytest.raises(ValueError, match=r"'game 7' has a reward that is not finite"):
        one(games([1.0, math.inf], [1, 1], key="game 7"), "grpo")


def test_weights_of_turns():
    group = games([1.0, 0.0, 0.5], [1, 4, 2])
    assert turn_weights(group, "turn") is None
    assert turn_weights(group, "episode").tolist() == [1.0] + [0.25] * 4 + [0.5] * 2


# --- GiGPO. Two episodes: a -> b -> won, and a -> a -> c -> lost with an invalid second turn.

SEEN = ["a", "b", "a", "a", "c"]


def two_episodes() -> Episodes:
    return games([1.0, 0.0], [2, 3], penalties=[0, 0, 0, 0.1, 0], seen=SEEN)


def test_returns_are_discounted_within_an_episode():
    group = games([1.5, 0.0], [3, 2], rewards=[0.5, 0.0, 1.0, 0.0, 2.0])
    assert discounted_returns(group, 0.5).tolist() == [0.75, 0.5, 1.0, 1.0, 2.0]
    assert discounted_returns(group, 1.0).tolist() == [1.5, 1.0, 1.0, 2.0, 2.0]
    assert discounted_returns(group, 0.0).tolist() == group.rewards_N.tolist()


@pytest.mark.parametrize("estimator", OF_STATES)
def test_gigpo_by_hand(estimator):
    """`a` was seen by turns 0, 2 and 3, whose returns are 0.9, 0 and -0.1; `b` and `c` by one turn each."""
    returns = torch.tensor([0.9, 0.0, -0.1], dtype=torch.float64)
    step = returns - returns.mean()
    rows = torch.tensor([1.0, 1.0, 0.0, -0.1, 0.0], dtype=torch.float64)
    episode = rows - rows.mean()
    if estimator == "gigpo":
        step, episode = step / (returns.std() + 1e-6), episode / (rows.std() + 1e-6)
    want = episode.clone()
    want[[0, 2, 3]] += 0.5 * step
    found = one(two_episodes(), estimator, step_weight=0.5, gamma=0.9)
    assert found == pytest.approx(want.tolist(), rel=1e-6)
    assert anchored_share([two_episodes()]) == 0.6


def test_gigpo_with_a_penalty_after_takes_it_once():
    returns = torch.tensor([0.9, 0.0, 0.0], dtype=torch.float64)
    want = torch.tensor([0.6, 0.6, -0.4, -0.4, -0.4], dtype=torch.float64)  # two of five turns are of the won
    want[[0, 2, 3]] += returns - returns.mean()
    want[3] -= 0.1
    found = one(two_episodes(), "gigpo_no_std", "turns", "after", gamma=0.9)
    assert found == pytest.approx(want.tolist(), rel=1e-6)


@pytest.mark.parametrize(("estimator", "of_episodes"), OF_STATES.items())
@pytest.mark.parametrize("baseline", BASELINES)
def test_gigpo_without_states_seen_twice_or_without_weight_is_grpo(estimator, of_episodes, baseline):
    group = two_episodes()
    alone = Episodes(group.scores_G, group.episode_N, group.penalties_N, group.rewards_N, list("abcde"))
    want = one(group, of_episodes, baseline)
    assert one(alone, estimator, baseline) == want
    assert one(group, estimator, baseline, step_weight=0.0) == want
    assert anchored_share([alone]) == 0
