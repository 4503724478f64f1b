"""What one forward may hold, by a configuration's keys."""

from __future__ import annotations

from dataclasses import dataclass

from gmpo_vl.batching.planning import Limits
from gmpo_vl.config import Config
from gmpo_vl.models.packing import Way


@dataclass(frozen=True)
class PassLimits:
    """score: of a forward of the log-prob passes, which have no backward. update: of one with a backward."""

    score: Limits
    update: Limits


def pass_limits(config: Config, way: Way) -> PassLimits:
    """The limits of both passes."""
    return PassLimits(*(limits_of(config, way, rollouts) for rollouts in micro_batch_sizes(config)))


def micro_batch_sizes(config: Config) -> tuple[int, int]:
    """EasyR1's micro-batch sizes in rollouts: without and with a backward."""
    actor = config.worker.actor
    return actor.micro_batch_size_per_device_for_experience, actor.micro_batch_size_per_device_for_update


def limits_of(config: Config, way: Way, rollouts: int) -> Limits:
    """What one forward may hold. `rollouts`: the micro-batch size of this pass.

    The first that applies: one rollout, where each goes alone; `max_tokens_per_micro_batch`; with
    `dynamic_batching` (as in EasyR1) the tokens of that many rollouts of full length; that many rollouts.
    """
    actor, data, share_prefix = config.worker.actor, config.data, way == "shared"
    if way == "public":
        return Limits(max_rows=1, share_prefix=False)
    if actor.max_tokens_per_micro_batch is not None:
        return Limits(max_tokens=actor.max_tokens_per_micro_batch, share_prefix=share_prefix)
    if actor.dynamic_batching:
        longest = data.max_prompt_length + data.max_response_length
        return Limits(max_tokens=rollouts * longest, share_prefix=share_prefix)
    return Limits(max_rows=rollouts, share_prefix=share_prefix)
