"""The model in this process: what a run's steps ask of it (session.Engine), on a CPU or one GPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from gmpo_vl.config import Config
from gmpo_vl.engines.local.checkpoint import base_folder, load_optimizer, save_model, save_optimizer
from gmpo_vl.engines.local.policy import build_policy, build_reference
from gmpo_vl.engines.optim import build_optimizer, set_learning_rate
from gmpo_vl.engines.parity import MISMATCH, TOLERANCE, Parity, check_parity
from gmpo_vl.engines.passes import LogProbs, log_probs_by_group, reference_log_probs, update_policy
from gmpo_vl.models.features import same_vision
from gmpo_vl.models.forward import unwrap
from gmpo_vl.models.processing import Processor
from gmpo_vl.models.shared import sharing_obstacle
from gmpo_vl.rollout.hf import generate
from gmpo_vl.setup import DTYPES
from gmpo_vl.storage.manifest import Written
from gmpo_vl.types import Group, Prompt, Sampling


class LocalEngine:
    """Policy, reference and optimizer; from `checkpoint`, a run's checkpoints/step_N, where there is one."""

    def __init__(self, config: Config, processor: Processor, checkpoint: Path | None = None) -> None:
        folder = checkpoint / "huggingface" if checkpoint is not None else None
        adapter_base = base_folder(folder) if folder is not None else None
        self.config = config
        self.policy = build_policy(config, processor, adapter_base or folder)
        self.optimizer = build_optimizer(self.policy.model.parameters(), config.worker.actor.optim)
        if checkpoint is not None:
            load_optimizer(checkpoint / "trainer" / "optimizer.pt", self.policy.model, self.optimizer)
        self.reference: Any | None = build_reference(config, self.policy, resumed=checkpoint is not None)
        # A checkpoint's frozen ViT need not be the one that this run starts from.
        kept = self.policy.features is not None and self.reference is not None
        own_vision = kept and not same_vision(self.policy.model, self.reference)
        self.scoring_reference = replace(self.policy, features=None) if own_vision else self.policy
        self.can_share = sharing_obstacle(unwrap(self.policy.model).config) is None
        self.share_prefix = config.worker.actor.share_prefix != "never" and self.can_share
        self._keeping = False

    @property
    def share_prefix(self) -> bool:
        return self.policy.share_prefix

    @share_prefix.setter
    def share_prefix(self, share: bool) -> None:
        self.policy.share_prefix = share

    def sampler(self) -> nullcontext[None]:
        return nullcontext()  # it is the policy itself

    @contextmanager
    def keeping_features(self) -> Iterator[None]:
        self._keeping = True
        try:
            yield
        finally:
            self._keeping = False
            if self.policy.features is not None:
                self.policy.features.forget()

    def generate(
        self,
        prompts: Sequence[Prompt],
        positions: Sequence[int],
        sampling: Sampling,
        progress: Callable[[int], None] | None = None,
    ) -> list[Group]:
        with self.policy.autocast():
            return generate(
                self.policy.model,
                self.policy.processor,
                prompts,
                sampling,
                positions,
                self.config.worker.rollout.max_cached_tokens,
                progress=progress,
                features=self.policy.features if self._keeping else None,
            )

    def check_parity(self, groups: Sequence[Group]) -> Parity:
        return check_parity(self.policy, groups, self.config)

    def log_probs(self, groups: Sequence[Group]) -> LogProbs:
        return log_probs_by_group(self.policy, self.policy.model, groups, self.config)

    def reference_log_probs(self, groups: Sequence[Group]) -> list[list[torch.Tensor]]:
        self.scoring_reference.share_prefix = self.share_prefix
        return reference_log_probs(self.scoring_reference, self.reference, groups, self.config)

    def update(
        self, groups: Sequence[Group], lr: float, progress: Callable[[int], None] | None = None
    ) -> dict[str, float]:
        set_learning_rate(self.optimizer, lr)
        metrics = update_policy(self.policy, self.optimizer, groups, self.config, progress)
        if torch.cuda.is_available():
            metrics["memory/device_peak"] = torch.cuda.max_memory_allocated() / 2**30
            torch.cuda.reset_peak_memory_stats()
        return metrics

    def tolerated_mismatch(self) -> dict[str, float]:
        """Sampler and trainer are one model; where the sampler's log-probs are trusted, every token's must be right."""
        dtype = self.config.worker.actor.fsdp.mp_param_dtype
        tolerated = {"rollout/mismatch_p50": MISMATCH[dtype]}
        if self.config.worker.actor.old_log_probs == "rollout":
            tolerance = TOLERANCE[DTYPES[dtype]]
            tolerated |= {"rollout/mismatch_max": tolerance.largest, "rollout/mismatch_rms": tolerance.rms}
        return tolerated

    def save(self, folder: Path, resumable: bool) -> dict[str, Written]:
        save_model(self.policy.model, self.policy.processor, folder / "huggingface")
        if resumable:
            save_optimizer(self.policy.model, self.optimizer, folder / "trainer" / "optimizer.pt")
        return {}
