"""EasyR1's actor with this project's passes: log-probs and updates of one rank's groups."""
# pyright: reportMissingImports=false

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from verl.protocol import DataProto
from verl.workers.actor.dp_actor import DataParallelPPOActor

from gmpo_vl.config import Config
from gmpo_vl.engines.easyr1.rows import to_rows
from gmpo_vl.engines.easyr1.wire import groups_of
from gmpo_vl.engines.passes import Policy, log_probs_of, update_policy
from gmpo_vl.rollout.types import Group


class GMPOActor(DataParallelPPOActor):
    """Every objective of gmpo_vl.policy. One row of what comes in is a group (wire.py).

    actor_optimizer: None for the reference policy. policy: the same module with how it computes; every pass is told whether
    prompts are shared.
    """

    def __init__(self, config: Any, policy: Policy, run: Config, actor_optimizer: Any = None) -> None:
        super().__init__(config, policy.model, actor_optimizer)
        self.policy, self.run = policy, run
        self.entropy: dict[str, float] = {}

    @torch.no_grad()
    def compute_log_prob(self, data: DataProto) -> torch.Tensor:
        """log pi of every response: float32 (groups, G, T), T the longest allowed response. A collective.

        The entropy of the tokens' distributions is kept for the step's metrics; copies do not count in it.
        """
        groups = groups_of(data)
        self.policy.share_prefix = data.meta_info["share_prefix"]
        is_copy = dict(zip([group.key for group in groups], data.batch["is_copy"].tolist()))
        index = {group.key: i for i, group in enumerate(groups)}
        out_NGT = torch.zeros(
            len(groups),
            len(groups[0].responses),
            self.run.data.max_response_length,
            device=self.policy.device,
        )
        sums = torch.zeros(2, dtype=torch.float64, device=self.policy.device)
        for row, log_probs_T, entropy_T in log_probs_of(self.policy, self.policy.model, groups, self.run):
            out_NGT[index[row.group.key], row.k, : row.response_length] = log_probs_T
            if not is_copy[row.group.key]:
                sums += torch.tensor([entropy_T.double().sum(), len(entropy_T)], device=sums.device)
        if self.policy.ranks > 1:
            dist.all_reduce(sums)
        self.entropy = {"actor/entropy": float(sums[0] / sums[1])}
        return out_NGT

    def update_policy(self, data: DataProto) -> dict[str, Any]:
        """The step's updates. Every rank returns the same figures, of the whole step. A collective."""
        self.policy.share_prefix = data.meta_info["share_prefix"]
        set_learning_rate(self.actor_optimizer, data.meta_info["lr"])
        return self.entropy | update_policy(self.policy, self.actor_optimizer, groups_of(data), self.run)


class EasyR1LossActor(DataParallelPPOActor):
    """EasyR1's own actor, unchanged, for `loss_type: easyr1/NAME`: groups become the rows it knows.

    Its figures are means over micro-batches, as EasyR1 reports them.
    """

    def __init__(self, config: Any, policy: Policy, run: Config, actor_optimizer: Any = None) -> None:
        super().__init__(config, policy.model, actor_optimizer)
        self.policy, self.run = policy, run

    def compute_log_prob(self, data: DataProto) -> torch.Tensor:
        """As GMPOActor's: float32 (groups, G, T)."""
        groups = groups_of(data)
        log_probs_BT = super().compute_log_prob(self.rows(groups))
        return log_probs_BT.float().view(len(groups), -1, log_probs_BT.shape[-1])

    def update_policy(self, data: DataProto) -> dict[str, Any]:
        set_learning_rate(self.actor_optimizer, data.meta_info["lr"])
        metrics = super().update_policy(self.rows(groups_of(data)))
        return {name: float(torch.tensor(values).double().mean()) for name, values in metrics.items()}

    def rows(self, groups: Sequence[Group]) -> DataProto:
        return to_rows(groups, self.run, self.policy.processor).to(self.policy.device)


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    for parameters in optimizer.param_groups:
        parameters["lr"] = lr
