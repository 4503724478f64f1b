"""What one forward may hold, from a configuration's keys."""

from __future__ import annotations

from typing import Any

from gmpo_vl.batching.planning import Limits
from gmpo_vl.config import Config
from gmpo_vl.models.shared import sharing_obstacle


def limits_for(model: Any, config: Config, share_prefix: bool, rollouts: int) -> Limits:
    """`limits_of` where a model of this configuration (transformers') can go through packed rows; else one rollout at a time."""
    if sharing_obstacle(model) is not None:
        return Limits(max_rows=1, share_prefix=False)
    return limits_of(config, share_prefix, rollouts)


def limits_of(config: Config, share_prefix: bool, rollouts: int) -> Limits:
    """What one forward may hold. `rollouts`: the micro-batch size of this pass.

    `max_tokens_per_micro_batch` says it in tokens; without it `dynamic_batching` allows the tokens of that many rollouts of
    full length (as EasyR1), and without that it is that many rollouts.
    """
    actor, data = config.worker.actor, config.data
    if actor.max_tokens_per_micro_batch is not None:
        return Limits(max_tokens=actor.max_tokens_per_micro_batch, share_prefix=share_prefix)
    if actor.dynamic_batching:
        longest = data.max_prompt_length + data.max_response_length
        return Limits(max_tokens=rollouts * longest, share_prefix=share_prefix)
    return Limits(max_rows=rollouts, share_prefix=share_prefix)
