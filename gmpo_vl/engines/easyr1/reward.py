"""The run's reward in a Ray process of its own: a file that is slow or grows does neither to the driver."""
# pyright: reportMissingImports=false

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from gmpo_vl.config import Config
from gmpo_vl.setup import load_configured_reward


class RewardProcess:
    def __init__(self, config: Config) -> None:
        self.reward = load_configured_reward(config)

    def score(self, inputs: list[dict[str, Any]]) -> list[dict[str, float]]:
        return self.reward(inputs)

    def verdicts(self, inputs: list[dict[str, Any]]) -> Sequence[Any] | None:
        return self.reward.verdicts(inputs)


class RemoteReward:
    """A reward (rewards/loading.py) that is called over there."""

    def __init__(self, config: Config) -> None:
        remote: Any = ray.remote(RewardProcess)
        # Where the driver is, if there is room: the file and what it reads lie there.
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
        options = {"num_cpus": config.worker.reward.num_cpus, "scheduling_strategy": here}
        self.process = remote.options(**options).remote(config)

    def __call__(self, inputs: list[dict[str, Any]]) -> list[dict[str, float]]:
        return ray.get(self.process.score.remote(inputs))

    def verdicts(self, inputs: list[dict[str, Any]]) -> Sequence[Any] | None:
        return ray.get(self.process.verdicts.remote(inputs))
