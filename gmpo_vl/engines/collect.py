"""One step's groups: prompts in order, rollouts, scores, advantages; groups without variance replaced if asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from gmpo_vl.config import AlgorithmConfig, Config
from gmpo_vl.policy import group_advantages
from gmpo_vl.rollout.scoring import accuracy, score_groups
from gmpo_vl.types import Group, Prompt


@dataclass
class Collected:
    """A step's groups, and what it took to get them.

    position: where in the data order the next step begins. surplus: groups with variance beyond this step's need, with
    the log-probs of the policy that wrote them, for the next step. generated: every group sampled in this step.
    """

    groups: list[Group]
    position: int
    carried: list[Group] = field(default_factory=list)
    generated: list[Group] = field(default_factory=list)
    tries: int = 1


def collect_groups(
    config: Config,
    position: int,
    carried: Sequence[Group],
    next_prompts: Callable[[int, int], list[Prompt]],
    sample: Callable[[Sequence[Prompt], Sequence[int]], list[Group]],
    reward,
) -> Collected:
    """`rollout_batch_size` scored groups.

    next_prompts(position, count): that many prompts from that position of the data order on. sample(prompts, positions):
    rollouts of the current policy.
    With `algorithm.online_filtering` a group is kept if the mean of `filter_key` lies strictly between filter_low and
    filter_high; more prompts are sampled until enough are kept or `max_try_make_batch` batches were (-1: no limit).
    After that the step is filled up with groups that were not kept: their gradient is 0, and the run goes on.
    """
    wanted = config.data.rollout_batch_size
    filtering = config.algorithm.online_filtering
    result = Collected([], position)
    kept, others = list(carried), []
    limit = config.trainer.max_try_make_batch if filtering else 1
    result.tries = 0
    while len(kept) < wanted and (limit == -1 or result.tries < limit or len(kept) + len(others) < wanted):
        count = (config.data.mini_rollout_batch_size if filtering else None) or wanted
        prompts = next_prompts(result.position, count)
        groups = sample(prompts, range(result.position, result.position + count))
        result.position += count
        score_groups(groups, reward)
        for group in groups:
            shape_overlong(group, config.algorithm, config.data.max_response_length)
            (kept if not filtering or has_variance(group, config.algorithm) else others).append(group)
        result.generated += groups
        result.tries += 1
    result.groups = (kept + others)[:wanted]
    result.carried = kept[wanted:]
    for group in result.groups:
        scores_G = torch.tensor([score["overall"] for score in group.scores], dtype=torch.float64)
        group.advantages_G = group_advantages(scores_G, config.algorithm.adv_estimator, key=group.key)
    return result


def has_variance(group: Group, algorithm: AlgorithmConfig) -> bool:
    """Is the group's mean score neither (almost) the lowest nor the highest: does it teach anything?

    The mean is over the responses whose score has the part `filter_key`. Raises ValueError where none has it.
    """
    key = algorithm.filter_key
    values = [
        accuracy(score) if key == "accuracy" else score[key]
        for score in group.scores
        if key == "accuracy" or key in score
    ]
    if not values:
        parts = ", ".join(dict.fromkeys(name for score in group.scores for name in score))
        raise ValueError(
            f"algorithm.filter_key={key!r}: no score of {group.key} has that part; it has {parts}"
        )
    return algorithm.filter_low < sum(values) / len(values) < algorithm.filter_high


def shape_overlong(group: Group, algorithm: AlgorithmConfig, max_response_length: int) -> None:
    """`soft`: lower the score linearly over the last `overlong_buffer` tokens before the limit (DAPO, Eq. 13).

    The part taken away is logged as `overlong`. `score` leaves the score as it is; `mask` acts in the loss.
    """
    if algorithm.overlong_responses != "soft":
        return
    buffer = algorithm.overlong_buffer
    assert buffer is not None  # the configuration refuses `soft` without it
    for response, score in zip(group.responses, group.scores):
        excess = len(response.ids_T) - (max_response_length - buffer)
        penalty = algorithm.overlong_penalty * min(1.0, max(0.0, excess / buffer))
        score["overall"] -= penalty
        score["overlong"] = -penalty
