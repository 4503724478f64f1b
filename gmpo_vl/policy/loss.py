"""From log-probs to the mini-batch's loss. ONE place reduces, over micro-batches and ranks.

    total = total_weight(sequence_weights(loss_type, lengths_B))  # once, before any forward
    for each micro-batch:
        loss = per_sequence_loss(loss_type, log_probs_BT, old_log_probs_BT, mask_BT, advantages_B)
        reduce_loss(loss.loss_B, loss.weight_B, total).backward()

The gradients of all micro-batches and ranks then ADD UP to the gradient of sum(loss * weight) / sum(weight)
over the whole mini-batch, however it is cut, ordered or padded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
import torch.distributed as dist
from torch import Tensor

from gmpo_vl.policy.means import lengths, token_mean
from gmpo_vl.policy.objectives import (
    OBJECTIVES,
    check_settings,
    clip_one_sided,
    log_clip_limits,
    resolve_settings,
)
from gmpo_vl.policy.own import OwnObjective


@dataclass(frozen=True)
class TokenDiagnostics:
    """What the loss saw, detached, before clipping; masked positions hold 0.

    gradient_BT: d (loss_i weight_i) / d log pi(token), the clip included.
    grpo_weights_BT: d R_i / d log pi(token) of `grpo` with the paper's clip (Eq. 6), whatever the objective.
    outside_BT: int8, +1 where the clip's upper limit is exceeded, -1 below its lower limit, 0 inside. The
        limits of an own objective are not known: its tokens without a gradient count, on their side of
        ratio 1.
    limited_BT: int8, outside_BT where the limit is in force. A clip of ratios binds on the side of A's sign
        and leaves no gradient; a clip of weights (cispo) binds on both sides, and the gradient stays.
    """

    log_ratio_BT: Tensor
    mask_BT: Tensor
    advantages_B: Tensor
    gradient_BT: Tensor
    grpo_weights_BT: Tensor
    outside_BT: Tensor
    limited_BT: Tensor


@dataclass(frozen=True)
class PolicyLoss:
    """loss_B: what each sequence is to minimise. The step's loss is sum(loss * weight) / all sum(weight)."""

    loss_B: Tensor
    weight_B: Tensor
    diagnostics: TokenDiagnostics

    def times(self, factor_B: Tensor) -> PolicyLoss:
        """The same with each sequence's loss multiplied by a constant; its weight stays as it is."""
        gradient_BT = self.diagnostics.gradient_BT * factor_B[:, None]
        diagnostics = replace(self.diagnostics, gradient_BT=gradient_BT)
        return replace(self, loss_B=self.loss_B * factor_B, diagnostics=diagnostics)

    def weighed(self, factor_B: Tensor) -> PolicyLoss:
        """The same with each sequence's weight in the mini-batch multiplied by a constant."""
        gradient_BT = self.diagnostics.gradient_BT * factor_B[:, None]
        diagnostics = replace(self.diagnostics, gradient_BT=gradient_BT)
        return replace(self, weight_B=self.weight_B * factor_B, diagnostics=diagnostics)


def per_sequence_loss(
    objective: str | OwnObjective,
    log_probs_BT: Tensor,
    old_log_probs_BT: Tensor,
    mask_BT: Tensor,
    advantages_B: Tensor,
    log_weights_BT: Tensor | None = None,
    /,
    **settings: float,
) -> PolicyLoss:
    """The loss of each of B sequences (-J_i for ours), with the weight that each has in the mini-batch.

    log_probs_BT, old_log_probs_BT: log pi of the sampled tokens, any float dtype; gradients flow into the
    first only.
    mask_BT: bool or 0/1, the tokens that count; what lies under a 0 may be anything, NaN included.
    log_weights_BT: log of each token's weight where the old policy did not sample it (`Objective.__call__`);
        an own objective has no place for them.
    settings: options of one of ours (`gmpo_vl.policy.objectives.OBJECTIVES`), the paper's values by default.
    An objective gets float64, and 0 where the mask is 0. A row without tokens has weight 0 (and ours loss 0).
    ValueError for an unknown objective or option, and for shapes.
    """
    _check_shapes(log_probs_BT, old_log_probs_BT, mask_BT, advantages_B)
    mask_BT = mask_BT.bool()
    new_BT = log_probs_BT.double().where(mask_BT, 0.0)
    old_BT = old_log_probs_BT.detach().double().where(mask_BT, 0.0)
    advantages_B = advantages_B.detach().double()
    trains = new_BT.requires_grad
    with torch.enable_grad():
        leaf_BT = new_BT if trains else new_BT.detach().requires_grad_()
        given = (leaf_BT, old_BT, mask_BT, advantages_B)
        if isinstance(objective, OwnObjective):
            if log_weights_BT is not None:
                raise objective.refusal("it has no place for weights of tokens, only for a sequence's")
            loss_B, weight_B = objective(*given, gradient_dtype=log_probs_BT.dtype)
        else:
            settings = resolve_settings(objective, settings)
            weighed = {**settings, "gradient_dtype": log_probs_BT.dtype, "log_weights_BT": log_weights_BT}
            loss_B = OBJECTIVES[objective](*given, **weighed)
            loss_B = loss_B[0] if isinstance(loss_B, tuple) else loss_B
            weight_B = sequence_weights(objective, mask_BT.sum(-1))
        (gradient_BT,) = torch.autograd.grad(loss_B, leaf_BT, weight_B, retain_graph=True)
    log_ratio_BT = new_BT.detach() - old_BT
    side_B1 = advantages_B.sign()[:, None]
    if isinstance(objective, OwnObjective):
        outside_BT = log_ratio_BT.sign().where(mask_BT & (gradient_BT == 0), 0.0).to(torch.int8)
        binds_BT = outside_BT == side_B1
    else:
        outside_BT = _outside(objective, log_ratio_BT, mask_BT, settings)
        binds_BT = side_B1 != 0 if OBJECTIVES[objective].clips == "weight" else outside_BT == side_B1
    diagnostics = TokenDiagnostics(
        log_ratio_BT=log_ratio_BT,
        mask_BT=mask_BT,
        advantages_B=advantages_B,
        gradient_BT=gradient_BT.where(mask_BT, 0.0),
        grpo_weights_BT=grpo_token_weights(log_ratio_BT, mask_BT, advantages_B),
        outside_BT=outside_BT,
        limited_BT=outside_BT * binds_BT,
    )
    return PolicyLoss(loss_B if trains else loss_B.detach(), weight_B, diagnostics)


def grpo_token_weights(log_ratio_BT: Tensor, mask_BT: Tensor, advantages_B: Tensor) -> Tensor:
    """Eq. 6's weights rho_t / |o| (0 where the paper's clip 1 +- 0.2 binds): what GRPO would do here."""
    low, high = log_clip_limits(OBJECTIVES["grpo"].defaults)
    clipped_BT = clip_one_sided(log_ratio_BT, (advantages_B > 0)[:, None], low, high)
    counts_BT = mask_BT & (clipped_BT == log_ratio_BT)
    return clipped_BT.exp().where(counts_BT, 0.0) / lengths(mask_BT)[:, None]


def _outside(loss_type: str, log_ratio_BT: Tensor, mask_BT: Tensor, settings: Mapping[str, float]) -> Tensor:
    low, high = log_clip_limits(settings)
    clips = OBJECTIVES[loss_type].clips
    if clips == "sequence_mean":
        log_ratio_BT = token_mean(log_ratio_BT, mask_BT)[:, None].expand_as(log_ratio_BT)
    elif clips == "sequence_sum":
        log_ratio_BT = log_ratio_BT.sum(-1, keepdim=True).expand_as(log_ratio_BT)
    sides_BT = (log_ratio_BT > high).to(torch.int8) - (log_ratio_BT < low).to(torch.int8)
    return sides_BT * mask_BT


def _check_shapes(
    log_probs_BT: Tensor, old_log_probs_BT: Tensor, mask_BT: Tensor, advantages_B: Tensor
) -> None:
    shape = tuple(log_probs_BT.shape)
    if len(shape) != 2 or old_log_probs_BT.shape != shape or mask_BT.shape != shape:
        raise ValueError(
            f"log_probs {shape}, old_log_probs {tuple(old_log_probs_BT.shape)} and "
            f"mask {tuple(mask_BT.shape)} must all be (B, T)"
        )
    if tuple(advantages_B.shape) != shape[:1]:
        raise ValueError(f"advantages {tuple(advantages_B.shape)} must be (B,) with B = {shape[0]}")


def sequence_weights(loss_type: str, lengths_B: Tensor) -> Tensor:
    """Weight of each sequence under one of ours, float64: 1 (sequence mean) or |o_i| (token mean).

    Needs the response lengths only (tokens that the mask lets count), so it is known before any forward.
    Empty rows weigh 0, so they change nothing.
    """
    check_settings(loss_type, ())
    if OBJECTIVES[loss_type].weight == "token":
        return lengths_B.double()
    return (lengths_B > 0).double()


def total_weight(weight_B: Tensor, group: dist.ProcessGroup | None = None) -> float:
    """Sum of the weights over the whole mini-batch and, where torch.distributed runs, the ranks of `group`.

    weight_B: all sequences this rank has in the mini-batch, those whose pass is skipped included. Under nccl
    it lies on this rank's GPU. A mini-batch without a single token gives 1: its loss is 0 and not NaN.
    """
    total = weight_B.double().sum()
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(total, group=group)
    return float(total) or 1.0


def reduce_loss(loss_B: Tensor, weight_B: Tensor, total_weight: float, averaged_over: int = 1) -> Tensor:
    """This micro-batch's part of the mini-batch's loss: sum(loss * weight) / total_weight.

    averaged_over: the number of ranks where the engine AVERAGES gradients over them (DDP, FSDP), so that the
        average is the exact sum; 1 where gradients are summed, or on one rank.
    """
    return (loss_B * weight_B).sum() * (averaged_over / total_weight)


def skippable(objective: str, advantages_B: Tensor, *, kl_coef: float, entropy_coef: float) -> Tensor:
    """Which sequences have exactly no gradient (bool, B): advantage 0, and no other term of the loss.

    Their forward and backward may be skipped; their weight stays in `total_weight`. An own objective may have
    a gradient at advantage 0, which no trial on some input can exclude: none of its sequences is skipped.
    """
    alone = kl_coef == 0 and entropy_coef == 0 and objective in OBJECTIVES
    return (advantages_B == 0) & alone
