"""The model that is trained, as every pass sees it, and its optimizer."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.distributed as dist

from gmpo_vl.batching.planning import Limits, Row
from gmpo_vl.config import Config, OptimConfig
from gmpo_vl.models.features import FrozenFeatures
from gmpo_vl.models.forward import unwrap
from gmpo_vl.models.packing import Packed, Way, pack
from gmpo_vl.models.processing import Processor
from gmpo_vl.policy import OwnObjective
from gmpo_vl.sizing.limits import limits_of
from gmpo_vl.types import Group


@dataclass
class Policy:
    """The model that is trained, and how it computes.

    model: answers micro-batches (`models.forward.answer_packed`), then sharded where the engine shards.
    way: of its forwards.
    features: of the prompts' pictures where the ViT is frozen; whoever sets it forgets them every step.
    ranks: processes that share each mini-batch and AVERAGE their gradients (FSDP); 1: this one is alone.
    computes_on: where that is not where the weights lie between forwards (offloaded ones).
    objective: a user's, as it was loaded (losses.objective_of); its file may change while a run goes on.
    """

    model: Any
    processor: Processor
    banned_ids: tuple[int, ...]
    autocast_dtype: torch.dtype | None
    way: Way
    ranks: int = 1
    features: FrozenFeatures | None = None
    computes_on: torch.device | None = None
    objective: OwnObjective | None = None

    @property
    def device(self) -> torch.device:
        return self.computes_on or unwrap(self.model).device

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """The precision of every forward pass."""
        if self.autocast_dtype is None:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=self.autocast_dtype)

    def pack(self, batch: Sequence[Row]) -> Packed:
        rows = [(row.prompt, row.ids_T) for row in batch]
        features_of = None if self.features is None else partial(self.features.of, device=self.device)
        return pack(rows, self.processor.family, self.device, features_of)

    def limits(self, config: Config, rollouts: int) -> Limits:
        """What a forward may hold."""
        return limits_of(config, self.way, rollouts)

    def look_at(self, groups: Sequence[Group]) -> None:
        """Compute the features of the groups' pictures that are not kept yet (frozen ViT). A collective."""
        if self.features is not None:
            with self.autocast():
                prompts = [prompt for group in groups for prompt in group.prompts]
                self.features.learn(prompts, partial(most_on_any_rank, self))


def most_on_any_rank(policy: Policy, batches: int) -> int:
    """How many forwards every rank runs. A collective."""
    if policy.ranks == 1:
        return batches
    most = torch.tensor(batches, device=policy.device)
    dist.all_reduce(most, op=dist.ReduceOp.MAX)
    return int(most)


def build_optimizer(parameters: Iterable[torch.nn.Parameter], config: OptimConfig) -> torch.optim.AdamW:
    """AdamW over the trained parameters. On a GPU the fused one, which needs no copies of them."""
    trained = [p for p in parameters if p.requires_grad]
    beta1, beta2 = config.betas
    return torch.optim.AdamW(
        trained,
        lr=config.lr,
        betas=(beta1, beta2),
        weight_decay=config.weight_decay,
        fused=all(p.is_cuda for p in trained) or None,
    )


def clip_gradient(model: Any, max_norm: float) -> float:
    """Scale the gradient down to `max_norm`; returns its norm before. FSDP has its own over all shards."""
    if hasattr(model, "clip_grad_norm_"):
        return float(model.clip_grad_norm_(max_norm))
    trained = [p for p in model.parameters() if p.requires_grad and p.grad is not None]
    return float(torch.nn.utils.clip_grad_norm_(trained, max_norm))


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    for parameters in optimizer.param_groups:
        parameters["lr"] = lr


def learning_rate_share(step: int, config: OptimConfig, total_steps: int) -> float:
    """Share of `lr` in training step `step` (0 the first): linear warm-up, then constant or half a cosine
    wave.

    The cosine ends at `min_lr_ratio` (0 by default) in the last step.
    """
    warmup = config.lr_warmup_steps
    if warmup is None:
        warmup = int(config.lr_warmup_ratio * total_steps)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if config.lr_scheduler_type == "constant":
        return 1.0
    progress = min(1.0, (step - warmup) / max(1, total_steps - 1 - warmup))
    lowest = config.min_lr_ratio or 0.0
    return lowest + (1 - lowest) * 0.5 * (1 + math.cos(math.pi * progress))
