"""EasyR1's trainer with what a step asks of the GPUs as methods on groups: sample, log-probs, update, save, load.

EasyR1's own `fit` is not used: it truncates logs on resume, deletes an old checkpoint before the new one is written, starts
fresh where a checkpoint path is wrong, and scatters the rollouts of a prompt over ranks. The steps are in steps.py.
"""
# pyright: reportMissingImports=false

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ray
import torch
from transformers import AutoConfig
from verl.trainer.config import PPOConfig
from verl.trainer.ray_trainer import RayPPOTrainer, ResourcePoolManager, Role

from gmpo_vl.batching.cost import rates
from gmpo_vl.batching.planning import mini_batches
from gmpo_vl.batching.ranks import deal, group_cost
from gmpo_vl.config import Config
from gmpo_vl.data.types import Prompt
from gmpo_vl.engines.easyr1.wire import groups_to_proto, prompts_to_proto
from gmpo_vl.models.loading import model_folder
from gmpo_vl.models.prompts import PromptSet
from gmpo_vl.models.proof import Proof
from gmpo_vl.rollout.types import Group, Sampling

POOL = "gpus"


class GMPOTrainer(RayPPOTrainer):
    """The worker processes of a run. Group in, group out: EasyR1's DataProto is what travels (wire.py)."""

    def __init__(self, easyr1: PPOConfig, run: Config, prompts: PromptSet, worker_class: Any) -> None:
        gpus = [run.trainer.n_gpus_per_node] * run.trainer.nnodes
        super().__init__(
            config=easyr1,
            tokenizer=prompts.processor.tokenizer,
            processor=None,
            train_dataloader=prompts,
            val_dataloader=None,
            role_worker_mapping={Role.ActorRolloutRef: ray.remote(worker_class)},
            resource_pool_manager=ResourcePoolManager({POOL: gpus}, {Role.ActorRolloutRef: POOL}),
        )
        self.run = run
        self.share_prefix = run.worker.actor.share_prefix != "never"  # of every pass from now on
        self.rates = rates(AutoConfig.from_pretrained(model_folder(str(run.worker.actor.model.model_path))))

    @property
    def ranks(self) -> int:
        return self.actor_rollout_ref_wg.world_size

    def generate(
        self, prompts: Sequence[Prompt], positions: Sequence[int], sampling: Sampling
    ) -> list[Group]:
        """n answers to every prompt, in order, by the policy as it was when the rollout engine was prepared."""
        asked = prompts_to_proto(prompts, positions, sampling, self.ranks)
        answers = self.actor_rollout_ref_wg.generate_sequences(asked).non_tensor_batch["responses"]
        return [
            Group(f"{prompt.example.id}@{position}", prompt, responses)
            for prompt, position, responses in zip(prompts, positions, answers)
        ]

    def prove_sharing(self, groups: Sequence[Group]) -> Proof:
        """Does the shared forward give what the plain one gives?"""
        return self.actor_rollout_ref_wg.prove_sharing(groups_to_proto(groups, self.ranks))[0]

    def log_probs(self, groups: Sequence[Group]) -> list[list[torch.Tensor]]:
        """log pi of the current policy: of every group, of every response (T,), float32."""
        if not groups:
            return []
        data = groups_to_proto(groups, self.ranks, share_prefix=self.share_prefix)
        found = self.actor_rollout_ref_wg.compute_log_probs(data).batch["old_log_probs"]
        return [_per_response(group, log_probs_GT) for group, log_probs_GT in zip(groups, found)]

    def reference_log_probs(self, groups: Sequence[Group]) -> list[list[torch.Tensor]]:
        """The same of the starting model."""
        data = groups_to_proto(groups, self.ranks, share_prefix=self.share_prefix)
        found = self.actor_rollout_ref_wg.compute_ref_log_probs(data).batch["ref_log_probs"]
        return [_per_response(group, log_probs_GT) for group, log_probs_GT in zip(groups, found)]

    def update(self, groups: Sequence[Group], lr: float) -> dict[str, float]:
        """The step's updates at this learning rate; its figures. Raises what a worker raised."""
        data = groups_to_proto(
            self.in_order_of_ranks(groups),
            self.ranks,
            lr=lr,
            share_prefix=self.share_prefix,
            global_token_num=[len(g.prompt.ids_P) + len(r.ids_T) for g in groups for r in g.responses],
        )
        found = self.actor_rollout_ref_wg.update_actor(data).non_tensor_batch
        # Every rank reports the same of the step, but its own memory: the largest counts, not the mean.
        metrics = {name: float(max(values)) for name, values in found.items() if not name.startswith("perf/")}
        metrics["actor/lr"] = lr
        if not self.config.worker.cpu:
            metrics["memory/device_peak"] = float(max(found["perf/max_memory_allocated_gb"]))
            metrics["perf/mfu_actor"] = float(max(found["perf/mfu_actor"]))
        return metrics

    def in_order_of_ranks(self, groups: Sequence[Group]) -> list[Group]:
        """Rank after rank, and for each rank its part of the first mini-batch, of the second, ...

        Mini-batches are cut before ranks are dealt, so which groups an update sees does not depend on how many ranks
        there are. Within a mini-batch each rank gets as many groups and about as much work.
        """
        dealt: list[list[Group]] = [[] for _ in range(self.ranks)]
        for batch in mini_batches(groups, self.run.worker.actor.global_batch_size):
            costs = [group_cost(self.rates, group, self.share_prefix) for group in batch]
            for rank, indices in enumerate(deal(costs, self.ranks)):
                dealt[rank] += [batch[i] for i in indices]
        return [group for of_rank in dealt for group in of_rank]

    def save(self, folder: Path) -> None:
        """Every rank's shard into `folder`, under EasyR1's names."""
        self.actor_rollout_ref_wg.save_checkpoint(
            str(folder.absolute()), save_model_only=self.run.trainer.save_model_only
        )

    def load(self, folder: Path) -> None:
        self.actor_rollout_ref_wg.load_checkpoint(str(folder.absolute()))


def _per_response(group: Group, log_probs_GT: torch.Tensor) -> list[torch.Tensor]:
    return [row[: len(response.ids_T)].clone() for row, response in zip(log_probs_GT, group.responses)]
