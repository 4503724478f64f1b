"""From the rewards of a step's groups to their advantages: within a group (Eq. 1), then, for two of the
estimators, over the whole batch.

    grpo                           A = (r - mean) / (std + 1e-6)                Eq. 1, as EasyR1
    grpo_no_std                    A = r - mean                                 Dr. GRPO, 2503.20783
    rloo                           A = r - mean of the G - 1 others             RLOO, 2402.14740
    reinforce_plus_plus_baseline   A = (r - mean) / batch_std                   REINFORCE++, 2501.03262
    gdpo                           A = sum_k w_k grpo(r_k) / batch_std          GDPO, 2601.05242

mean and std are of one group; std is the sample standard deviation (G - 1). batch_std is sqrt(var + 1e-8) of
what stands before it, over all N responses of the step that have a reward (N - 1). docs/advantages.md says
what the sources leave open.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from gmpo_vl.storage.names import nearest_or_all

GROUP_ESTIMATORS = ("grpo", "grpo_no_std", "rloo")
# What each does within a group before it divides by the deviation over the batch.
BEFORE_BATCH = {"reinforce_plus_plus_baseline": "grpo_no_std", "gdpo": "grpo"}
ADVANTAGE_ESTIMATORS = (*GROUP_ESTIMATORS, *BEFORE_BATCH)

# EasyR1's: keeps a group of almost equal rewards from dividing by almost zero.
_EPS = 1e-6
# Relative: rewards that differ by less are equal.
_ROUNDING = 1e-12
# verl's, of a variance: keeps a batch in which almost nothing is left from being blown up.
_BATCH_EPS = 1e-8


def group_advantages(scores_G: torch.Tensor, estimator: str = "grpo", *, key: str = "") -> torch.Tensor:
    """Advantages of one group's G responses from their rewards, float32 (G,).

    `grpo`: (r - mean) / (std + 1e-6) with the sample standard deviation (G - 1), as EasyR1.
    `grpo_no_std`: r - mean (Dr. GRPO).
    `rloo`: r - mean of the others, which is G / (G - 1) times `grpo_no_std`.
    Equal rewards give exactly 0. key: the group's name, for messages. ValueError for an unknown estimator,
    one that needs the whole batch (`step_advantages`), a group of one, and a reward that is NaN or infinite.
    """
    if estimator in BEFORE_BATCH:
        raise ValueError(f"adv_estimator {estimator} needs all groups of a step: call step_advantages")
    _check_known(estimator)
    return within_group(scores_G, estimator, key).float()


def step_advantages(
    rewards: Sequence[torch.Tensor],
    estimator: str = "grpo",
    weights_K: Sequence[float] = (1.0,),
    *,
    keys: Sequence[str] | None = None,
) -> tuple[list[torch.Tensor], float | None]:
    """Advantages of all groups of a step, float32 (G,) each, and the standard deviation over the batch (None
    for an estimator that does not divide by it).

    rewards: of each group (G, K), a column for each of K parts of a reward; NaN where a response does not
    have that part. weights_K: of the parts. keys: the groups' names, for messages.
    `gdpo` normalises each part apart, over the responses of the group that have it, and adds up
    w_k A_k. The others take sum_k w_k r_k for the reward, where a part that a response does not have adds 0.
    A response with no part at all has no reward: its advantage is 0, and it changes no other.

    Every group's advantages have the sum 0, and so has the batch: its mean is not subtracted again, which
    would only move groups of equal rewards away from exactly 0. The result does not depend on the groups'
    order. ValueError as for `group_advantages`.
    """
    _check_known(estimator)
    names = keys or [""] * len(rewards)
    weights = torch.tensor(weights_K, dtype=torch.float64)
    found = [
        _of_group(torch.as_tensor(rewards_GK, dtype=torch.float64), estimator, weights, key)
        for rewards_GK, key in zip(rewards, names, strict=True)
    ]
    if estimator not in BEFORE_BATCH:
        return [advantages_G.float() for advantages_G in found], None
    batch_std = batch_deviation([(~rewards_GK.isnan()).any(-1) for rewards_GK in rewards], found)
    return [(advantages_G / batch_std).float() for advantages_G in found], batch_std


def batch_deviation(weights: Sequence[torch.Tensor], advantages: Sequence[torch.Tensor]) -> float:
    """sqrt(sum v A^2 / (sum v - 1) + 1e-8) over all groups of a step, around 0.

    weights: v of each group's responses, (G,); 0 for one without a reward.
    """
    # fsum: the same to the last digit for any order of groups
    count = math.fsum(v for weights_G in weights for v in weights_G.tolist())
    squares = math.fsum(
        square
        for weights_G, advantages_G in zip(weights, advantages, strict=True)
        for square in (weights_G * advantages_G.square()).tolist()
    )
    return math.sqrt(squares / max(count - 1, 1) + _BATCH_EPS)


def _check_known(estimator: str) -> None:
    if estimator not in ADVANTAGE_ESTIMATORS:
        raise ValueError(
            f"adv_estimator: none is called {estimator!r}{nearest_or_all(estimator, ADVANTAGE_ESTIMATORS)}"
        )


def _of_group(rewards_GK: torch.Tensor, estimator: str, weights_K: torch.Tensor, key: str) -> torch.Tensor:
    """float64 (G,), before a division over the batch."""
    within = BEFORE_BATCH.get(estimator, estimator)
    if estimator == "gdpo":
        apart = [_among_present(rewards_G, within, key) for rewards_G in rewards_GK.unbind(-1)]
        weighted_GK = torch.stack(apart, dim=-1) * weights_K
        summed_G = weighted_GK.sum(-1)
        # Parts that cancel leave their rounding.
        return summed_G.where(summed_G.abs() > _ROUNDING * weighted_GK.abs().max(), 0.0)
    scores_G = (rewards_GK * weights_K).nansum(-1)
    return _among_present(scores_G.where(~rewards_GK.isnan().all(-1), torch.nan), within, key)


def _among_present(scores_G: torch.Tensor, estimator: str, key: str) -> torch.Tensor:
    """Advantages of the responses with a score among themselves; 0 for one with NaN, and for the only one
    with a score.
    """
    present_G = ~scores_G.isnan()
    advantages_G = torch.zeros(len(scores_G), dtype=torch.float64)
    if present_G.all() or present_G.sum() > 1:
        advantages_G[present_G] = within_group(scores_G[present_G], estimator, key)
    return advantages_G


def within_group(
    scores_G: torch.Tensor, estimator: str, key: str, weights_G: torch.Tensor | None = None
) -> torch.Tensor:
    """Advantages of a group's scores among themselves by one of GROUP_ESTIMATORS, float64 (G,).

    weights_G: v of each score in mean = sum v r / sum v and variance = sum v (r - mean)^2 / (sum v - 1).
    Their sum stands for the number of responses. None: 1 each.
    """
    scores_G = torch.as_tensor(scores_G, dtype=torch.float64)
    if scores_G.ndim != 1 or len(scores_G) < 2:
        raise ValueError(
            f"group {key!r} has rewards of shape {tuple(scores_G.shape)}: a group needs at least 2 responses "
            "(worker.rollout.n)"
        )
    if not torch.isfinite(scores_G).all():
        raise ValueError(f"group {key!r} has a reward that is not finite: {scores_G.tolist()}")
    # The mean of equal floats need not equal them, and weighted sums may differ by their rounding.
    if scores_G.max() - scores_G.min() <= _ROUNDING * scores_G.abs().max():
        return torch.zeros_like(scores_G)
    count = len(scores_G) if weights_G is None else weights_G.sum()
    mean = scores_G.mean() if weights_G is None else (weights_G * scores_G).sum() / count
    centred_G = scores_G - mean
    if estimator == "grpo_no_std":
        return centred_G
    if estimator == "rloo":
        return centred_G * (count / (count - 1))
    if weights_G is None:
        return centred_G / (scores_G.std(unbiased=True) + _EPS)
    return centred_G / (((weights_G * centred_G.square()).sum() / (count - 1)).sqrt() + _EPS)
