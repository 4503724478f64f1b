"""The parity check: does the shared forward give what the model's own gives, on this model and machine?"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.distributed as dist

from gmpo_vl.batching.planning import Limits, Row, in_one_prompt, rows_of
from gmpo_vl.config import Config
from gmpo_vl.engines.passes import forward
from gmpo_vl.engines.policy import Policy, most_on_any_rank
from gmpo_vl.models.forward import unwrap
from gmpo_vl.models.geometry import first_layers, language_model
from gmpo_vl.models.packing import Packed
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

    failed: why there is nothing to compare, in words; None where there is.
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

    The model's own forward takes them one by one, from their ids and pictures. The gradients are the first
    layer's, which has come through all the others. None is left behind. A model of a kind that is not known
    may refuse the packed row in any way: what it raises is the result. Of such a model the gradient of the
    ViT counts, too, and no response may see another, or another prompt.
    """
    model, dtype = unwrap(policy.model), DTYPES[config.worker.actor.fsdp.mp_param_dtype]
    known = is_known(model.config)
    limits = limits_of(config, "plain", config.worker.actor.micro_batch_size_per_device_for_update)
    batches = [some_rollouts(groups, limits) if policy.ranks == 1 else two_rollouts(groups, limits)]
    if not known:
        batches.append(longest_rollouts(groups, limits))
    # Ranks that share weights run as many forwards: a rank of games may have one answer to a prompt, not two.
    batches = [rows[: -most_on_any_rank(policy, -len(rows))] for rows in batches]
    policy.look_at([row.group for rows in batches for row in rows])
    policy.model.train()  # gradient checkpointing acts in this mode only
    policy.model.zero_grad(set_to_none=True)  # of the last update, where a run has made one
    layers = first_layers(model)[: 1 if known else 2]
    shared = replace(policy, way="shared")
    own = replace(policy, way="public", features=None)  # kept features are checked, too
    try:
        found = _passed(shared, config, batches, layers)
        obstacle = None if known else _leak(shared, config, batches[0])
    except (torch.OutOfMemoryError, MemoryError):
        raise  # says nothing about the model
    except Exception as error:
        if known:
            raise
        obstacle = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        policy.model.zero_grad(set_to_none=True)
    if obstacle is None:
        expected = _passed(own, config, batches, layers)
        if not known and (left := sorted(expected.learning - found.learning)):
            obstacle = f"{left[0]} would not learn"
    if obstacle is not None:
        return Parity(Gaps(math.nan, math.nan), math.nan, dtype, obstacle)
    gaps = gaps_between(found.log_probs_N, expected.log_probs_N, over_ranks=policy.ranks > 1)
    return Parity(gaps, _gradient_gap(found, expected, policy.ranks), dtype)


@dataclass(frozen=True)
class _Pass:
    """log_probs_N: of all tokens. gradients: (W,) of their sum in each of some layers. learning: names of all
    weights that have a gradient."""

    log_probs_N: torch.Tensor
    gradients: list[torch.Tensor]
    learning: set[str]


def _passed(
    policy: Policy, config: Config, batches: Sequence[Sequence[Row]], layers: Sequence[torch.nn.Module]
) -> _Pass:
    """A forward and a backward of the batches; no gradient is left behind."""
    log_probs = []
    for rows in batches:
        log_probs_BT, _ = forward(policy, policy.model, rows, config)
        if log_probs_BT.requires_grad:  # a sharded weight gets its gradient here and nowhere else
            log_probs_BT.double().sum().backward()
        log_probs += [x[: row.response_length] for x, row in zip(log_probs_BT.detach(), rows)]
    gradients = [_gradient(layer, policy.device) for layer in layers]
    learning = {name for name, p in policy.model.named_parameters() if p.grad is not None}
    policy.model.zero_grad(set_to_none=True)
    return _Pass(torch.cat(log_probs), gradients, learning)


def _gradient_gap(found: _Pass, expected: _Pass, ranks: int) -> float:
    """|found - expected| / |expected| of the layer where that is most; NaN where it is."""
    pairs = zip(found.gradients, expected.gradients, strict=True)
    squares_L2 = torch.stack(
        [torch.stack([(x_W - y_W).square().sum(), y_W.square().sum()]) for x_W, y_W in pairs]
    )
    if ranks > 1:
        dist.all_reduce(squares_L2)
    gaps_L = (squares_L2[:, 0] / squares_L2[:, 1]).sqrt()
    return float(torch.where(squares_L2.any(dim=1), gaps_L, 0.0).max())


def _gradient(layer: torch.nn.Module, device: torch.device) -> torch.Tensor:
    """(W,) of all trained weights, 0 where one way does not use a weight. (1,) of 0 where adapters sit
    elsewhere: the log-probs have to do."""
    trained = [p for p in layer.parameters() if p.requires_grad]
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in trained]
    return torch.cat([torch.zeros(1, device=device).double(), *(g.flatten().double() for g in gradients)])


def _leak(policy: Policy, config: Config, rows: Sequence[Row]) -> str | None:
    """Does a response's log-prob depend on another response or another prompt, in words? Its gradient tells
    that exactly, where a faint leak is lost in half precision's rounding."""
    packed_rows = []

    def keep(_module: torch.nn.Module, _args: tuple[Any, ...], given: dict[str, Any]) -> None:
        if given.get("layout") is not None:  # not a prompt in the model's own forward
            packed_rows.append(given["inputs_embeds"].requires_grad_())

    hook = language_model(unwrap(policy.model)).register_forward_pre_hook(keep, with_kwargs=True)
    try:
        log_probs_BT, _ = forward(policy, policy.model, rows, config)
    finally:
        hook.remove()
    for b, sees_L in enumerate(_allowed(policy.pack(rows))):
        (gradient_1LH,) = torch.autograd.grad(log_probs_BT[b].sum(), packed_rows, retain_graph=True)
        if gradient_1LH[0, ~sees_L.to(policy.device)].any():
            return "its layers let a response see another prompt or response"
    return None


def _allowed(packed: Packed) -> Iterator[torch.Tensor]:
    """Of each response, which tokens of the packed row it may see: its prompt's and its own. bool (L,)."""
    owners = []  # prompt and response (-1: none) of each token, in the row's order (models/shared.py)
    for k, prompt in enumerate(packed.prompts):
        owners += [(k, -1)] * len(prompt.ids_P)
        for b in (b for b, owner in enumerate(packed.prompt_of_B) if owner == k):
            owners += [(k, b)] * (int(packed.mask_BT[b].sum()) - 1)
    prompt_L, response_L = torch.tensor(owners).T
    for b, k in enumerate(packed.prompt_of_B):
        yield (prompt_L == k) & ((response_L == -1) | (response_L == b))


def longest_rollouts(groups: Sequence[Group], limits: Limits) -> list[Row]:
    """The longest of all, and the next of its prompt where a plain forward may hold it, too."""
    of_prompt = max(in_one_prompt(rows_of(groups)), key=lambda rows: max(row.length for row in rows))
    rows = sorted(of_prompt, key=lambda row: -row.length)[:2]
    return rows if limits.allow(rows) else rows[:1]


def some_rollouts(groups: Sequence[Group], limits: Limits) -> list[Row]:
    """`two_rollouts`, and the shortest of another prompt where a plain forward may hold it with them: nothing
    may leak from one prompt to the next."""
    rows = two_rollouts(groups, limits)
    others = [row for row in rows_of(groups) if row.sharing != rows[0].sharing]
    others.sort(key=lambda row: row.length)
    return [*rows, *(row for row in others[:1] if limits.allow([*rows, row]))]


def two_rollouts(groups: Sequence[Group], limits: Limits) -> list[Row]:
    """The two longest of one prompt that a plain forward may hold, preferably one with pictures.

    Of the prompt with the shortest pair where it may hold none.
    """
    pairs = [sorted(rows, key=lambda row: row.length)[-2:] for rows in in_one_prompt(rows_of(groups))]
    pairs = [pair for pair in pairs if len(pair) == 2] or pairs  # turns of games are often alone
    pairs.sort(key=lambda pair: sum(row.length for row in pair))
    allowed = [pair for pair in pairs if limits.allow(pair)] or pairs[:1]
    return ([pair for pair in allowed if pair[0].prompt.images] or allowed)[-1]
