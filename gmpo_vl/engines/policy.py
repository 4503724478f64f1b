"""The model that is trained, as every pass sees it, and what one forward may hold."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.distributed as dist

from gmpo_vl.batching.packing import Packed, pack
from gmpo_vl.batching.planning import Limits, Row
from gmpo_vl.config import Config
from gmpo_vl.models.features import FrozenFeatures
from gmpo_vl.models.forward import unwrap
from gmpo_vl.models.processing import Processor
from gmpo_vl.policy import OwnObjective
from gmpo_vl.sizing.limits import limits_for
from gmpo_vl.types import Group


@dataclass
class Policy:
    """The model that is trained, and how it computes.

    model: answers micro-batches (`models.wrapping.answer_packed`), then sharded where the engine shards.
    share_prefix: each prompt once per group (models/shared.py). Under `auto` the first batch of every run decides.
    features: of the prompts' pictures where the ViT is frozen; whoever sets it forgets them every step.
    ranks: processes that share each mini-batch and AVERAGE their gradients (FSDP); 1: this one is alone.
    computes_on: where that is not where the weights lie between forwards (offloaded ones).
    objective: a user's, as it was loaded (passes.objective_of); its file may change while a run goes on.
    """

    model: Any
    processor: Processor
    banned_ids: tuple[int, ...]
    autocast_dtype: torch.dtype | None
    share_prefix: bool
    ranks: int = 1
    features: FrozenFeatures | None = None
    computes_on: torch.device | None = None
    objective: OwnObjective | None = None

    @property
    def device(self) -> torch.device:
        return self.computes_on or unwrap(self.model).device

    def autocast(self):
        """The precision of every forward pass."""
        if self.autocast_dtype is None:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=self.autocast_dtype)

    def pack(self, batch: Sequence[Row]) -> Packed:
        rows = [(row.group.prompt, row.ids_T) for row in batch]
        features_of = None if self.features is None else partial(self.features.of, device=self.device)
        return pack(rows, self.processor.image, self.device, features_of)

    def limits(self, config: Config, rollouts: int) -> Limits:
        """What a forward of this policy may hold: a model that takes no packed rows gets one rollout at a time."""
        return limits_for(unwrap(self.model).config, config, self.share_prefix, rollouts)

    def look_at(self, groups: Sequence[Group]) -> None:
        """What a frozen ViT makes of the groups' pictures is known from here on. A collective."""
        if self.features is not None:
            with self.autocast():
                self.features.learn([group.prompt for group in groups], partial(most_on_any_rank, self))


def most_on_any_rank(policy: Policy, batches: int) -> int:
    """How many forwards every rank runs."""
    if policy.ranks == 1:
        return batches
    most = torch.tensor(batches, device=policy.device)
    dist.all_reduce(most, op=dist.ReduceOp.MAX)
    return int(most)
