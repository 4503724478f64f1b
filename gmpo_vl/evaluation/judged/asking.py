"""A judge model's verdicts on stored answers; the rules' stay beside them.

Importing this needs no torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, islice
from operator import attrgetter
from pathlib import Path
from typing import Any

from gmpo_vl.rewards.inputs import inputs_of
from gmpo_vl.rewards.judging import Settings
from gmpo_vl.rewards.loading import Reward, Score, load_reward
from gmpo_vl.samples import JUDGE, SampleRecord
from gmpo_vl.types import Example

BATCH = 1_000  # answers of one call: the reward's limits of failures and of time hold for each


@dataclass(frozen=True)
class Judge:
    """reward: `judge`, with its options. rules: the profile that graded before. only_refused: ask about the
    answers alone that it calls wrong. images: folder of the pictures that the samples name."""

    reward: Reward
    rules: str
    only_refused: bool
    images: Path

    @property
    def settings(self) -> Settings:
        return Settings(**self.reward.kwargs)


def judge_of(facts: dict[str, Any], images: Path) -> Judge:
    """The judge that a plan names. Raises ValueError where its prompt is another by now."""
    options = {"model": facts["model"], "base_url": facts["base_url"], **facts["options"]}
    judge = Judge(load_reward("judge", options), facts["rules"], facts["only_refused"], images)
    if judge.settings.prompt_sha256() != facts["prompt_sha256"]:
        raise ValueError(
            f"the prompt {facts['prompt']} has changed since this result was judged (another sha256): "
            f"`gmpo-vl eval judge` of {facts['of']} makes a result of the new one"
        )
    return judge


def judge_records(records: Iterable[SampleRecord], judge: Judge) -> Iterator[SampleRecord]:
    """The records, as the rules graded them, with the judge's verdicts in `correct`; in order, a batch at a
    time. What else says how the answer was read (`extracted`, `gold_type`, `outcome`) stays the rules', but
    `outcome` is `unscored` where the judge gave no verdict.

    Raises ConnectionError where too many answers of a batch have none.
    """
    rest = iter(records)
    while batch := list(islice(rest, BATCH)):
        asked = [record for record in batch if not (judge.only_refused and record.correct)]
        scores = judge.reward.scores(_inputs(asked, judge)) if asked else []
        said = dict(zip(map(id, asked), scores))
        yield from (_with_verdict(record, judge.rules, said.get(id(record))) for record in batch)


def _inputs(records: Sequence[SampleRecord], judge: Judge) -> list[dict[str, Any]]:
    """What the reward is told: a row's problem, and its pictures where the judge is to see them."""
    return [
        given for _, group in groupby(records, attrgetter("id")) for given in _of_question([*group], judge)
    ]


def _of_question(records: Sequence[SampleRecord], judge: Judge) -> list[dict[str, Any]]:
    one = records[0]
    images = tuple(str(judge.images / f"{Path(name).name}.webp") for name in one.images)
    example = Example(one.id, one.prompt, one.gold, images)
    return inputs_of(judge.reward.asks, example, [(record.response, record.length) for record in records])


def _with_verdict(record: SampleRecord, rules: str, score: Score | None) -> SampleRecord:
    """score: None where the judge was not asked, because the rules call the answer right."""
    kept = {part: value for part, value in record.reward.items() if part != "overall"}
    kept |= {rules: float(record.correct)}
    if score is None:
        return replace(record, reward={"overall": 1.0, **kept})
    if score["overall"] is None:
        reward = {"overall": 0.0, **kept, "unscored": 1.0}
        return replace(record, correct=False, outcome="unscored", reward=reward)
    right = float(score["accuracy"] or 0.0)
    return replace(record, correct=right >= 0.5, reward={"overall": right, JUDGE: right, **kept})
