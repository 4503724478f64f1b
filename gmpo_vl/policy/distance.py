"""How far the policy has moved from where training started, without keeping the starting model.

Before the first update: sample responses to a few prompts, keep their tokens and their log-probs under the starting
policy, for the whole run (a resumed run included). Every k steps: compute the same tokens' log-probs again, then

    sums = sum(kl_to_start_sums(log_probs_BT, start_log_probs_BT, mask_BT) for each micro-batch)
    metrics["actor/kl_to_start"] = kl_to_start(sums)
"""

from __future__ import annotations

import torch
import torch.distributed as dist

from gmpo_vl.policy.regularisers import kl


@torch.no_grad()
def kl_to_start_sums(
    log_probs_BT: torch.Tensor, start_log_probs_BT: torch.Tensor, mask_BT: torch.Tensor
) -> torch.Tensor:
    """(sum of per-token estimates, number of tokens), float64 (2,): add them over micro-batches."""
    mask_BT = mask_BT.bool()
    # The tokens come from the starting policy, so this estimates KL(pi_start || pi_theta), nats per token.
    estimate_BT = torch.where(mask_BT, kl(start_log_probs_BT, log_probs_BT, "k3"), 0.0)
    return torch.stack([estimate_BT.sum(), mask_BT.sum().double()])


def kl_to_start(sums: torch.Tensor) -> float:
    """Mean over all tokens of the probe set, in nats; a collective where torch.distributed runs.

    ValueError when there is no token on any rank.
    """
    sums = sums.clone()
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(sums)
    total, tokens = sums.tolist()
    if not tokens:
        raise ValueError("actor/kl_to_start: the probe set has no response tokens")
    return total / tokens
