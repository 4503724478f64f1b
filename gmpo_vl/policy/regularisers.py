"""What is added to the objective: KL to a reference policy and entropy. Both reduce exactly as the objective does.

loss_B = policy.loss_B + kl_coef * token_mean(kl(...), mask_BT) - entropy_coef * token_mean(entropy_BT, mask_BT)
"""

from __future__ import annotations

import torch

KL_KINDS = ("kl", "k1", "mse", "k2", "low_var_kl", "k3", "abs")

# Nats, as in EasyR1: beyond it the estimate stays at its value there and has no gradient.
_LARGEST_GAP = 20.0


def kl(log_probs_BT: torch.Tensor, ref_log_probs_BT: torch.Tensor, kind: str = "low_var_kl") -> torch.Tensor:
    """Per-token estimate of KL(pi || pi_ref), float64 (B, T), from tokens that pi sampled; names as in EasyR1, or k1-k3.

    With d = log pi_ref - log pi: `low_var_kl` or `k3`: e^d - d - 1, never negative. `kl` or `k1`: -d, unbiased as a
    value; as a LOSS its gradient has mean zero and only adds noise. `mse` or `k2`: d^2 / 2. `abs`: |d|.
    """
    gap_BT = (ref_log_probs_BT.detach().double() - log_probs_BT.double()).clamp(-_LARGEST_GAP, _LARGEST_GAP)
    if kind in ("kl", "k1"):
        return -gap_BT
    if kind in ("mse", "k2"):
        return gap_BT.square() / 2
    if kind in ("low_var_kl", "k3"):
        return torch.expm1(gap_BT) - gap_BT
    if kind == "abs":
        return gap_BT.abs()
    raise ValueError(f"kl_penalty: no estimate is called {kind!r}; known: {', '.join(KL_KINDS)}")
