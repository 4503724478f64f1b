"""The parity check: does the shared forward give what the model's own gives, on this model and machine?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.distributed as dist

from gmpo_vl.batching.planning import Limits, Row, rows_of
from gmpo_vl.config import Config
from gmpo_vl.engines.passes import forward
from gmpo_vl.engines.policy import Policy
from gmpo_vl.models.forward import unwrap
from gmpo_vl.models.geometry import language_model
from gmpo_vl.models.shared import is_known
from gmpo_vl.setup import DTYPES
from gmpo_vl.sizing.limits import limits_of
from gmpo_vl.types import Group


@dataclass(frozen=True)
class Tolerance:
    """What rounding explains. largest, rms: gaps of log-probs, nats. gradient: relative to the plain one."""

    largest: float
    rms: float
    gradient: float


# By the dtype that a forward computes in. In half precision two right kernels differ by a nat on a few tokens
# in thousands, those of low probability. So the root mean square decides there, not the largest gap
# (docs/decisions.md).
TOLERANCE = {
    torch.float64: Tolerance(1e-6, 1e-6, 1e-5),  # transformers keeps norms in float32
    torch.float32: Tolerance(1e-3, 1e-3, 1e-2),
    torch.bfloat16: Tolerance(math.inf, 0.1, 0.2),
    torch.float16: Tolerance(math.inf, 0.03, 0.1),
}

# Largest accepted median gap of a token's log-prob between sampler and trainer (nats), by the sampler's
# dtype. A weight that was not brought over, a wrong temperature or a missing picture is off by far more.
MISMATCH = {"fp32": 1e-3, "bf16": 0.1, "fp16": 0.05}


@dataclass(frozen=True)
class Gaps:
    """How far two forwards' log-probs of the same tokens are apart, in nats. NaN where one of them is."""

    largest: float
    rms: float

    def within(self, tolerance: Tolerance) -> bool:
        return self.largest <= tolerance.largest and self.rms <= tolerance.rms  # False for NaN


def gaps_between(some_N: torch.Tensor, others_N: torch.Tensor, over_ranks: bool = False) -> Gaps:
    """Of two log-probs of each token. over_ranks: of the tokens of all ranks; a collective."""
    gap_N = (some_N - others_N).abs().double()
    largest = gap_N.max()
    sums = torch.stack([gap_N.square().sum(), gap_N.new_tensor(len(gap_N))])
    if over_ranks:
        dist.all_reduce(largest, op=dist.ReduceOp.MAX)
        dist.all_reduce(sums)
    rms = float((sums[0] / sums[1]).sqrt())
    return Gaps(float(largest) if rms == rms else rms, rms)


@dataclass(frozen=True)
class Parity:
    """Shared against the model's own forward. gradient_gap: |shared - own| / |own| of a layer's gradient.

    failed: what the shared forward raised, in words; None where it ran.
    """

    gaps: Gaps
    gradient_gap: float
    dtype: torch.dtype
    failed: str | None = None

    @property
    def holds(self) -> bool:
        if self.failed is not None:
            return False
        tolerance = TOLERANCE[self.dtype]
        return self.gaps.within(tolerance) and self.gradient_gap <= tolerance.gradient  # False for NaN

    def __str__(self) -> str:
        if self.failed is not None:
            return self.failed
        name = str(self.dtype).removeprefix("torch.")
        return (
            f"log-probs differ by {self.gaps.rms:.1e} (root mean square; {self.gaps.largest:.1e} at most), a "
            f"gradient by {self.gradient_gap:.1e} ({name})"
        )


def check_parity(policy: Policy, groups: Sequence[Group], config: Config) -> Parity:
    """A few of this rank's rollouts, both ways; the gaps over all ranks. A collective.

    The model's own forward takes them one by one, from their ids and pictures. The gradient is the first
    layer's, which has come through all the others. None is left behind. A model of a kind that is not known
    may refuse the packed row in any way: what it raises is the result.
    """
    limits = limits_of(config, False, config.worker.actor.micro_batch_size_per_device_for_update)
    # Ranks that share weights run as many forwards: two each.
    rows = some_rollouts(groups, limits) if policy.ranks == 1 else two_rollouts(groups, limits)
    layer = language_model(unwrap(policy.model)).layers[0]  # type: ignore[index]
    policy.look_at([row.group for row in rows])
    policy.model.train()  # gradient checkpointing acts in this mode only

    def run(way: Policy) -> tuple[torch.Tensor, torch.Tensor]:
        log_probs_BT, _ = forward(way, policy.model, rows, config)
        if log_probs_BT.requires_grad:  # a sharded weight gets its gradient here and nowhere else
            log_probs_BT.double().sum().backward()
        found = [p.grad.flatten().double() for p in layer.parameters() if p.grad is not None]
        policy.model.zero_grad(set_to_none=True)
        of_tokens = [x[: row.response_length] for x, row in zip(log_probs_BT.detach(), rows)]
        # Adapters elsewhere only: the log-probs have to do.
        return torch.cat(of_tokens), torch.cat(found or [torch.zeros(1, device=policy.device)])

    dtype = DTYPES[config.worker.actor.fsdp.mp_param_dtype]
    try:
        shared_N, shared_W = run(replace(policy, share_prefix=True, public=False))
    except Exception as error:
        if is_known(unwrap(policy.model).config):
            raise
        policy.model.zero_grad(set_to_none=True)
        what = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        return Parity(Gaps(math.nan, math.nan), math.nan, dtype, what)
    own_N, own_W = run(replace(policy, public=True, features=None))  # kept features are checked, too
    gaps = gaps_between(shared_N, own_N, over_ranks=policy.ranks > 1)
    squares = torch.stack([(shared_W - own_W).square().sum(), own_W.square().sum()])
    if policy.ranks > 1:
        dist.all_reduce(squares)
    gradient_gap = float((squares[0] / squares[1]).sqrt()) if squares.any() else 0.0
    return Parity(gaps, gradient_gap, dtype)


def some_rollouts(groups: Sequence[Group], limits: Limits) -> list[Row]:
    """`two_rollouts`, and the shortest of another group where a plain forward may hold it with them: nothing
    may leak from one prompt to the next."""
    rows = two_rollouts(groups, limits)
    others = [row for group in groups if group is not rows[0].group for row in rows_of([group])]
    others.sort(key=lambda row: row.length)
    return [*rows, *(row for row in others[:1] if limits.allow([*rows, row]))]


def two_rollouts(groups: Sequence[Group], limits: Limits) -> list[Row]:
    """The two longest of one group that a plain forward may hold, preferably one with pictures.

    Of the group with the shortest pair where it may hold none.
    """
    pairs = [sorted(rows_of([group]), key=lambda row: row.length)[-2:] for group in groups]
    pairs.sort(key=lambda pair: sum(row.length for row in pair))
    allowed = [pair for pair in pairs if limits.allow(pair)] or pairs[:1]
    return ([pair for pair in allowed if pair[0].group.prompt.images] or allowed)[-1]
