"""Does the shared forward give what the plain one gives, on this model, these weights, this machine, the first batch?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.distributed as dist

from gmpo_vl.batching.planning import Limits, Row, rows_of
from gmpo_vl.config import Config
from gmpo_vl.engines.passes import Policy, forward, limits_of
from gmpo_vl.engines.setup import DTYPES
from gmpo_vl.models.forward import language_model, unwrap
from gmpo_vl.rollout.types import Group

# Largest accepted gaps (log-prob in nats, gradient relative) by the dtype that the forward computes in. What two orders
# of the same sums differ by is about a tenth of these; a wrong mask or position is off by far more.
TOLERANCE = {
    torch.float64: (1e-6, 1e-5),  # transformers keeps norms in float32
    torch.float32: (1e-3, 1e-2),
    torch.bfloat16: (0.25, 0.2),
    torch.float16: (0.1, 0.1),
}

# Largest accepted median gap of a token's log-prob between the sampler and the trainer (nats), by what the sampler
# computes in. A weight that was not brought over, a wrong temperature or a missing picture is off by far more.
MISMATCH = {"fp32": 1e-3, "bf16": 0.1, "fp16": 0.05}


@dataclass(frozen=True)
class Proof:
    """log_prob_gap: largest |shared - plain|, nats. gradient_gap: |shared - plain| / |plain| of a layer's gradient."""

    log_prob_gap: float
    gradient_gap: float
    dtype: torch.dtype

    @property
    def holds(self) -> bool:
        log_prob, gradient = TOLERANCE[self.dtype]
        return self.log_prob_gap <= log_prob and self.gradient_gap <= gradient  # False for NaN

    def __str__(self) -> str:
        name = str(self.dtype).removeprefix("torch.")
        return f"log-probs differ by {self.log_prob_gap:.1e}, a gradient by {self.gradient_gap:.1e} ({name})"


def prove_sharing(policy: Policy, groups: Sequence[Group], config: Config) -> Proof:
    """Two rollouts of one of this rank's groups both ways; the largest gaps of all ranks. Leaves no gradient behind.

    A collective. The gradient is that of the first layer, which has come through all the others.
    """
    limits = limits_of(config, False, config.worker.actor.micro_batch_size_per_device_for_update)
    rows = two_rollouts(groups, limits)
    layer = language_model(unwrap(policy.model)).layers[0]  # type: ignore[index]
    policy.model.train()  # gradient checkpointing acts in this mode only

    def run(share_prefix: bool) -> tuple[torch.Tensor, torch.Tensor]:
        log_probs_BT, _ = forward(replace(policy, share_prefix=share_prefix), policy.model, rows, config)
        log_probs_BT.double().sum().backward()  # a sharded weight gets its gradient here and nowhere else
        found = [p.grad.flatten().double() for p in layer.parameters() if p.grad is not None]
        policy.model.zero_grad(set_to_none=True)
        # Adapters elsewhere only: the log-probs have to do.
        return log_probs_BT.detach(), torch.cat(found or [torch.zeros(1, device=policy.device)])

    shared_BT, shared_W = run(True)
    plain_BT, plain_W = run(False)
    largest = (shared_BT - plain_BT).abs().max().double()
    squares = torch.stack([(shared_W - plain_W).square().sum(), plain_W.square().sum()])
    if policy.ranks > 1:
        dist.all_reduce(largest, op=dist.ReduceOp.MAX)
        dist.all_reduce(squares)
    gap = float((squares[0] / squares[1]).sqrt()) if squares.any() else 0.0
    return Proof(float(largest), gap, DTYPES[config.worker.actor.fsdp.mp_param_dtype])


def two_rollouts(groups: Sequence[Group], limits: Limits) -> list[Row]:
    """The longest two of one prompt that a plain forward may hold; of the shortest group where it may hold none."""
    pairs = [sorted(rows_of([group]), key=lambda row: row.length)[-2:] for group in groups]
    pairs.sort(key=lambda pair: sum(row.length for row in pair))
    return ([pair for pair in pairs if limits.allow(pair)] or pairs[:1])[-1]
