"""From groups to scores and verdicts, and to sample records."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from gmpo_vl.rewards.loading import Reward
from gmpo_vl.samples import SampleRecord
from gmpo_vl.types import Group, Prompt, Verdict

THREADS = 8  # write pictures: a new picture takes 0.1 s


def score_groups(groups: Sequence[Group], reward: Reward) -> None:
    """Fill `scores` and `verdicts` of every group, all responses in one call of the reward."""
    asked = [
        (group.prompt.example, [(response.text, len(response.ids_T)) for response in group.responses])
        for group in groups
    ]
    found = iter(reward.scored(asked))
    for group in groups:
        of_group = [next(found) for _ in group.responses]
        group.scores = [score for score, _ in of_group]
        group.verdicts = [verdict for _, verdict in of_group]


def counted(score: dict[str, float]) -> dict[str, float]:
    """What of a score counts in a mean: of a response that the reward could not score, that it is so."""
    return {"unscored": 1.0} if score.get("unscored") else score


def accuracy(score: dict[str, float]) -> float:
    """The `accuracy` part of a score, or the whole score of a reward without that part."""
    return score.get("accuracy", score["overall"])


@contextmanager
def pictures_kept(
    prompts: Sequence[Prompt], add_image: Callable[[Any], str]
) -> Iterator[list[Future[list[str]]]]:
    """Threads store every prompt's pictures while the block does other work. `records_of` waits for them and
    raises their errors. Leaving the block cancels what has not begun.

    add_image: stores a picture and returns its sha256.
    """

    def keep(prompt: Prompt) -> list[str]:
        return [add_image(image.numpy()) for image in prompt.images]

    pool = ThreadPoolExecutor(THREADS)
    try:
        yield [pool.submit(keep, prompt) for prompt in prompts]
    finally:
        pool.shutdown(cancel_futures=True)


def to_records(groups: Iterable[Group], add_image: Callable[[Any], str]) -> list[SampleRecord]:
    """One record per response, after their pictures are stored."""
    groups = list(groups)
    with pictures_kept([group.prompt for group in groups], add_image) as kept:
        return records_of(groups, kept)


def records_of(groups: Sequence[Group], kept: Sequence[Future[list[str]]]) -> list[SampleRecord]:
    """One record per response. kept: the pictures of each group's prompt, from `pictures_kept`."""
    records = []
    for group, pictures in zip(groups, kept, strict=True):
        images = pictures.result()
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
                    outcome=_outcome(score, verdict),
                    reward=score,
                    seed=response.seed,
                    length=len(response.ids_T),
                    meta=example.meta,
                )
            )
    return records


def _outcome(score: dict[str, float], verdict: Verdict | None) -> str:
    if verdict is not None:
        return verdict.outcome
    return "unscored" if score.get("unscored") else "scored"
