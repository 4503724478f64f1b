"""Appendix B: how GMPO and GRPO part as the ratios leave 1."""

import math

import numpy as np
import pytest
import torch

from gmpo_vl.policy import per_sequence_loss

DELTAS = [0.1, 0.05, 0.02, 0.01, 0.005]
NO_CLIP = {"clip_ratio_low": 1.0, "clip_ratio_high": math.inf}


def objectives(deviation_BT: torch.Tensor, advantages_B: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """J* of GMPO and GRPO (Eq. 3 and 2) of each sequence, from delta_t = rho_t - 1; differentiable."""
    log_ratio_BT, old_BT = torch.log1p(deviation_BT), torch.zeros_like(deviation_BT)
    mask_BT = torch.ones_like(deviation_BT, dtype=torch.bool)
    gmpo = per_sequence_loss("gmpo_noclip", log_ratio_BT, old_BT, mask_BT, advantages_B)
    grpo = per_sequence_loss("grpo", log_ratio_BT, old_BT, mask_BT, advantages_B, **NO_CLIP)
    return -gmpo.loss_B, -grpo.loss_B


def slope(sizes: list[float], values: list[float]) -> float:
    """Exponent of the power law through the points."""
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def deviations(skewed: bool, rows: int = 16, tokens: int = 40) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(11)
    u_BT = 2 * torch.rand(rows, tokens, generator=draw, dtype=torch.float64) - 1
    if skewed:
        u_BT = u_BT.abs() ** 6  # a few tokens far out, all on one side
    advantages_B = torch.randn(rows, generator=draw, dtype=torch.float64)
    return u_BT / u_BT.abs().max(), advantages_B


def test_lemma_4_the_residual_beyond_half_the_variance_is_cubic():
    for skewed, least, most in ((False, 2.8, 4.5), (True, 2.9, 3.1)):
        u_BT, advantages_B = deviations(skewed)
        residuals = []
        for delta in DELTAS:
            gmpo_B, grpo_B = objectives(delta * u_BT, advantages_B)
            variance_B = (delta * u_BT).var(-1, unbiased=False)
            residuals.append(float((gmpo_B - grpo_B + advantages_B / 2 * variance_B).abs().mean()))
        assert least <= slope(DELTAS, residuals) <= most


@pytest.mark.parametrize("seed", range(5))
def test_lemma_5_eq_12_the_objectives_differ_by_at_most_a_square(seed):
    draw = torch.Generator().manual_seed(seed)
    advantages_B = torch.randn(64, generator=draw, dtype=torch.float64)
    for delta in DELTAS:
        deviation_BT = delta * (2 * torch.rand(64, 30, generator=draw, dtype=torch.float64) - 1)
        gmpo_B, grpo_B = objectives(deviation_BT, advantages_B)
        # The proof's 2 A_max delta^2, and its O(delta^3) with a constant of 2 A_max.
        assert ((gmpo_B - grpo_B).abs() <= 2 * advantages_B.abs() * delta**2 * (1 + delta)).all()


def gradient_gap(delta: float, ratio_gradients_shrink: bool) -> float:
    """|grad J_GMPO - grad J_GRPO| by theta where the ratios deviate by at most delta.

    Ratios are rho_t(theta) = 1 + delta sin(v_t theta) when their gradients shrink with delta (the lemma's
    second assumption), and e^(v_t theta) at a theta of size delta when they do not: what a small step of a
    policy gives.
    """
    draw = torch.Generator().manual_seed(5)
    v_BTK = torch.randn(8, 30, 6, generator=draw, dtype=torch.float64)
    direction_K = torch.randn(6, generator=draw, dtype=torch.float64)
    advantages_B = torch.randn(8, generator=draw, dtype=torch.float64)
    gradients = []
    for which in (0, 1):
        theta_K = (
            (direction_K if ratio_gradients_shrink else delta * direction_K / 10).clone().requires_grad_()
        )
        angle_BT = v_BTK @ theta_K
        deviation_BT = delta * torch.sin(angle_BT) if ratio_gradients_shrink else torch.expm1(angle_BT)
        assert deviation_BT.abs().max() <= delta
        (gradient_K,) = torch.autograd.grad(objectives(deviation_BT, advantages_B)[which].mean(), theta_K)
        gradients.append(gradient_K)
    return float((gradients[0] - gradients[1]).norm())


def test_lemma_5_eq_13_holds_where_the_ratio_gradients_are_of_order_delta():
    assert slope(DELTAS, [gradient_gap(delta, True) for delta in DELTAS]) >= 1.95


def test_without_that_assumption_the_gradients_part_linearly():
    assert slope(DELTAS, [gradient_gap(delta, False) for delta in DELTAS]) == pytest.approx(1.0, abs=0.05)
