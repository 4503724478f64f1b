"""One micro-batch's part of an update's loss: the objective and what is added to it, by one reduction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch.nn.utils.rnn import pad_sequence

from gmpo_vl.batching.planning import Row
from gmpo_vl.config import Config
from gmpo_vl.engines.correction import accepted_of, weights_of
from gmpo_vl.engines.passes import forward
from gmpo_vl.engines.perception import Branch, Masked, perception_loss
from gmpo_vl.engines.policy import Policy
from gmpo_vl.policy import (
    RolloutMismatch,
    StepDiagnostics,
    kl,
    per_sequence_loss,
    reduce_loss,
    sequence_weights,
    token_mean,
)
from gmpo_vl.policy.objectives import OBJECTIVES, is_own
from gmpo_vl.policy.own import OwnObjective
from gmpo_vl.setup import load_own_objective


def loss_mask(row: Row, config: Config) -> torch.Tensor:
    """bool (T,): which tokens count. `overlong_responses: mask` leaves out a response cut at the limit,
    `rollout_rs` what it rejects: from the objective's |o|, the mini-batch's weight, KL and entropy alike."""
    response = row.group.responses[row.k]
    if config.algorithm.overlong_responses == "mask" and not response.finished:
        return torch.zeros(len(response.ids_T), dtype=torch.bool)
    return accepted_of(row, config)


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


def before_any_forward(
    policy: Policy, rows: Sequence[Row], config: Config
) -> tuple[str | OwnObjective, torch.Tensor]:
    """The objective, with its statistics where it asks, and the weight (B,) of the rows. A collective."""
    objective = objective_of(policy, config)
    if isinstance(objective, OwnObjective):
        objective, weight_B = objective.of_mini_batch(*_known_before(policy, rows, config))
        return objective, weight_B.cpu() * _row_weights(rows)
    lengths_B = torch.tensor([int(loss_mask(row, config).sum()) for row in rows])
    return objective, sequence_weights(objective, lengths_B) * _row_weights(rows)


def _row_weights(rows: Sequence[Row]) -> torch.Tensor:
    return torch.tensor([row.weight for row in rows], dtype=torch.float64)


def _known_before(policy: Policy, rows: Sequence[Row], config: Config) -> tuple[torch.Tensor, ...]:
    """Old log-probs (B, T), mask (B, T) and advantages (B,) of some rows."""
    old_BT = _padded(policy, [row.group.old_log_probs[row.k] for row in rows])
    mask_BT = _padded(policy, [loss_mask(row, config) for row in rows])
    return old_BT, mask_BT, torch.stack([row.advantage for row in rows]).to(policy.device)


def _padded(policy: Policy, values: list[torch.Tensor]) -> torch.Tensor:
    return pad_sequence(values, batch_first=True).to(policy.device)


class MiniBatch(NamedTuple):
    """What its micro-batches have in common. total: its weight on all ranks. diagnostics, mismatch: collect
    figures. masked: the responses after masked pictures, under PAPO."""

    objective: str | OwnObjective
    total: float
    diagnostics: StepDiagnostics
    mismatch: RolloutMismatch | None
    masked: Masked | None = None


def kl_coef_of(config: Config) -> float:
    return 0.0 if config.algorithm.disable_kl else config.algorithm.kl_coef


def micro_batch_loss(
    policy: Policy, batch: Sequence[Row], config: Config, mini_batch: MiniBatch
) -> torch.Tensor:
    """This micro-batch's part of the mini-batch's loss: objective, KL, entropy and PAPO's terms by one
    reduction."""
    actor, kl_coef = config.worker.actor, kl_coef_of(config)
    with_entropy = actor.entropy_coef != 0 or config.algorithm.papo.ori_entropy_loss_coef != 0
    log_probs_BT, entropy_BT = forward(policy, policy.model, batch, config, with_entropy)
    old_BT, mask_BT, advantages_B = _known_before(policy, batch, config)
    if mini_batch.mismatch is not None:  # the old policy's are the sampler's
        fresh_B1 = torch.tensor([[row.group.fresh] for row in batch], device=policy.device)
        mini_batch.mismatch.add(log_probs_BT.detach(), old_BT, mask_BT & fresh_B1)
    settings = objective_settings(config)
    log_weights_BT, factor_B = weights_of(batch, config, mask_BT)
    found = per_sequence_loss(
        mini_batch.objective, log_probs_BT, old_BT, mask_BT, advantages_B, log_weights_BT, **settings
    )
    if factor_B is not None:
        found = found.times(factor_B)
    if any(row.group.weights_G is not None for row in batch):
        found = found.weighed(_row_weights(batch).to(policy.device))
    loss_B = found.loss_B
    kl_B = None
    if kl_coef:
        ref_BT = _padded(policy, [row.group.ref_log_probs[row.k] for row in batch])
        kl_B = token_mean(kl(log_probs_BT, ref_BT, config.algorithm.kl_penalty), mask_BT)
        loss_B = loss_B + kl_coef * kl_B
    if actor.entropy_coef:
        assert entropy_BT is not None
        loss_B = loss_B - actor.entropy_coef * token_mean(entropy_BT, mask_BT)
    if mini_batch.masked is not None:
        branch = Branch(batch, log_probs_BT, entropy_BT, mask_BT)
        loss_B = loss_B + perception_loss(
            branch, mini_batch.masked, found.weight_B, config, mini_batch.diagnostics
        )
    mini_batch.diagnostics.add(found, kl_B=kl_B)
    return reduce_loss(loss_B, found.weight_B, mini_batch.total, averaged_over=policy.ranks)
