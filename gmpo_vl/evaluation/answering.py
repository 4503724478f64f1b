"""Questions to graded samples: the unit of work, which every way to evaluate calls.

A model in memory (`evaluate`), one process, several processes and Ray actors (sharing.py) differ in who asks
for which questions, and in nothing else.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gmpo_vl.evaluation.backends import Backend, cut_groups, load_backend, transformers_backend
from gmpo_vl.evaluation.chunks import sound_chunks
from gmpo_vl.evaluation.environments import load_section, whole_section
from gmpo_vl.evaluation.grading import Grader, Grading, graded, grader_of
from gmpo_vl.evaluation.playing import Player, games_to_play, most_pictures
from gmpo_vl.evaluation.prepare import Prepared, Shard
from gmpo_vl.evaluation.protocols import Pictures, template_rules
from gmpo_vl.evaluation.results import counts, versions, write_results
from gmpo_vl.evaluation.statistics import Estimate, mean_share
from gmpo_vl.models.other_pictures import partners, picture_sizes, with_grey_pictures, with_pictures_of
from gmpo_vl.models.prompts import PromptSet
from gmpo_vl.rollout.scoring import pictures_kept
from gmpo_vl.runs import EvaluationFolder
from gmpo_vl.samples import SampleRecord, store_image
from gmpo_vl.types import Group, Prompt, Sampling
from gmpo_vl.verify import Profile

Encode = Callable[[Sequence[int]], list[Prompt]]
Progress = Callable[[int], None]  # is told how many more questions are answered
BATCH = 256  # questions that `evaluate` asks together


@dataclass(frozen=True)
class Asker:
    """Asks questions of a model and grades its answers. shorten: cuts the answers, before they are graded."""

    encode: Encode
    answer: Backend
    sampling: Sampling
    grader: Grader
    shorten: Callable[[list[Group]], list[Group]] = list

    def ask(
        self, questions: Sequence[int], images: Path | None, progress: Progress | None = None
    ) -> list[SampleRecord]:
        """n records per question, a question's together. images: their folder; None keeps none."""
        prompts = self.encode(questions)
        keep = (lambda pixels: "") if images is None else partial(store_image, images)
        with pictures_kept(prompts, keep) as pictures:
            groups = self.shorten(self.answer(prompts, self.sampling, progress=progress))
            return graded(groups, self.grader, pictures)


# --- by protocol --------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class ChunkWriter:
    """Answers the chunks of a prepared evaluation. The model is loaded when the first one needs it."""

    prepared: Prepared

    @cached_property
    def asker(self) -> Asker | Player:
        p, processor, prompts = self.prepared.protocol, self.prepared.processor, self.prepared.prompts
        make, stop = self.prepared.make, template_rules(p.template).stop
        sampling = Sampling(p.n, p.max_tokens, p.temperature, p.top_p, p.top_k, p.seed)

        def shorten(groups: list[Group]) -> list[Group]:
            return cut_groups(groups, processor.decode, p.max_model_len, stop)

        def backend(most_images: int) -> Backend:
            tokens = p.max_prompt_tokens + p.max_tokens
            return load_backend(self.prepared.backend, processor.folder, processor, tokens, most_images)

        if make is None:
            most_images = max((len(example.images) for example in prompts.examples), default=0)
            encode, grader = encoder(prompts, p.pictures), grader_of(self.prepared.plan)
            return Asker(encode, backend(most_images), sampling, grader, shorten)
        games = games_to_play(make, prompts, p.environment, p.pictures, p.seed)
        most_images = most_pictures(make, prompts, p.environment, p.seed)
        return Player(games, prompts.examples, backend(most_images), sampling, shorten)

    def write(self, number: int, folder: EvaluationFolder, progress: Progress | None = None) -> None:
        start = time.perf_counter()
        records = self.asker.ask(self.prepared.chunk(number), folder.images, progress)
        folder.write_chunk(number, records, time.perf_counter() - start)


def answer_chunks(
    prepared: Prepared, folder: EvaluationFolder, shard: Shard = (1, 1), progress: Progress | None = None
) -> None:
    """Answer the chunks of a shard that are not there yet, or not as they should be."""
    writer, mine = ChunkWriter(prepared), prepared.shard(shard)
    done = sound_chunks(folder, prepared.plan, mine, prepared.ids)
    try:
        for number in mine:
            if number not in done:
                writer.write(number, folder, progress)
            elif progress is not None:
                progress(len(prepared.chunk(number)))
    finally:
        if prepared.make is not None:
            prepared.make.close()


# --- a model in memory --------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Conditions:
    """How a model in memory is asked, as `settings` of results.json. environment: as a protocol's; games are
    then played, and graded by themselves."""

    sampling: Sampling
    profile: Profile = "strict"
    pictures: Pictures = "as_is"
    answer_in: str = "box"
    environment: dict[str, Any] = field(default_factory=dict)

    def stated(self) -> dict[str, Any]:
        left_out = ("profile", "answer_in") if self.environment else ("environment",)
        return {key: value for key, value in asdict(self).items() if key not in left_out}


@dataclass(frozen=True)
class Evaluation:
    """What came out: `records` has n per question, a question's together; of games n episodes."""

    records: list[SampleRecord]
    n: int

    @property
    def questions(self) -> list[str]:
        return list(dict.fromkeys(record.id for record in self.records))

    def correct_Q(self) -> np.ndarray:
        """float64 (Q,): share of right samples of each question."""
        return counts(self.records, self.n) / self.n

    def pass_at_1(self) -> Estimate:
        return mean_share(self.correct_Q())


def evaluate(
    model: torch.nn.Module,
    prompts: PromptSet,
    conditions: Conditions,
    folder: Path | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Sample and verify every question, or play every game. Into `folder` go results.json, samples.jsonl and
    images/."""
    start, of = time.perf_counter(), conditions
    if of.environment:
        of = replace(of, environment=whole_section(of.environment, "the evaluation"))
    place = None if folder is None else EvaluationFolder(folder).create()
    asker = _asker_of(transformers_backend(model, prompts.processor), prompts, of)
    records: list[SampleRecord] = []
    try:
        for first in range(0, len(prompts), BATCH):
            questions = range(len(prompts))[first : first + BATCH]
            records += asker.ask(questions, None if place is None else place.images, progress)
    finally:
        if isinstance(asker, Player):
            asker.games.make.close()
    if place is not None:
        place.write_samples(records)
        stated: dict[str, Any] = {"settings": of.stated(), "versions": versions()}
        seconds = time.perf_counter() - start
        write_results(place, records, of.sampling.n, {**stated, "seconds": seconds})
    return Evaluation(records, of.sampling.n)


def _asker_of(backend: Backend, prompts: PromptSet, of: Conditions) -> Asker | Player:
    make = load_section(of.environment)
    if make is not None:
        games = games_to_play(make, prompts, of.environment, of.pictures, of.sampling.seed)
        return Player(games, prompts.examples, backend, of.sampling)
    grading = Grading(of.profile, answer_in=of.answer_in, recorded=(), workers=0)
    return Asker(encoder(prompts, of.pictures), backend, of.sampling, grading)


# --- pictures as a control ----------------------------------------------------------------------------------
def encoder(prompts: PromptSet, pictures: Pictures) -> Encode:
    """How questions become prompts: with their own pictures, grey ones, or those of another question.

    A model that scores the same with the last two does not look at its pictures.
    """
    if pictures == "as_is":
        return prompts.encode
    if pictures == "blank":
        return lambda indices: [with_grey_pictures(p) for p in prompts.encode(indices)]
    donors = _donors(prompts)

    def with_wrong_pictures(indices: Sequence[int]) -> list[Prompt]:
        own = prompts.encode(indices)
        other = prompts.encode([donors[i] for i in indices])
        return [with_pictures_of(p, q) for p, q in zip(own, other)]

    return with_wrong_pictures


def _donors(prompts: PromptSet) -> list[int]:
    """The partner of each question. Raises ValueError naming a question that has none."""
    texts = list(prompts.examples.texts())
    sizes = [picture_sizes(prompts.encode([i])[0]) for i in range(len(prompts))]
    donors = []
    for (key, _, _), donor in zip(texts, partners(sizes, [answer for _, _, answer in texts])):
        if donor is None:
            raise ValueError(f"{key}: no other question has a picture of the same size and another answer")
        donors.append(donor)
    return donors
