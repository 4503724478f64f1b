"""EasyR1's actor with this project's passes: log-probs and updates of one rank's groups."""
# pyright: reportMissingImports=false

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from verl.protocol import DataProto
from verl.workers.actor.dp_actor import DataParallelPPOActor

from gmpo_vl.config import Config
from gmpo_vl.engines.easyr1.data_protos import to_rows
from gmpo_vl.engines.easyr1.serialisation import groups_of
from gmpo_vl.engines.passes import log_probs_by_group, update_policy
from gmpo_vl.engines.policy import Policy, set_learning_rate
from gmpo_vl.policy import RolloutMismatch
from gmpo_vl.types import Group


class GMPOActor(DataParallelPPOActor):
    """Every objective of gmpo_vl.policy. One row of what comes in is a group (wire.py).

    actor_optimizer: None for the reference policy. policy: the same module with how it computes; every pass is told whether
    prompts are shared.
    """

    def __init__(self, config: Any, policy: Policy, run: Config, actor_optimizer: Any = None) -> None:
        super().__init__(config, policy.model, actor_optimizer)
        self.policy, self.run = policy, run
        self.beside: dict[str, torch.Tensor] = {}

    @torch.no_grad()
    def compute_log_prob(self, data: DataProto) -> torch.Tensor:
        """log pi of every response: float32 (groups, G, T), T the longest allowed response. A collective.

        What passes.LogProbs says besides, a row a group, is kept for the worker to send.
        """
        groups = groups_of(data)
        self.policy.share_prefix = data.meta_info["share_prefix"]
        found = log_probs_by_group(self.policy, self.policy.model, groups, self.run)
        self.beside = {} if found.entropy_N is None else {"entropy": found.entropy_N}
        if found.routing is not None:
            self.beside["routing"] = found.routing.sums_NS
        longest = self.run.data.max_response_length
        out_NGT = torch.zeros(len(groups), len(groups[0].responses), longest)
        for out_GT, of_group in zip(out_NGT, found.of):
            for out_T, log_probs_T in zip(out_GT, of_group):
                out_T[: len(log_probs_T)] = log_probs_T
        return out_NGT

    def update_policy(self, data: DataProto) -> dict[str, Any]:
        """The step's updates. Every rank returns the same figures, of the whole step. A collective."""
        self.policy.share_prefix = data.meta_info["share_prefix"]
        set_learning_rate(self.actor_optimizer, data.meta_info["lr"])
        metrics = update_policy(self.policy, self.actor_optimizer, groups_of(data), self.run)
        self.actor_optimizer.zero_grad()  # vLLM, which wakes next, wants the memory
        return metrics


class EasyR1LossActor(DataParallelPPOActor):
    """EasyR1's own actor, unchanged, for `loss_type: easyr1/NAME`: groups become the rows it knows.

    Its figures are means over micro-batches, as EasyR1 reports them; it has no entropies, of tokens or of routers.
    """

    beside: Mapping[str, torch.Tensor] = MappingProxyType({})

    def __init__(self, config: Any, policy: Policy, run: Config, actor_optimizer: Any = None) -> None:
        super().__init__(config, policy.model, actor_optimizer)
        self.policy, self.run = policy, run
        self.first_update: RolloutMismatch | None = (
            None  # while it is under way and compared (passes.update_policy)
        )

    def compute_log_prob(self, data: DataProto) -> torch.Tensor:
        """As GMPOActor's: float32 (groups, G, T)."""
        groups = groups_of(data)
        log_probs_BT = super().compute_log_prob(self.rows(groups))
        return log_probs_BT.float().view(len(groups), -1, log_probs_BT.shape[-1])

    def update_policy(self, data: DataProto) -> dict[str, Any]:
        """EasyR1's figures, and `rollout/mismatch_*` under `old_log_probs: rollout`. A collective."""
        set_learning_rate(self.actor_optimizer, data.meta_info["lr"])
        groups, mismatch = groups_of(data), None
        if self.run.worker.actor.old_log_probs == "rollout":
            mismatch = RolloutMismatch(self.policy.device)
            # EasyR1's rows do not say which are surplus of an earlier step: a rank with one compares none.
            self.first_update = mismatch if all(group.fresh for group in groups) else None
        metrics = super().update_policy(self.rows(groups))
        means = {name: float(torch.tensor(values).double().mean()) for name, values in metrics.items()}
        return means | ({} if mismatch is None else mismatch.result())

    def _forward_micro_batch(self, micro_batch: dict[str, torch.Tensor], temperature: float) -> torch.Tensor:
        log_probs_BT = super()._forward_micro_batch(micro_batch, temperature)
        if self.first_update is not None:
            old_BT, mask_BT = micro_batch["old_log_probs"], micro_batch["response_mask"]
            self.first_update.add(log_probs_BT.detach(), old_BT, mask_BT)
        return log_probs_BT

    def _optimizer_step(self) -> torch.Tensor:
        self.first_update = None
        return super()._optimizer_step()

    def rows(self, groups: Sequence[Group]) -> DataProto:
        return to_rows(groups, self.run, self.policy.processor).to(self.policy.device)
