"""Tokens from distributions, with random numbers given from outside."""

from __future__ import annotations

import torch

from gmpo_vl.types import Sampling

ROWS = 256  # whose cumulative sums are held at once: float64 over a vocabulary of 152k


def draw(log_probs_RV: torch.Tensor, uniform_R: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """One token id per row (R,), by inverting the cumulative distribution at `uniform_R` in [0, 1).

    `log_probs_RV` include temperature and banned ids; this applies top-k and top-p. Temperature 0 takes the
    most likely token. The inversion is in float64: float32 would round off the tail of a large vocabulary.
    """
    if sampling.temperature == 0.0:
        return log_probs_RV.argmax(dim=-1)
    parts = zip(log_probs_RV.split(ROWS), uniform_R.split(ROWS))
    return torch.cat([_invert(_truncate(lp.double().exp(), sampling), u) for lp, u in parts])


def _truncate(probs_RV: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """Probabilities (not renormalised), 0 outside top-k and top-p."""
    if sampling.top_k <= 0 and sampling.top_p >= 1.0:
        return probs_RV
    sorted_RV, order_RV = probs_RV.sort(dim=-1, descending=True)
    keep_RV = (sorted_RV.cumsum(dim=-1) - sorted_RV) < sampling.top_p
    if sampling.top_k > 0:
        keep_RV[:, sampling.top_k :] = False
    return torch.zeros_like(probs_RV).scatter(1, order_RV, sorted_RV * keep_RV)


def _invert(probs_RV: torch.Tensor, uniform_R: torch.Tensor) -> torch.Tensor:
    cumulative_RV = probs_RV.cumsum(dim=-1)
    total_R1 = cumulative_RV[:, -1:]
    # A target strictly below the total, and `right`: the first token whose cumulative probability exceeds it.
    # So a token of probability 0 is never drawn.
    target_R1 = torch.minimum(uniform_R[:, None] * total_R1, total_R1 * (1 - 2**-52))
    return torch.searchsorted(cumulative_RV, target_R1, right=True).squeeze(1)
