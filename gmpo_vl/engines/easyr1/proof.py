"""Does the shared forward give what the plain one gives, on the sharded model, on these GPUs, on the first batch?"""
# pyright: reportMissingImports=false

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist

from gmpo_vl.batching.planning import Row
from gmpo_vl.config import Config
from gmpo_vl.engines.local.setup import DTYPES
from gmpo_vl.engines.passes import Policy
from gmpo_vl.models.forward import language_model, unwrap
from gmpo_vl.models.proof import Proof
from gmpo_vl.rollout.types import Group


def prove_sharing(policy: Policy, groups: Sequence[Group], config: Config) -> Proof:
    """Two responses of this rank's shortest group both ways; the largest gaps of all ranks. Leaves no gradient behind.

    A collective. (models/proof.py asks autograd for gradients; a sharded weight gets its own in `backward` only.)
    """
    group = min(groups, key=lambda g: sum(len(r.ids_T) for r in g.responses))
    packed = policy.pack([Row(group, k) for k in range(min(2, len(group.responses)))])
    layer = language_model(unwrap(policy.model)).layers[0]
    policy.model.train()  # gradient checkpointing acts in this mode only

    def run(share_prefix: bool) -> tuple[torch.Tensor, torch.Tensor]:
        log_probs_BT, _ = policy.model(
            packed,
            config.worker.rollout.temperature,
            policy.banned_ids,
            share_prefix=share_prefix,
            visit_vision=policy.ranks > 1,
        )
        log_probs_BT.double().sum().backward()
        gradients = [p.grad.flatten().double() for p in layer.parameters() if p.grad is not None]
        policy.model.zero_grad(set_to_none=True)
        return log_probs_BT.detach(), torch.cat(gradients)

    shared_BT, shared_W = run(True)
    plain_BT, plain_W = run(False)
    largest = (shared_BT - plain_BT).abs().max().double()
    squares = torch.stack([(shared_W - plain_W).square().sum(), plain_W.square().sum()])
    if policy.ranks > 1:
        dist.all_reduce(largest, op=dist.ReduceOp.MAX)
        dist.all_reduce(squares)
    gap = float((squares[0] / squares[1]).sqrt())
    return Proof(float(largest), gap, DTYPES[config.worker.actor.fsdp.mp_param_dtype])
