"""From the scores of a step's games to the advantages of their turns, and what a turn weighs in an update.

A group holds G episodes of one game. Episode i has T_i turns; a turn is a sample of its own, with its own
geometric mean, and an update maximises

    J = sum_it w_it A_it (prod_j rho'_itj)^(1/|o_it|) / sum_it w_it

    w_it    1 (`turn`), or 1 / T_i (`episode`)
    v_it    1 (baseline `turns`), or 1 / T_i (`episodes`), in the statistics of
    r_it    R_i - p_it (penalty `before`), or R_i (`after`)

    mean = sum v r / sum v        variance = sum v (r - mean)^2 / (sum v - 1)

    grpo                           A = (r - mean) / (std + 1e-6)
    grpo_no_std                    A = r - mean
    rloo                           A = (r - mean) G / (G - 1), with the baseline `episodes` alone
    reinforce_plus_plus_baseline   A = (r - mean) / sqrt(sum v (r - mean)^2 / (sum v - 1) + 1e-8), whose sums
                                   run over all groups of the step
    gigpo, gigpo_no_std            A = grpo or grpo_no_std + step_weight A_step           GiGPO, 2505.10978

R_i is an episode's score and p_it a turn's penalty, which `after` takes from A_it. A_step is grpo's or
grpo_no_std's A of s_it among the turns of the group that saw the same, every one counted once, and 0 for a
turn alone; s_it = sum_{t' >= t} gamma^(t' - t) (reward of turn t'), less p_it (`before`). With one turn an
episode all this is `step_advantages`, to the last digit. docs/agents.md says what it means and what the
sources leave open.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gmpo_vl.policy.advantages import BEFORE_BATCH, GROUP_ESTIMATORS, batch_deviation, within_group

# What each does with an episode's score.
OF_STATES = {"gigpo": "grpo", "gigpo_no_std": "grpo_no_std"}
TURN_ESTIMATORS = (*GROUP_ESTIMATORS, "reinforce_plus_plus_baseline", *OF_STATES)


@dataclass(frozen=True)
class Episodes:
    """The N turns of a group's G episodes, an episode's together and in order.

    scores_G: of each episode; NaN: it has none.   episode_N: int64, whose turn it is.   penalties_N.
    rewards_N: of each turn's step.   seen_N: names what each turn was shown.   key: the group's name, for
    messages. Numbers are float64.
    """

    scores_G: Tensor
    episode_N: Tensor
    penalties_N: Tensor
    rewards_N: Tensor
    seen_N: Sequence[str]
    key: str = ""

    @property
    def lengths_N(self) -> Tensor:
        """T of each turn's episode, float64."""
        return self.episode_N.bincount()[self.episode_N].double()

    @property
    def scored_N(self) -> Tensor:
        return ~self.scores_G.isnan()[self.episode_N]


@dataclass(frozen=True)
class TurnRules:
    """Keys of `algorithm`: adv_estimator, episode_baseline, turn_penalty, step_advantage_weight, gamma."""

    estimator: str = "grpo"
    baseline: str = "turns"
    penalty: str = "before"
    step_weight: float = 1.0
    gamma: float = 1.0


def turn_weights(group: Episodes, weight: str) -> Tensor | None:
    """w_it, float64 (N,); None: 1 each. weight: `turn` or `episode`."""
    return None if weight == "turn" else 1 / group.lengths_N


def turn_advantages(groups: Sequence[Episodes], rules: TurnRules) -> tuple[list[Tensor], float | None]:
    """A_it of all groups of a step, float32 (N,) each, and what they were divided by over the batch (None for
    an estimator that does not).

    Equal scores give exactly 0, less a penalty. The turns of an episode without a score have advantage 0 and
    change no other; where a single episode of a group has one, its scores are compared with nothing: its
    turns have 0, less a penalty `after`. ValueError for an estimator that turns do not have, `rloo` with the
    baseline `turns`, a group of one episode, and a score that is infinite.
    """
    _check(rules)
    found = [_normalised(group, rules) for group in groups]
    batch_std = None
    if rules.estimator in BEFORE_BATCH:
        weights = [_statistics_weights(group, rules) * group.scored_N for group in groups]
        batch_std = batch_deviation(weights, found)
        found = [advantages_N / batch_std for advantages_N in found]
    if rules.penalty == "after":
        found = [
            advantages_N - group.penalties_N * group.scored_N for group, advantages_N in zip(groups, found)
        ]
    return [advantages_N.float() for advantages_N in found], batch_std


def anchored_share(groups: Sequence[Episodes]) -> float:
    """Share of turns that saw what another turn of their group saw: those that may have an A_step."""
    sizes = [len(same) for group in groups for same in _turns_by_state(group)]
    return sum(size for size in sizes if size > 1) / max(sum(sizes), 1)


def _check(rules: TurnRules) -> None:
    if rules.estimator not in TURN_ESTIMATORS:
        raise ValueError(
            f"adv_estimator {rules.estimator} has no advantages of turns; of games there are "
            f"{', '.join(TURN_ESTIMATORS)}"
        )
    if rules.estimator == "rloo" and rules.baseline == "turns":
        raise ValueError("rloo leaves an episode out of its own baseline: it needs episode_baseline episodes")


def _normalised(group: Episodes, rules: TurnRules) -> Tensor:
    """float64 (N,), before a division over the batch and a penalty `after`."""
    count = len(group.scores_G)
    if count < 2:
        raise ValueError(f"group {group.key!r} has {count} episode: it needs at least 2 (worker.rollout.n)")
    advantages_N = torch.zeros(len(group.episode_N), dtype=torch.float64)
    scored_N = group.scored_N
    if (~group.scores_G.isnan()).sum() < 2:
        return advantages_N
    within = OF_STATES.get(rules.estimator) or BEFORE_BATCH.get(rules.estimator, rules.estimator)
    taken_N = group.penalties_N * (rules.penalty == "before")
    scores_N = group.scores_G[group.episode_N] - taken_N
    weights_N = _statistics_weights(group, rules)
    plain = bool((weights_N == 1).all())
    advantages_N[scored_N] = within_group(
        scores_N[scored_N], within, group.key, None if plain else weights_N[scored_N]
    )
    if rules.estimator in OF_STATES:
        returns_N = discounted_returns(group, rules.gamma) - taken_N
        for same in _turns_by_state(group):
            if len(same) > 1:
                advantages_N[same] += rules.step_weight * within_group(returns_N[same], within, group.key)
    return advantages_N


def _statistics_weights(group: Episodes, rules: TurnRules) -> Tensor:
    lengths_N = group.lengths_N
    return 1 / lengths_N if rules.baseline == "episodes" else torch.ones_like(lengths_N)


def _turns_by_state(group: Episodes) -> list[list[int]]:
    """The turns of scored episodes, together where they saw the same."""
    found: dict[str, list[int]] = defaultdict(list)
    for n, (seen, scored) in enumerate(zip(group.seen_N, group.scored_N.tolist(), strict=True)):
        if scored:
            found[seen].append(n)
    return list(found.values())


def discounted_returns(group: Episodes, gamma: float) -> Tensor:
    """sum_{t' >= t} gamma^(t' - t) (reward of turn t' of the same episode), float64 (N,)."""
    returns, episodes = group.rewards_N.tolist(), group.episode_N.tolist()
    for n in range(len(returns) - 2, -1, -1):
        if episodes[n] == episodes[n + 1]:
            returns[n] += gamma * returns[n + 1]
    return torch.tensor(returns, dtype=torch.float64)
