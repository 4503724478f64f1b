"""Optimiser and learning-rate schedule, under EasyR1's keys."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch

from gmpo_vl.config import OptimConfig


def build_optimizer(parameters: Iterable[torch.nn.Parameter], config: OptimConfig) -> torch.optim.AdamW:
    """AdamW over the parameters that are trained. On a GPU the fused one, which makes no copies of them while it steps."""
    trained = [p for p in parameters if p.requires_grad]
    beta1, beta2 = config.betas
    return torch.optim.AdamW(
        trained,
        lr=config.lr,
        betas=(beta1, beta2),
        weight_decay=config.weight_decay,
        fused=all(p.is_cuda for p in trained) or None,
    )


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    for parameters in optimizer.param_groups:
        parameters["lr"] = lr


def warmup_steps(config: OptimConfig, total_steps: int) -> int:
    return (
        config.lr_warmup_steps
        if config.lr_warmup_steps is not None
        else int(config.lr_warmup_ratio * total_steps)
    )


def learning_rate_share(step: int, config: OptimConfig, total_steps: int) -> float:
    """Share of `lr` used in training step `step` (0 the first): linear warm-up, then constant or half a cosine wave.

    The cosine ends at `min_lr_ratio` (0 by default) in the last step.
    """
    warmup = warmup_steps(config, total_steps)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if config.lr_scheduler_type == "constant":
        return 1.0
    progress = min(1.0, (step - warmup) / max(1, total_steps - 1 - warmup))
    lowest = config.min_lr_ratio or 0.0
    return lowest + (1 - lowest) * 0.5 * (1 + math.cos(math.pi * progress))
