"""From the scores of a step's groups to their advantages, and the figures that come with them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch

from gmpo_vl.config import AlgorithmConfig, ConfigError
from gmpo_vl.policy import Episodes, TurnRules, step_advantages, turn_advantages, turn_weights
from gmpo_vl.policy.episodes import OF_STATES, anchored_share
from gmpo_vl.setup import unknown_parts
from gmpo_vl.types import Group, Turn


def fill_advantages(groups: Sequence[Group], algorithm: AlgorithmConfig) -> dict[str, float]:
    """Set `advantages_G` of a step's groups, those of all ranks, and of games `weights_G`; returns the
    figures that come with it.

    What is trained on is the score's `overall`, or with `reward_weights` its parts. A response that could not
    be scored, or that has none of the parts, has advantage 0 and changes no other. Raises ConfigError where
    `reward_weights` names a part that no score has.
    """
    of_games = any(response.turn is not None for group in groups for response in group.responses)
    if of_games or algorithm.adv_estimator in OF_STATES:
        return _fill_turns(groups, algorithm)
    if algorithm.reward_weights:
        _check_parts(groups, algorithm)
    given = algorithm.reward_weights or {"overall": 1.0}
    weights = {part: weight for part, weight in given.items() if weight != 0}
    rewards = [rewards_of(group, weights) for group in groups]
    found, batch_std = step_advantages(
        rewards, algorithm.adv_estimator, list(weights.values()), keys=[group.key for group in groups]
    )
    for group, advantages_G in zip(groups, found):
        group.advantages_G = advantages_G
    figures = {} if batch_std is None else {"advantage/batch_std": batch_std}
    return figures | (_figures_of_parts(rewards, weights) if algorithm.reward_weights else {})


def _fill_turns(groups: Sequence[Group], algorithm: AlgorithmConfig) -> dict[str, float]:
    episodes = [episodes_of(group) for group in groups]
    rules = TurnRules(
        algorithm.adv_estimator,
        algorithm.episode_baseline,
        algorithm.turn_penalty,
        algorithm.step_advantage_weight,
        algorithm.gamma,
    )
    found, batch_std = turn_advantages(episodes, rules)
    for group, of_group, advantages_N in zip(groups, episodes, found):
        group.advantages_G = advantages_N
        group.weights_G = turn_weights(of_group, algorithm.episode_weight)
    figures = {} if batch_std is None else {"advantage/batch_std": batch_std}
    if rules.estimator in OF_STATES:
        figures["advantage/anchored"] = anchored_share(episodes)
    return figures


def episodes_of(group: Group) -> Episodes:
    """A group's turns as numbers. A response that is no turn is an episode of one."""
    scores_G = rewards_of(group, ["overall"]).squeeze(-1)
    turns = [
        response.turn or Turn(group.prompt, k, 1, reward=float(scores_G[k]))
        for k, response in enumerate(group.responses)
    ]
    return Episodes(
        scores_G,
        torch.tensor([turn.episode for turn in turns]),
        torch.tensor([turn.penalty for turn in turns], dtype=torch.float64),
        torch.tensor([turn.reward for turn in turns], dtype=torch.float64),
        [turn.seen for turn in turns],
        group.key,
    )


def rewards_of(group: Group, parts: Iterable[str]) -> torch.Tensor:
    """float64 (G, K): the parts of each response's or episode's score, NaN where it has none."""
    missing = float("nan")
    return torch.tensor(
        [
            [missing if score.get("unscored") else score.get(part, missing) for part in parts]
            for score in group.scores
        ],
        dtype=torch.float64,
    )


def scored_of(group: Group) -> list[dict[str, float]]:
    """The scores of the responses that the reward could score."""
    return [score for score in group.scores if not score.get("unscored")]


def without_gradient(group: Group) -> bool:
    """Is every advantage of the group 0?"""
    assert group.advantages_G is not None
    return not group.advantages_G.any()


def _check_parts(groups: Sequence[Group], algorithm: AlgorithmConfig) -> None:
    scores = [score for group in groups for score in scored_of(group)]
    problem = unknown_parts(algorithm, dict.fromkeys(part for score in scores for part in score))
    if scores and problem:  # without a score nothing is known of the parts
        raise ConfigError(f"{problem}. A score may leave a part out, but not every score of a step")


def _figures_of_parts(rewards: Sequence[torch.Tensor], weights: Mapping[str, float]) -> dict[str, float]:
    """The mean weighted sum, and for each part the share of groups in which it has one value."""
    all_NK = torch.cat(list(rewards))
    weighted_NK = all_NK * torch.tensor(list(weights.values()), dtype=torch.float64)
    has_any_N = ~all_NK.isnan().all(-1)
    figures = {}
    if has_any_N.any():
        figures["reward/weighted_sum"] = float(weighted_NK.nansum(-1)[has_any_N].mean())
    for k, part in enumerate(weights):
        constant = [len(column[~column.isnan()].unique()) < 2 for column in (r[:, k] for r in rewards)]
        figures[f"group/zero_variance_{part}"] = sum(constant) / len(constant)
    return figures
