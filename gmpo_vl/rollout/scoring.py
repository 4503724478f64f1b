"""From groups to scores and verdicts, and to sample records."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from gmpo_vl.rewards.loading import Answered, Reward, Scored
from gmpo_vl.samples import SampleRecord
from gmpo_vl.types import Group, Prompt, Turn, Verdict

THREADS = 8  # write pictures: a new picture takes 0.1 s


def score_groups(groups: Sequence[Group], reward: Reward) -> None:
    """Fill `scores` and `verdicts` of every group, all responses in one call of the reward."""
    fill_scores(groups, reward.scored)


def fill_scores(groups: Sequence[Group], scored: Callable[[Sequence[Answered]], Scored]) -> None:
    """The same by whatever scores as a reward does: an evaluation's verifier, too."""
    asked = [
        (group.prompt.example, [(response.text, len(response.ids_T)) for response in group.responses])
        for group in groups
    ]
    found = iter(scored(asked))
    for group in groups:
        of_group = [next(found) for _ in group.responses]
        group.scores = [score for score, _ in of_group]
        group.verdicts = [verdict for _, verdict in of_group]


def judged(score: dict[str, float], verdict: Verdict | None) -> dict[str, Any]:
    """The fields of a sample that say what was made of it: by the verdict, or where there is none by the
    score."""
    if verdict is None:
        unscored = bool(score.get("unscored"))
        return {
            "extracted": None,
            "gold_type": "unknown",
            "correct": not unscored and accuracy(score) >= 0.5,
            "outcome": "unscored" if unscored else "scored",
        }
    return {key: getattr(verdict, key) for key in ("extracted", "gold_type", "correct", "outcome")}


def counted(score: dict[str, float]) -> dict[str, float]:
    """What of a score counts in a mean: of a response that the reward could not score, that it is so."""
    return {"unscored": 1.0} if score.get("unscored") else score


def mean_parts(scores: Iterable[dict[str, float]]) -> dict[str, float]:
    """Of every part the mean over the scores that have it. Where a response could not be scored `unscored` is
    the share of those among all.
    """
    counting = [counted(score) for score in scores]
    values: dict[str, list[float]] = {name: [] for score in counting for name in score}
    for score in counting:
        for name, value in score.items():
            values[name].append(float(value))
    means = {name: sum(of_part) / len(of_part) for name, of_part in values.items()}
    if "unscored" in means:
        means["unscored"] = sum(values["unscored"]) / len(counting)
    return means


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
    with pictures_kept([prompt for group in groups for prompt in group.prompts], add_image) as kept:
        return records_of(groups, kept)


def said_of(turn: Turn) -> dict[str, Any]:
    """What a record keeps of a turn of a game."""
    names = "episode", "number", "action", "reward", "penalty"
    ended = ("ending", "reason") if turn.ending else ()
    return {name: getattr(turn, name) for name in (*names, *ended)}


def records_of(groups: Sequence[Group], kept: Sequence[Future[list[str]]]) -> list[SampleRecord]:
    """One record per response. kept: the pictures of each prompt of each group, from `pictures_kept`."""
    records = []
    pictures = iter(kept)
    for group in groups:
        images = {id(prompt): next(pictures).result() for prompt in group.prompts}
        example = group.prompt.example
        for k, response in enumerate(group.responses):
            prompt, scored = group.prompt_of(k), group.scored_by(k)
            score = group.scores[scored]
            records.append(
                SampleRecord(
                    id=example.id,
                    group=group.key,
                    k=k,
                    prompt=prompt.example.problem,
                    images=images[id(prompt)],
                    response=response.text,
                    finished=response.finished,
                    gold=example.answer,
                    **judged(score, group.verdicts[scored]),
                    reward=score,
                    seed=response.seed,
                    length=len(response.ids_T),
                    meta=example.meta,
                    turn={} if response.turn is None else said_of(response.turn),
                )
            )
    return records
