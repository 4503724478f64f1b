"""Groups to scores and verdicts, and to the records that are kept of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from gmpo_vl.rewards.loading import Reward
from gmpo_vl.rollout.types import Group
from gmpo_vl.samples import SampleRecord

THREADS = 8  # that write pictures: a step's many new ones take 0.1 s each, while the GPUs wait


def score_groups(groups: Sequence[Group], reward: Reward) -> None:
    """Fill `scores` and `verdicts` of every group, all responses in one call of the reward."""
    inputs = [
        {
            "response": response.text,
            "response_length": len(response.ids_T),
            "ground_truth": group.prompt.example.answer,
        }
        for group in groups
        for response in group.responses
    ]
    scores = iter(reward(inputs))
    verdicts = iter(reward.verdicts(inputs) or [None] * len(inputs))
    for group in groups:
        group.scores = [next(scores) for _ in group.responses]
        group.verdicts = [next(verdicts) for _ in group.responses]


def accuracy(score: dict[str, float]) -> float:
    """The part of a score that says whether the answer was right; the whole score where a reward has no such part."""
    return score.get("accuracy", score["overall"])


def to_records(groups: Iterable[Group], add_image: Callable[[Any], str]) -> list[SampleRecord]:
    """One record per response. `add_image` keeps a picture and returns its sha256; it is called from several threads."""
    groups = list(groups)
    with ThreadPoolExecutor(THREADS) as pool:
        kept = list(
            pool.map(lambda group: [add_image(image.numpy()) for image in group.prompt.images], groups)
        )
    records = []
    for group, images in zip(groups, kept):
        example = group.prompt.example
        for k, (response, score, verdict) in enumerate(zip(group.responses, group.scores, group.verdicts)):
            records.append(
                SampleRecord(
                    id=example.id,
                    group=group.key,
                    k=k,
                    prompt=example.problem,
                    images=images,
                    response=response.text,
                    finished=response.finished,
                    gold=example.answer,
                    extracted=verdict.extracted if verdict is not None else None,
                    gold_type=verdict.gold_type if verdict is not None else "unknown",
                    correct=verdict.correct if verdict is not None else accuracy(score) >= 0.5,
                    outcome=verdict.outcome if verdict is not None else "scored",
                    reward=score,
                    seed=response.seed,
                    length=len(response.ids_T),
                    meta=example.meta,
                )
            )
    return records
