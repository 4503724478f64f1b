"""EasyR1's worker with our actor, reference and rollout in the places of its own: one process per GPU."""
# pyright: reportMissingImports=false

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from verl.protocol import DataProto
from verl.single_controller.base import Worker
from verl.single_controller.base.decorator import Dispatch, register
from verl.utils.flops_counter import get_device_flops
from verl.utils.fsdp_utils import load_fsdp_model, offload_fsdp_model
from verl.workers import fsdp_workers
from verl.workers.fsdp_workers import FSDPWorker

from gmpo_vl.engines.easyr1.actor import EasyR1LossActor, GMPOActor
from gmpo_vl.engines.easyr1.checkpoint import files_of_rank, only_values
from gmpo_vl.engines.easyr1.config import GMPOWorkerConfig
from gmpo_vl.engines.easyr1.limits import easyr1_loss
from gmpo_vl.engines.easyr1.serialisation import groups_of
from gmpo_vl.engines.parity import Parity, check_parity
from gmpo_vl.engines.policy import Policy
from gmpo_vl.models.features import FrozenFeatures, frozen_features
from gmpo_vl.models.forward import answer_packed, unwrap
from gmpo_vl.models.loading import banned_ids
from gmpo_vl.models.noise import without_noise
from gmpo_vl.models.shared import first_way, use_group_attention
from gmpo_vl.models.vision import batch_vision
from gmpo_vl.setup import ends_of, load_configured_processor
from gmpo_vl.storage.manifest import Files, measure


class _Base(Worker):
    """EasyR1 makes a process's class from the FIRST base of the worker's class, and calls it without
    arguments.

    So that base must be an empty one.
    """


class OperationsCounter:
    """EasyR1's own counts rows that were not run, or were shared, and takes an H200 for an H20."""

    def estimate_flops(self, operations: Sequence[float], seconds: float) -> tuple[float, float]:
        """TFLOP/s of all ranks for an update's operations (one number a group), and of this GPU (bf16)."""
        h200 = "H200" in fsdp_workers.torch.cuda.get_device_name()
        return sum(operations) / seconds / 1e12, 989.0 if h200 else get_device_flops()


class GMPOWorker(_Base, FSDPWorker):
    """Everything that EasyR1's worker does, with `config.run` (GMPOWorkerConfig) saying how it trains."""

    config: GMPOWorkerConfig

    # EasyR1 binds registered methods only, so one that is overridden is registered again.
    @register(dispatch_mode=Dispatch.ONE_TO_ALL)
    def init_model(self) -> None:
        run = self.config.run
        assert run is not None
        super().init_model()
        self.flops_counter = OperationsCounter()
        self.our_processor = load_configured_processor(run)
        policy = self._policy(self.fsdp_module)
        reference = self._policy(self.ref_fsdp_module) if self._has_ref and not self._is_lora else policy
        ours = easyr1_loss(run) is None
        if ours:
            policy.features = frozen_features(self.fsdp_module, self.our_processor.image)
            if policy.features is not None and reference is not policy:
                # The reference, held in another dtype, would see a little else: it takes the policy's.
                reference.features = policy.features.beside(self.ref_fsdp_module)
        actor_class = GMPOActor if ours else EasyR1LossActor
        self.actor = actor_class(self.config.actor, policy, run, self.optimizer)
        self._policies = (policy, reference)
        if self._has_ref:
            self.ref_policy = actor_class(self.config.ref, reference, run)
        banned = banned_ids(unwrap(self.fsdp_module).config)
        self.rollout.begin(self.our_processor, banned, ends_of(run, self.our_processor))

    @register(dispatch_mode=Dispatch.DP_COMPUTE_PROTO)
    def compute_log_probs(self, data: DataProto) -> DataProto:
        """EasyR1's own, and what else was found of every group (GMPOActor.beside)."""
        output = super().compute_log_probs(data)
        output.batch.update(self.actor.beside)
        return output

    @register(dispatch_mode=Dispatch.DP_COMPUTE_METRIC)
    def check_parity(self, data: DataProto) -> Parity:
        """The shared forward against the plain one (engines/parity.py). The same answer on every rank."""
        assert self.config.run is not None
        if self._use_param_offload:
            load_fsdp_model(self.fsdp_module)
        parity = check_parity(self.actor.policy, groups_of(data), self.config.run)
        if self._use_param_offload:
            offload_fsdp_model(self.fsdp_module)
        return parity

    @register(dispatch_mode=Dispatch.ONE_TO_ALL)
    def save_checkpoint(self, path: str, save_model_only: bool = False) -> Files:
        """EasyR1's own. Returns this rank's files, hashed while they are in its machine's memory."""
        super().save_checkpoint(path, save_model_only)
        return measure(Path(path), files_of_rank(Path(path), self.world_size, self.rank))

    @register(dispatch_mode=Dispatch.ONE_TO_ALL)
    def load_checkpoint(self, path: str) -> None:
        """EasyR1's own, but nothing in the files is run, and the optimizer's decay and betas are this run's.

        Where the checkpoint's frozen ViT is not the reference's, the reference computes its own features.
        """
        policy, reference = self._policies
        shared = policy.features is not None and reference is not policy
        before = self._vision_shards() if shared else {}
        asked = [{k: v for k, v in group.items() if k != "params"} for group in self.optimizer.param_groups]
        with only_values():
            super().load_checkpoint(path)
        for group, settings in zip(self.optimizer.param_groups, asked):
            group.update(settings)
        if not shared:
            return
        after = self._vision_shards()
        changed = not all(torch.equal(before[name], after[name]) for name in before)
        on_any_rank = torch.tensor(int(changed), device=policy.device)
        dist.all_reduce(on_any_rank, op=dist.ReduceOp.MAX)
        if on_any_rank:
            assert self.our_processor.image is not None
            reference.features = FrozenFeatures(self.ref_fsdp_module, self.our_processor.image)

    def _vision_shards(self) -> dict[str, torch.Tensor]:
        """This rank's part of the policy's ViT, copied."""
        parameters = self.fsdp_module.named_parameters()
        return {name: p.detach().cpu().clone() for name, p in parameters if "visual" in name}

    @register(dispatch_mode=Dispatch.ONE_TO_ALL)
    def forget_features(self) -> None:
        """A step is over: forget what a frozen ViT made of its pictures."""
        for policy in self._policies:
            if policy.features is not None:
                policy.features.forget()

    def _build_rollout(self) -> None:
        """EasyR1's own, with our classes where it names its own."""
        from gmpo_vl.engines.easyr1.rollout import GMPOvLLMRollout
        from gmpo_vl.engines.easyr1.sync import use_checked_sync

        fsdp_workers.vLLMRollout = GMPOvLLMRollout
        use_checked_sync()
        super()._build_rollout()

    def _policy(self, sharded: Any) -> Policy:
        """The model as our passes want it: inside FSDP's wrapper it answers in another way, weights stay."""
        run, inner = self.config.run, sharded._fsdp_wrapped_module
        assert run is not None
        if easyr1_loss(run) is None:
            without_noise(unwrap(inner))
            answer_packed(inner)
            use_group_attention(unwrap(inner))
            batch_vision(unwrap(inner))
        return Policy(
            model=sharded,
            processor=self.our_processor,
            banned_ids=banned_ids(unwrap(inner).config),
            autocast_dtype=None,  # FSDP casts weights and inputs (worker.actor.fsdp.mp_param_dtype)
            way=first_way(unwrap(inner).config, run.worker.actor.share_prefix),
            ranks=self.world_size,
            computes_on=torch.device(fsdp_workers.torch.cuda.current_device()),
        )
