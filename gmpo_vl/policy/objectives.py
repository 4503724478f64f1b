"""The paper's objectives, per sequence.

Every objective is J_i = A_i R_i: the importance ratios rho_t = pi_theta / pi_old of one response become one number
R_i > 0, and the advantage stays outside every power. An objective is a function that returns log R_i from

    log_ratio_BT   log rho_t, float64, 0 at masked positions
    mask_BT        bool, True where a token counts; |o_i| of them in row i
    positive_B1    bool, A_i > 0: which side of the clip binds
    low, high      limits of the log-ratio, low <= 0 <= high, and the objective's own options
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from gmpo_vl.policy.reduction import sequence_weights, token_mean
from gmpo_vl.policy.settings import OBJECTIVES, log_clip_limits, resolve_settings


def gmpo(log_ratio_BT: Tensor, mask_BT: Tensor, positive_B1: Tensor, low: float, high: float) -> Tensor:
    """Eq. 5: R = (prod_t rho'_t)^(1/|o|), rho' = rho clipped to [e^low, e^high] on the side that A's sign bounds.

    min[rho A, clip(rho) A] is min(rho, e^high) A for A > 0 and max(rho, e^low) A for A < 0: the RAW log-ratio is
    clamped. (Algorithm 1 clamps sgn(A) log rho, which is the same only where low = -high.)
    """
    return token_mean(clip_one_sided(log_ratio_BT, positive_B1, low, high), mask_BT)


def grpo(log_ratio_BT: Tensor, mask_BT: Tensor, positive_B1: Tensor, low: float, high: float) -> Tensor:
    """Eq. 1 without its KL term: R = 1/|o| sum_t rho'_t, rho' clipped as in `gmpo`."""
    return log_power_mean(clip_one_sided(log_ratio_BT, positive_B1, low, high), mask_BT, 1.0)


def gmpo_noclip(
    log_ratio_BT: Tensor, mask_BT: Tensor, positive_B1: Tensor, low: float, high: float
) -> Tensor:
    """Eq. 3 (Table 3, row 2): `gmpo` without a clip; its limits are infinite."""
    return token_mean(log_ratio_BT, mask_BT)


def gmpo_seqclip(
    log_ratio_BT: Tensor, mask_BT: Tensor, positive_B1: Tensor, low: float, high: float
) -> Tensor:
    """Table 3, row 3: the product of all ratios is clipped, then the 1/|o|-th power is taken."""
    product_B1 = clip_one_sided(log_ratio_BT.sum(-1, keepdim=True), positive_B1, low, high)
    return product_B1.squeeze(-1) / _lengths(mask_BT)


def gmpo_nonorm(
    log_ratio_BT: Tensor, mask_BT: Tensor, positive_B1: Tensor, low: float, high: float
) -> Tensor:
    """Table 3, row 4: `gmpo` without the power 1/|o|."""
    return clip_one_sided(log_ratio_BT, positive_B1, low, high).sum(-1)


def hmpo(log_ratio_BT: Tensor, mask_BT: Tensor, positive_B1: Tensor, low: float, high: float) -> Tensor:
    """Table 5: the harmonic mean of the clipped ratios."""
    return log_power_mean(clip_one_sided(log_ratio_BT, positive_B1, low, high), mask_BT, -1.0)


def power_mean(
    log_ratio_BT: Tensor, mask_BT: Tensor, positive_B1: Tensor, low: float, high: float, mean_power: float
) -> Tensor:
    """Definition 1: M_p of the clipped ratios; `grpo`'s, `gmpo`'s and `hmpo`'s means are p = 1, 0 and -1."""
    return log_power_mean(clip_one_sided(log_ratio_BT, positive_B1, low, high), mask_BT, mean_power)


def iqm(log_ratio_BT: Tensor, mask_BT: Tensor, positive_B1: Tensor, low: float, high: float) -> Tensor:
    """Table 5: the mean of the clipped ratios without the floor(|o|/4) smallest and as many of the largest."""
    clipped_BT = clip_one_sided(log_ratio_BT, positive_B1, low, high)
    return log_mean_exp(clipped_BT, interquartile_shares(clipped_BT.detach(), mask_BT))


def dr_grpo(
    log_ratio_BT: Tensor,
    mask_BT: Tensor,
    positive_B1: Tensor,
    low: float,
    high: float,
    length_constant: float,
) -> Tensor:
    """Dr. GRPO: the sum of the clipped ratios over a constant length instead of |o|."""
    lengths_B = _lengths(mask_BT)
    return grpo(log_ratio_BT, mask_BT, positive_B1, low, high) + torch.log(lengths_B / length_constant)


def gspo(log_ratio_BT: Tensor, mask_BT: Tensor, positive_B1: Tensor, low: float, high: float) -> Tensor:
    """GSPO: the clip looks at the geometric mean of all ratios."""
    mean_B1 = token_mean(log_ratio_BT, mask_BT)[:, None]
    return clip_one_sided(mean_B1, positive_B1, low, high).squeeze(-1)


_LOG_RATIO_OF: dict[str, Callable[..., Tensor]] = {
    "gmpo": gmpo,
    "grpo": grpo,
    "gmpo_noclip": gmpo_noclip,
    "gmpo_seqclip": gmpo_seqclip,
    "gmpo_nonorm": gmpo_nonorm,
    "hmpo": hmpo,
    "iqm": iqm,
    "power_mean": power_mean,
    "dr_grpo": dr_grpo,
    "dapo": grpo,  # GRPO's per-sequence mean; its token mean over the mini-batch is a matter of weight
    "gspo": gspo,
}


def clip_one_sided(log_ratio: Tensor, positive: Tensor, low: float, high: float) -> Tensor:
    """log of min[rho A, clip(rho, e^low, e^high) A] / A: the upper limit binds for A > 0, the lower one otherwise."""
    return torch.where(positive, log_ratio.clamp(max=high), log_ratio.clamp(min=low))


def log_power_mean(log_x_BT: Tensor, mask_BT: Tensor, p: float) -> Tensor:
    """log of the power mean M_p (Definition 1) over the valid tokens; p = 0 is its limit, the geometric mean."""
    if p == 0:
        return token_mean(log_x_BT, mask_BT)
    return log_mean_exp(p * log_x_BT, mask_BT / _lengths(mask_BT)[:, None]) / p


def log_mean_exp(x_BT: Tensor, share_BT: Tensor) -> Tensor:
    """log sum_t share_t e^(x_t) for shares that sum to 1; 0 for a row without shares."""
    shift_B1 = x_BT.detach().masked_fill(share_BT == 0, -torch.inf).amax(-1, keepdim=True)
    shift_B1 = shift_B1.masked_fill(~(share_BT > 0).any(-1, keepdim=True), 0.0)
    # expm1 and log1p keep the digits when all x are close to each other (a small p, or ratios near 1).
    below_BT = torch.expm1((x_BT - shift_B1).clamp(max=0.0))
    return shift_B1.squeeze(-1) + torch.log1p((share_BT * below_BT).sum(-1))


def interquartile_shares(x_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """Each token's share in the interquartile mean of its row; shares sum to 1.

    Of the sorted valid values, floor(n/4) are dropped at each end (none for n < 4). Equal values share their places,
    so that which of several equal tokens counts does not depend on where it stands.
    """
    sorted_BT = x_BT.masked_fill(~mask_BT, torch.inf).sort(-1).values
    # This token's value holds the places first, ..., last - 1.
    first_BT = torch.searchsorted(sorted_BT, x_BT.contiguous())
    last_BT = torch.searchsorted(sorted_BT, x_BT.contiguous(), right=True)
    dropped_B1 = mask_BT.sum(-1, keepdim=True) // 4
    kept_B1 = mask_BT.sum(-1, keepdim=True) - 2 * dropped_B1
    inside_BT = torch.minimum(last_BT, dropped_B1 + kept_B1) - torch.maximum(first_BT, dropped_B1)
    share_BT = inside_BT.clamp(min=0).double() / ((last_BT - first_BT).clamp(min=1) * kept_B1.clamp(min=1))
    return torch.where(mask_BT, share_BT, 0.0)


def _lengths(mask_BT: Tensor) -> Tensor:
    """|o_i|, at least 1 so that an empty row divides by something."""
    return mask_BT.sum(-1).clamp(min=1).double()


@dataclass(frozen=True)
class TokenDiagnostics:
    """What the loss saw, detached, before clipping; masked positions hold 0.

    token_weights_BT: d R_i / d log pi(token), the clip included: Eq. 7 for gmpo, Eq. 6 for grpo (without their 1/G).
    grpo_weights_BT: the same for `grpo` with the paper's clip, whatever the objective is.
    outside_BT: int8, +1 where the clip's upper limit is exceeded, -1 below its lower limit, 0 inside.
    """

    log_ratio_BT: Tensor
    mask_BT: Tensor
    advantages_B: Tensor
    token_weights_BT: Tensor
    grpo_weights_BT: Tensor
    outside_BT: Tensor


@dataclass(frozen=True)
class PolicyLoss:
    """loss_B: -J_i of each sequence, to be minimised; the step's loss is sum(loss * weight) / global sum(weight)."""

    loss_B: Tensor
    weight_B: Tensor
    diagnostics: TokenDiagnostics


def per_sequence_loss(
    loss_type: str,
    log_probs_BT: Tensor,
    old_log_probs_BT: Tensor,
    mask_BT: Tensor,
    advantages_B: Tensor,
    **settings: float,
) -> PolicyLoss:
    """-J_i for each of B sequences, with the weight each has in the mini-batch.

    log_probs_BT, old_log_probs_BT: log pi of the sampled tokens, any float dtype; gradients flow into the first only.
    mask_BT: bool or 0/1, the tokens that count; what lies under a 0 may be anything, NaN included.
    settings: the objective's options (`gmpo_vl.policy.settings.OBJECTIVES`), the paper's values by default.
    A row without tokens has loss 0 and weight 0. ValueError for an unknown objective or option, and for shapes.
    """
    resolved = resolve_settings(loss_type, settings)
    _check_shapes(log_probs_BT, old_log_probs_BT, mask_BT, advantages_B)
    mask_BT = mask_BT.bool()
    log_ratio_BT = log_probs_BT.double() - old_log_probs_BT.detach().double()
    log_ratio_BT = torch.where(mask_BT, log_ratio_BT, 0.0)
    advantages_B = advantages_B.detach().double()

    log_ratio_B, slope_BT = _value_and_slope(
        loss_type, log_ratio_BT.detach(), mask_BT, advantages_B, resolved
    )
    ratio_B = log_ratio_B.clamp(max=_LARGEST_EXPONENT[log_probs_BT.dtype]).exp() * mask_BT.any(-1)
    token_weights_BT = ratio_B[:, None] * slope_BT  # d R / d log rho_t = R * d log R / d log rho_t
    # The value is R; the gradient that reaches log_probs is the token weights, which the diagnostics report.
    step_B = (token_weights_BT * (log_ratio_BT - log_ratio_BT.detach())).sum(-1)
    diagnostics = TokenDiagnostics(
        log_ratio_BT=log_ratio_BT.detach(),
        mask_BT=mask_BT,
        advantages_B=advantages_B,
        token_weights_BT=token_weights_BT,
        grpo_weights_BT=grpo_token_weights(log_ratio_BT.detach(), mask_BT, advantages_B),
        outside_BT=_outside(OBJECTIVES[loss_type].clips, log_ratio_BT.detach(), mask_BT, resolved),
    )
    weight_B = sequence_weights(loss_type, mask_BT.sum(-1))
    return PolicyLoss(-advantages_B * (ratio_B + step_B), weight_B, diagnostics)


# exp is bounded where its value, or the gradient that goes back in the dtype of the log-probs, would overflow. Beyond
# the bound the size of the gradient stays and its direction is kept. A sequence needs a mean ratio of 4.8e8 to meet it
# in float32 and bfloat16, 2,981 in float16.
_LARGEST_EXPONENT = {torch.float64: 300.0, torch.float32: 20.0, torch.bfloat16: 20.0, torch.float16: 8.0}


def _value_and_slope(
    loss_type: str,
    log_ratio_BT: Tensor,
    mask_BT: Tensor,
    advantages_B: Tensor,
    settings: dict[str, float],
) -> tuple[Tensor, Tensor]:
    """log R of each sequence and its derivative by each token's log-ratio; no graph is left behind."""
    low, high = log_clip_limits(settings)
    own = {key: value for key, value in settings.items() if "clip" not in key}
    with torch.enable_grad():
        leaf_BT = log_ratio_BT.requires_grad_()
        log_ratio_B = _LOG_RATIO_OF[loss_type](
            leaf_BT, mask_BT, (advantages_B > 0)[:, None], low, high, **own
        )
        (slope_BT,) = torch.autograd.grad(log_ratio_B.sum(), leaf_BT)
    return log_ratio_B.detach(), torch.where(mask_BT, slope_BT, 0.0)


def grpo_token_weights(log_ratio_BT: Tensor, mask_BT: Tensor, advantages_B: Tensor) -> Tensor:
    """Eq. 6's weights rho_t / |o| (0 where the paper's clip 1 +- 0.2 binds): what GRPO would do with this batch."""
    low, high = log_clip_limits(OBJECTIVES["grpo"].defaults)
    clipped_BT = clip_one_sided(log_ratio_BT, (advantages_B > 0)[:, None], low, high)
    counts_BT = mask_BT & (clipped_BT == log_ratio_BT)
    return clipped_BT.exp().where(counts_BT, 0.0) / _lengths(mask_BT)[:, None]


def _outside(clips: str, log_ratio_BT: Tensor, mask_BT: Tensor, settings: dict[str, float]) -> Tensor:
    low, high = log_clip_limits(settings)
    if clips == "sequence_mean":
        log_ratio_BT = token_mean(log_ratio_BT, mask_BT)[:, None].expand_as(log_ratio_BT)
    elif clips == "sequence_sum":
        log_ratio_BT = log_ratio_BT.sum(-1, keepdim=True).expand_as(log_ratio_BT)
    sides_BT = (log_ratio_BT > high).to(torch.int8) - (log_ratio_BT < low).to(torch.int8)
    return sides_BT * mask_BT


def _check_shapes(
    log_probs_BT: Tensor,
    old_log_probs_BT: Tensor,
    mask_BT: Tensor,
    advantages_B: Tensor,
) -> None:
    shape = tuple(log_probs_BT.shape)
    if len(shape) != 2 or old_log_probs_BT.shape != shape or mask_BT.shape != shape:
        raise ValueError(
            f"log_probs {shape}, old_log_probs {tuple(old_log_probs_BT.shape)} and mask {tuple(mask_BT.shape)} "
            "must all be (B, T)"
        )
    if tuple(advantages_B.shape) != shape[:1]:
        raise ValueError(f"advantages {tuple(advantages_B.shape)} must be (B,) with B = {shape[0]}")
