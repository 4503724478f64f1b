"""What one forward may hold, by a configuration's keys."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from gmpo_vl.batching.planning import Limits
from gmpo_vl.config import Config
from gmpo_vl.models.shared import sharing_obstacle

ONE_ROLLOUT = Limits(max_rows=1, share_prefix=False)


@dataclass(frozen=True)
class PassLimits:
    """score: of a forward of the log-prob passes, which have no backward. update: of one with a backward."""

    score: Limits
    update: Limits

    def with_sharing(self) -> PassLimits:
        """The same limits where prompts are shared."""
        return PassLimits(*(replace(limits, share_prefix=True) for limits in (self.score, self.update)))


def pass_limits(config: Config, share_prefix: bool, model: Any = None) -> PassLimits:
    """The limits of both passes. model: as in `limits_for`; None: a model that takes packed rows."""
    limits = [
        limits_of(config, share_prefix, rollouts)
        if model is None
        else limits_for(model, config, share_prefix, rollouts)
        for rollouts in micro_batch_sizes(config)
    ]
    return PassLimits(*limits)


def micro_batch_sizes(config: Config) -> tuple[int, int]:
    """EasyR1's micro-batch sizes in rollouts: without and with a backward."""
    actor = config.worker.actor
    return actor.micro_batch_size_per_device_for_experience, actor.micro_batch_size_per_device_for_update


def limits_for(model: Any, config: Config, share_prefix: bool, rollouts: int) -> Limits:
    """`limits_of`; one rollout at a time where the model (its configuration) takes no packed rows."""
    if sharing_obstacle(model) is not None:
        return ONE_ROLLOUT
    return limits_of(config, share_prefix, rollouts)


def limits_of(config: Config, share_prefix: bool, rollouts: int) -> Limits:
    """What one forward may hold. `rollouts`: the micro-batch size of this pass.

    The first that applies: `max_tokens_per_micro_batch`; with `dynamic_batching` (as in EasyR1) the tokens of
    that many rollouts of full length; that many rollouts.
    """
    actor, data = config.worker.actor, config.data
    if actor.max_tokens_per_micro_batch is not None:
        return Limits(max_tokens=actor.max_tokens_per_micro_batch, share_prefix=share_prefix)
    if actor.dynamic_batching:
        longest = data.max_prompt_length + data.max_response_length
        return Limits(max_tokens=rollouts * longest, share_prefix=share_prefix)
    return Limits(max_rows=rollouts, share_prefix=share_prefix)
