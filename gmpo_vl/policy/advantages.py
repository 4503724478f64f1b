"""From the rewards of one group to its advantages (Eq. 1)."""

from __future__ import annotations

import torch

from gmpo_vl.storage.names import nearest_or_all

ADVANTAGE_ESTIMATORS = ("grpo", "grpo_no_std")

# EasyR1's: keeps a group of almost equal rewards from dividing by almost zero.
_EPS = 1e-6


def group_advantages(scores_G: torch.Tensor, estimator: str = "grpo", *, key: str = "") -> torch.Tensor:
    """Advantages of one group's G responses from their rewards, float32 (G,).

    `grpo`: (r - mean) / (std + 1e-6) with the sample standard deviation (G - 1), as EasyR1.
    `grpo_no_std`: r - mean (Dr. GRPO). Equal rewards give exactly 0. key: the group's name, for messages.
    ValueError for an unknown estimator, a group of one, and a reward that is NaN or infinite.
    """
    if estimator not in ADVANTAGE_ESTIMATORS:
        raise ValueError(
            f"adv_estimator: none is called {estimator!r}{nearest_or_all(estimator, ADVANTAGE_ESTIMATORS)}"
        )
    scores_G = torch.as_tensor(scores_G, dtype=torch.float64)
    if scores_G.ndim != 1 or len(scores_G) < 2:
        raise ValueError(
            f"group {key!r} has rewards of shape {tuple(scores_G.shape)}: a group needs at least 2 responses "
            "(worker.rollout.n)"
        )
    if not torch.isfinite(scores_G).all():
        raise ValueError(f"group {key!r} has a reward that is not finite: {scores_G.tolist()}")
    if (scores_G == scores_G[0]).all():  # the mean of equal floats need not equal them
        return torch.zeros(len(scores_G))
    centred_G = scores_G - scores_G.mean()
    if estimator == "grpo_no_std":
        return centred_G.float()
    return (centred_G / (scores_G.std(unbiased=True) + _EPS)).float()
