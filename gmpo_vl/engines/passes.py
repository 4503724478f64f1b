"""A training pass, the same on every engine: log-probs of the old and the reference policy, then the updates.

An engine hands over a `Policy` and groups; on several ranks each hands over its own groups. The result does
not depend on how groups were dealt to ranks or cut into micro-batches. A function that says `A collective` is
called by all ranks, with the same number of mini-batches; each runs as many forwards (FSDP gathers weights).
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch.nn.utils.rnn import pad_sequence

from gmpo_vl.batching.planning import Row, micro_batches, mini_batches, rows_of, split_groups
from gmpo_vl.config import Config
from gmpo_vl.engines.policy import Policy, most_on_any_rank
from gmpo_vl.models.forward import ForwardOptions, unwrap
from gmpo_vl.models.routers import RouterCounter, Routing, routers
from gmpo_vl.policy import (
    RolloutMismatch,
    StepDiagnostics,
    kl,
    per_sequence_loss,
    reduce_loss,
    rollout_correction,
    sequence_weights,
    skippable,
    token_mean,
    total_weight,
)
from gmpo_vl.policy.objectives import OBJECTIVES, is_own
from gmpo_vl.policy.own import OwnObjective
from gmpo_vl.setup import load_own_objective
from gmpo_vl.types import Group


class Scored(NamedTuple):
    """One response under a model, on the CPU: log-probs (T,) and entropies (T,) in nats, float32, and for a
    mixture of experts what its routers did (models/routers.py), float64 (S,)."""

    row: Row
    log_probs_T: torch.Tensor
    entropy_T: torch.Tensor
    routing_S: torch.Tensor | None


def log_probs_of(policy: Policy, model: Any, groups: Sequence[Group], config: Config) -> Iterator[Scored]:
    """Every response under `model`, in no particular order, no gradients. A collective: consume all of it."""
    rows = rows_of(groups)
    limits = policy.limits(config, config.worker.actor.micro_batch_size_per_device_for_experience)
    batches = micro_batches(rows, limits)
    policy.look_at(groups)
    # Asked before the first forward: collectives keep one order.
    most = most_on_any_rank(policy, len(batches))
    model.eval()
    routing = RouterCounter(model) if routers(model) else None
    for batch in batches:
        with torch.no_grad():
            log_probs_BT, entropy_BT = forward(policy, model, batch, config, True, routing)
        assert entropy_BT is not None
        log_probs_BT, entropy_BT = log_probs_BT.cpu(), entropy_BT.cpu()
        routing_BS = [None] * len(batch) if routing is None else routing.sums_BS.cpu()
        for row, log_probs_T, entropy_T, routing_S in zip(batch, log_probs_BT, entropy_BT, routing_BS):
            length = row.response_length
            yield Scored(row, log_probs_T[:length], entropy_T[:length], routing_S)
    for _ in range(len(batches), most):
        with torch.no_grad():
            forward(policy, model, [_shortest(rows)], config)


class LogProbs(NamedTuple):
    """of: log pi of every group's every response, (T,), float32. entropy_N: sum over all tokens of a group of
    their distributions' entropy, float64, in nats; None where it is not known. routing: what the routers of a
    mixture of experts did with each group; None for other models, or where it is not known."""

    of: list[list[torch.Tensor]]
    entropy_N: torch.Tensor | None
    routing: Routing | None = None

    def metrics(self) -> dict[str, float]:
        """`actor/entropy`: the mean over tokens; `router/*`."""
        tokens = sum(len(log_probs_T) for of_group in self.of for log_probs_T in of_group)
        found = {}
        if self.entropy_N is not None and tokens > 0:
            found["actor/entropy"] = float(self.entropy_N.sum() / tokens)
        return found | ({} if self.routing is None else self.routing.metrics())


def log_probs_by_group(policy: Policy, model: Any, groups: Sequence[Group], config: Config) -> LogProbs:
    """The same in the groups' order, all at once. A collective."""
    index = {id(group): i for i, group in enumerate(groups)}
    found = [[torch.empty(0)] * len(group.responses) for group in groups]
    entropy_N = torch.zeros(len(groups), dtype=torch.float64)
    routing_NS: torch.Tensor | None = None
    for row, log_probs_T, entropy_T, routing_S in log_probs_of(policy, model, groups, config):
        i = index[id(row.group)]
        found[i][row.k] = log_probs_T
        entropy_N[i] += entropy_T.double().sum()
        if routing_S is not None:
            if routing_NS is None:
                routing_NS = torch.zeros(len(groups), len(routing_S), dtype=torch.float64)
            routing_NS[i] += routing_S
    routing = None if routing_NS is None else Routing(unwrap(model).config, routing_NS)
    return LogProbs(found, entropy_N, routing)


def reference_log_probs(
    policy: Policy, reference: Any | None, groups: Sequence[Group], config: Config
) -> list[list[torch.Tensor]]:
    """The starting model's log-probs: `reference`, or under LoRA the policy with its adapters off."""
    adapters_off = policy.model.disable_adapter() if reference is None else contextlib.nullcontext()
    with adapters_off:
        return log_probs_by_group(policy, reference or policy.model, groups, config).of


def take_rollout_log_probs(groups: Sequence[Group]) -> dict[str, float]:
    """Take the sampler's log-probs for the old policy's. Returns `actor/entropy` as sampling found it."""
    responses = [response for group in groups for response in group.responses]
    for group in groups:
        group.old_log_probs = [response.rollout_log_probs_T for response in group.responses]
    known = [(r.entropy, len(r.ids_T)) for r in responses if r.entropy is not None]
    return {"actor/entropy": sum(e for e, _ in known) / sum(n for _, n in known)} if known else {}


def update_policy(
    policy: Policy,
    optimizer: torch.optim.Optimizer,
    groups: Sequence[Group],
    config: Config,
    progress: Callable[[int], None] | None = None,
) -> dict[str, float]:
    """`ppo_epochs` passes over the step's mini-batches, one optimizer step each. Returns the actor metrics.

    groups: this rank's, those of the first mini-batch first; `global_batch_size` counts all ranks' prompts.
    Under `old_log_probs: rollout` `rollout/mismatch_*` are among the metrics: the first mini-batch runs on
    the weights that sampled it, so its log-probs are compared at no cost. Raises FloatingPointError when
    every update of the step had a non-finite gradient; one such update is skipped and counted. A collective.
    """
    actor = config.worker.actor
    diagnostics = StepDiagnostics(policy.device)
    mismatch = RolloutMismatch(policy.device) if actor.old_log_probs == "rollout" else None
    unseen = mismatch  # until the first mini-batch is over
    updates = skipped = 0
    split_and_all = torch.zeros(2, dtype=torch.float64, device=policy.device)
    policy.look_at(groups)
    policy.model.train()
    for _ in range(actor.ppo_epochs):
        for mini_batch in mini_batches(groups, actor.global_batch_size // policy.ranks):
            optimizer.zero_grad()
            before = diagnostics.mark()
            split = accumulate_gradient(policy, mini_batch, config, diagnostics, progress, unseen)
            unseen = None
            split_and_all += torch.tensor(split, dtype=torch.float64, device=policy.device)
            norm = _clip_gradient(policy.model, actor.max_grad_norm)
            if not math.isfinite(norm):
                diagnostics.rewind(before)  # one such update would blank the figures of all
                skipped += 1
                continue
            diagnostics.add_update(norm)
            optimizer.step()
            updates += 1
    if updates == 0:
        raise FloatingPointError(
            f"every update of this step had a non-finite gradient ({skipped} of them); lower "
            "worker.actor.optim.lr, or compute in fp32 (worker.actor.fsdp.mp_param_dtype)"
        )
    metrics = diagnostics.result() | ({} if mismatch is None else mismatch.result())
    if policy.ranks > 1:
        dist.all_reduce(split_and_all)
    split_share = float(split_and_all[0] / split_and_all[1].clamp(min=1))
    return metrics | {"actor/skipped_updates": float(skipped), "batch/split_groups": split_share}


def accumulate_gradient(
    policy: Policy,
    groups: Sequence[Group],
    config: Config,
    diagnostics: StepDiagnostics,
    progress: Callable[[int], None] | None = None,
    mismatch: RolloutMismatch | None = None,
) -> tuple[int, int]:
    """Add the gradient of sum(loss * weight) / sum(weight) over a mini-batch, micro-batch by micro-batch.

    groups: this rank's part of it. The total weight is that of all ranks, so the average of their gradients
    is the gradient of the whole mini-batch. mismatch: told of the log-probs, where it is given. Returns how
    many groups were split over several forwards, and how many were run. A collective.
    """
    actor = config.worker.actor
    rows = rows_of(groups)
    objective, weight_B = _before_any_forward(policy, rows, config)
    total = total_weight(weight_B.to(policy.device))
    skip_B = _without_gradient(rows, config)
    active = [row for row, skip in zip(rows, skip_B.tolist()) if not skip]
    diagnostics.add_skipped(weight_B[skip_B])
    if progress is not None and len(active) < len(rows):
        progress(len(rows) - len(active))
    limits = policy.limits(config, actor.micro_batch_size_per_device_for_update)
    batches = micro_batches(active, limits)
    mini_batch = _MiniBatch(objective, total, diagnostics, mismatch)
    # With several ranks at least one forward, so that every parameter gets a gradient.
    most = most_on_any_rank(policy, max(len(batches), int(policy.ranks > 1)))
    for batch in batches:
        loss = _micro_batch_loss(policy, batch, config, mini_batch)
        if loss.requires_grad:  # not where adapters sit in the ViT alone and no row has a picture
            loss.backward()
        if progress is not None:
            progress(len(batch))
    for _ in range(len(batches), most):
        log_probs_BT, _ = forward(policy, policy.model, [_shortest(rows)], config)
        (log_probs_BT.sum() * 0.0).backward()
    if policy.ranks == 1:
        _fill_missing_gradients(policy.model)
    return split_groups(batches)


def trained_rows(group: Group, config: Config) -> list[Row]:
    """The group's rows that an update runs: those that may have a gradient."""
    rows = rows_of([group])
    return [row for row, skip in zip(rows, _without_gradient(rows, config).tolist()) if not skip]


def _without_gradient(rows: Sequence[Row], config: Config) -> torch.Tensor:
    """bool (B,): rows that an update need not run."""
    advantages_B = torch.stack([row.advantage for row in rows])
    actor = config.worker.actor
    return skippable(actor.loss_type, advantages_B, kl_coef=_kl_coef(config), entropy_coef=actor.entropy_coef)


def _kl_coef(config: Config) -> float:
    return 0.0 if config.algorithm.disable_kl else config.algorithm.kl_coef


def loss_mask(row: Row, config: Config) -> torch.Tensor:
    """bool (T,): which tokens count. `overlong_responses: mask` leaves out a response cut at the limit."""
    response = row.group.responses[row.k]
    masked = config.algorithm.overlong_responses == "mask" and not response.finished
    return torch.full((len(response.ids_T),), not masked)


def objective_settings(config: Config) -> dict[str, float]:
    """The options of the configured objective that somebody set; none for a user's, which carries its own."""
    actor = config.worker.actor
    keys = () if is_own(actor.loss_type) else OBJECTIVES[actor.loss_type].defaults
    return {key: getattr(actor, key) for key in keys if getattr(actor, key) is not None}


def objective_of(policy: Policy, config: Config) -> str | OwnObjective:
    """The name of one of ours, or a user's objective, whose file is read once in a policy's life."""
    actor, known = config.worker.actor, policy.objective
    if known is None or (known.name, known.options) != (actor.loss_type, actor.loss_options):
        known = policy.objective = load_own_objective(config)
    return actor.loss_type if known is None else known


def _before_any_forward(
    policy: Policy, rows: Sequence[Row], config: Config
) -> tuple[str | OwnObjective, torch.Tensor]:
    """The objective, with its statistics where it asks, and the weight (B,) of the rows. A collective."""
    objective = objective_of(policy, config)
    if isinstance(objective, OwnObjective):
        objective, weight_B = objective.of_mini_batch(*_known_before(policy, rows, config))
        return objective, weight_B.cpu()
    lengths_B = torch.tensor([int(loss_mask(row, config).sum()) for row in rows])
    return objective, sequence_weights(objective, lengths_B)


def _known_before(policy: Policy, rows: Sequence[Row], config: Config) -> tuple[torch.Tensor, ...]:
    """Old log-probs (B, T), mask (B, T) and advantages (B,) of some rows."""
    old_BT = _padded(policy, [row.group.old_log_probs[row.k] for row in rows])
    mask_BT = _padded(policy, [loss_mask(row, config) for row in rows])
    return old_BT, mask_BT, torch.stack([row.advantage for row in rows]).to(policy.device)


def _padded(policy: Policy, values: list[torch.Tensor]) -> torch.Tensor:
    return pad_sequence(values, batch_first=True).to(policy.device)


class _MiniBatch(NamedTuple):
    """What its micro-batches have in common. total: its weight on all ranks. The last two collect figures."""

    objective: str | OwnObjective
    total: float
    diagnostics: StepDiagnostics
    mismatch: RolloutMismatch | None


def _micro_batch_loss(
    policy: Policy, batch: Sequence[Row], config: Config, mini_batch: _MiniBatch
) -> torch.Tensor:
    """This micro-batch's part of the mini-batch's loss: objective, KL and entropy by one reduction."""
    actor, kl_coef = config.worker.actor, _kl_coef(config)
    log_probs_BT, entropy_BT = forward(
        policy, policy.model, batch, config, with_entropy=actor.entropy_coef != 0
    )
    old_BT, mask_BT, advantages_B = _known_before(policy, batch, config)
    if mini_batch.mismatch is not None:  # the old policy's are the sampler's
        fresh_B1 = torch.tensor([[row.group.fresh] for row in batch], device=policy.device)
        mini_batch.mismatch.add(log_probs_BT.detach(), old_BT, mask_BT & fresh_B1)
    settings = objective_settings(config)
    found = per_sequence_loss(mini_batch.objective, log_probs_BT, old_BT, mask_BT, advantages_B, **settings)
    loss_B = found.loss_B
    if actor.rollout_correction_cap is not None:
        rollout_BT = _padded(policy, [row.group.responses[row.k].rollout_log_probs_T for row in batch])
        loss_B = loss_B * rollout_correction(old_BT, rollout_BT, mask_BT, actor.rollout_correction_cap)
    kl_B = None
    if kl_coef:
        ref_BT = _padded(policy, [row.group.ref_log_probs[row.k] for row in batch])
        kl_B = token_mean(kl(log_probs_BT, ref_BT, config.algorithm.kl_penalty), mask_BT)
        loss_B = loss_B + kl_coef * kl_B
    if entropy_BT is not None:
        loss_B = loss_B - actor.entropy_coef * token_mean(entropy_BT, mask_BT)
    mini_batch.diagnostics.add(found, kl_B=kl_B)
    return reduce_loss(loss_B, found.weight_B, mini_batch.total, averaged_over=policy.ranks)


def forward(
    policy: Policy,
    model: Any,
    batch: Sequence[Row],
    config: Config,
    with_entropy: bool = False,
    routing: RouterCounter | None = None,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """`response_log_probs` of a micro-batch, by calling the model:

    a sharded one gathers its weights only then.
    """
    visit = policy.processor.image if policy.ranks > 1 and policy.features is None else None
    options = ForwardOptions(policy.way, visit, routing)
    with policy.autocast():
        return model(
            policy.pack(batch),
            config.worker.rollout.temperature,
            policy.banned_ids,
            with_entropy,
            options,
        )


def _shortest(rows: Sequence[Row]) -> Row:
    """What a rank runs, with weight 0, when it has nothing left to run and others have."""
    return min(rows, key=lambda row: row.length)


def _clip_gradient(model: Any, max_norm: float) -> float:
    """Scale the gradient down to `max_norm`; returns its norm before. FSDP has its own over all shards."""
    if hasattr(model, "clip_grad_norm_"):
        return float(model.clip_grad_norm_(max_norm))
    trained = [p for p in model.parameters() if p.requires_grad and p.grad is not None]
    return float(torch.nn.utils.clip_grad_norm_(trained, max_norm))


def _fill_missing_gradients(model: torch.nn.Module) -> None:
    """AdamW treats a missing gradient and a zero gradient differently. So parameters that no row used get a
    zero gradient. (With several ranks every part of the model is run, with weight 0 where need be.)"""
    for parameter in model.parameters():
        if parameter.requires_grad and parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
