"""Validation: samples on the validation split, scored by the run's reward."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

from gmpo_vl.config import Config
from gmpo_vl.engines.metrics import mean
from gmpo_vl.models.prompts import PromptSet
from gmpo_vl.rewards.loading import Reward
from gmpo_vl.rollout.scoring import accuracy, score_groups
from gmpo_vl.setup import validation_sampling_of
from gmpo_vl.types import Group, Prompt, Sampling


def validate(
    config: Config,
    prompts: PromptSet,
    reward: Reward,
    sample: Callable[[Sequence[Prompt], Sampling], list[Group]],
) -> tuple[dict[str, float], list[Group]]:
    """`val/*` metrics (means over all samples; of a reward part over the samples that have it) and the first groups, to be
    looked at.

    The samples' seeds do not depend on the step: two validations differ by the model alone.
    """
    size = config.data.val_batch_size
    size = len(prompts) if size < 0 else size
    sampling = validation_sampling_of(config)
    shown: list[Group] = []
    values: dict[str, list[float]] = defaultdict(list)
    for start in range(0, len(prompts), size):
        groups = sample(prompts.encode(range(start, min(start + size, len(prompts)))), sampling)
        score_groups(groups, reward)
        for group in groups:
            for response, score in zip(group.responses, group.scores):
                found = {
                    **score,
                    "accuracy": accuracy(score),
                    "response_length": len(response.ids_T),
                    "truncated": not response.finished,
                }
                for name, value in found.items():
                    values[name].append(float(value))
        shown += groups[: max(0, config.trainer.val_generations_to_log - len(shown))]
    return {f"val/{name}": mean(found) for name, found in values.items()}, shown
