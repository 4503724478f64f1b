"""The one place that reduces: from sequences to the mini-batch's loss, over micro-batches and ranks.

    total = total_weight(sequence_weights(loss_type, lengths_B))        # once per mini-batch, before any forward
    for each micro-batch:  reduce_loss(loss_B, weight_B, total).backward()

The gradients of all micro-batches and ranks then ADD UP to the gradient of sum(loss * weight) / sum(weight) over the
whole mini-batch, however it is cut, ordered or padded.
"""

from __future__ import annotations

import torch
import torch.distributed as dist

from gmpo_vl.policy.settings import OBJECTIVES, check_loss_type


def token_mean(values_BT: torch.Tensor, mask_BT: torch.Tensor) -> torch.Tensor:
    """Mean over the valid tokens of each row, in float64; 0 for a row without any. Masked values may be NaN."""
    sums_B = torch.where(mask_BT.bool(), values_BT.double(), 0.0).sum(-1)
    return sums_B / mask_BT.sum(-1).clamp(min=1)


def sequence_weights(loss_type: str, lengths_B: torch.Tensor) -> torch.Tensor:
    """Weight of each sequence in the mini-batch, float64: 1 (sequence mean) or |o_i| (token mean); 0 where |o_i| = 0.

    Needs the response lengths only (tokens that the mask lets count), so it is known before any forward. Empty rows,
    such as the padding that gives every rank the same number of rows, change nothing.
    """
    check_loss_type(loss_type)
    if OBJECTIVES[loss_type].weight == "token":
        return lengths_B.double()
    return (lengths_B > 0).double()


def total_weight(weight_B: torch.Tensor, group: dist.ProcessGroup | None = None) -> float:
    """Sum of the weights over the whole mini-batch and, where torch.distributed runs, over all ranks of `group`.

    weight_B: all sequences this rank has in the mini-batch, those whose pass is skipped included. Under nccl it lies
    on this rank's GPU. A mini-batch without a single token gives 1, so that its loss is 0 and not NaN.
    """
    total = weight_B.double().sum()
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(total, group=group)
    return float(total) or 1.0


def reduce_loss(
    loss_B: torch.Tensor, weight_B: torch.Tensor, total_weight: float, averaged_over: int = 1
) -> torch.Tensor:
    """This micro-batch's part of the mini-batch's loss: sum(loss * weight) / total_weight.

    averaged_over: the number of ranks where the engine AVERAGES gradients over them (DDP, FSDP), so that the average
        is the exact sum; 1 where gradients are summed, or on one rank.
    """
    return (loss_B * weight_B).sum() * (averaged_over / total_weight)


def skippable(
    advantages_B: torch.Tensor, *, kl_coef: float, entropy_coef: float, aux_coef: float
) -> torch.Tensor:
    """Which sequences have exactly no gradient (bool, B): advantage 0, and no other loss term that would give them one.

    Their forward and backward may be skipped; their weight stays in `total_weight`.
    """
    alone = kl_coef == 0 and entropy_coef == 0 and aux_coef == 0
    return (advantages_B == 0) & alone
