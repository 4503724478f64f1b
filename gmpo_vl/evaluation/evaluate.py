"""n samples per question, verified; Pass@1 = mean over questions of c_i / n, with its interval."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from gmpo_vl.data.types import Prompt
from gmpo_vl.evaluation.statistics import Estimate, mean_over_questions
from gmpo_vl.models.processing import Processor
from gmpo_vl.models.prompts import PromptSet
from gmpo_vl.rollout.hf import generate
from gmpo_vl.rollout.scoring import to_records
from gmpo_vl.rollout.types import Group, Sampling
from gmpo_vl.runs import SampleRecord, append_jsonl, store_image, write_json
from gmpo_vl.verify import Profile, verify_batch

Pictures = Literal["as_is", "blank", "wrong"]

# Prompts sampled between two writes to disk.
CHUNK = 256


@dataclass(frozen=True)
class Evaluation:
    """What was asked and what came out; `records` has n per question, a question's together."""

    settings: dict[str, Any]
    records: list[SampleRecord]
    n: int
    seconds: float

    @property
    def questions(self) -> list[str]:
        return [record.id for record in self.records[:: self.n]]

    def correct_Q(self) -> np.ndarray:
        """float64 (Q,): share of right samples of each question."""
        correct = np.array([record.correct for record in self.records], dtype=np.float64)
        return correct.reshape(-1, self.n).mean(axis=1)

    def pass_at_1(self) -> Estimate:
        return mean_over_questions(self.correct_Q())

    def summary(self) -> dict[str, Any]:
        """results.json (docs/formats.md)."""
        estimate = self.pass_at_1()
        records = self.records
        return {
            "pass@1": estimate.value,
            "ci95": [estimate.low, estimate.high],
            "questions": len(self.questions),
            "n": self.n,
            "truncated": float(np.mean([not r.finished for r in records])),
            "no_answer": float(np.mean([r.extracted is None for r in records])),
            "timeouts": sum(r.outcome == "timeout" for r in records),
            "mean_length": float(np.mean([r.length for r in records])),
            "settings": self.settings,
            "versions": {name: version(name) for name in ("gmpo-vl", "torch", "transformers", "pillow")},
            "seconds": self.seconds,
        }


def evaluate(
    model: torch.nn.Module,
    processor: Processor,
    prompts: PromptSet,
    sampling: Sampling,
    profile: Profile = "strict",
    pictures: Pictures = "as_is",
    folder: Path | None = None,
    progress: Callable[[int], None] | None = None,
) -> Evaluation:
    """Sample and verify every question. With `folder`, results.json, samples.jsonl and images/ are written there.

    pictures: "blank" and "wrong" are controls: the mean grey, or another question's picture, in place of the right one.
    A model that scores the same under them does not look at its pictures.
    """
    start = time.perf_counter()
    if folder is not None:
        (folder / "images").mkdir(parents=True, exist_ok=True)
        (folder / "samples.jsonl").unlink(missing_ok=True)
    add_image = (lambda pixels: "") if folder is None else partial(store_image, folder / "images")
    records: list[SampleRecord] = []
    stand_ins = _stand_ins(prompts, pictures)
    for first in range(0, len(prompts), CHUNK):
        batch = stand_ins(range(first, min(first + CHUNK, len(prompts))))
        groups = generate(model, processor, batch, sampling, progress=progress)
        chunk = verified(groups, profile, add_image)
        if folder is not None:
            append_jsonl(folder / "samples.jsonl", [asdict(record) for record in chunk])
        records += chunk
    settings = {"sampling": asdict(sampling), "profile": profile, "pictures": pictures}
    evaluation = Evaluation(settings, records, sampling.n, time.perf_counter() - start)
    if folder is not None:
        write_json(folder / "results.json", evaluation.summary())
    return evaluation


def verified(
    groups: Sequence[Group], profile: Profile, add_image: Callable[[Any], str]
) -> list[SampleRecord]:
    """The groups' samples with the verifier's verdicts, as records."""
    golds = [group.prompt.example.answer for group in groups for _ in group.responses]
    verdicts = iter(verify_batch(golds, [r.text for group in groups for r in group.responses], profile))
    for group in groups:
        group.verdicts = [next(verdicts) for _ in group.responses]
        group.scores = [{"overall": float(verdict.correct)} for verdict in group.verdicts]
    return to_records(groups, add_image)


def _stand_ins(prompts: PromptSet, pictures: Pictures) -> Callable[[range], list[Prompt]]:
    """How prompts are encoded: with their own pictures, with grey ones, or with those of another question."""
    if pictures == "as_is":
        return prompts.encode
    if pictures == "blank":
        return lambda indices: [
            replace(p, images=tuple(torch.full_like(image, 128) for image in p.images))
            for p in prompts.encode(indices)
        ]
    donors = _donors(prompts)

    def with_wrong_pictures(indices: range) -> list[Prompt]:
        own = prompts.encode(indices)
        other = prompts.encode([donors[i] for i in indices])
        return [replace(p, images=q.images, image_grid_thw=q.image_grid_thw) for p, q in zip(own, other)]

    return with_wrong_pictures


def _donors(prompts: PromptSet) -> list[int]:
    """For each question, the next one whose picture has as many tokens and whose answer is another.

    Raises ValueError naming a question for which there is none.
    """
    examples = list(prompts.examples)
    kinds = [tuple(p.image_grid_thw.flatten().tolist()) for p in prompts.encode(range(len(prompts)))]
    donors = []
    for i, example in enumerate(examples):
        for shift in range(1, len(examples)):
            j = (i + shift) % len(examples)
            if kinds[j] == kinds[i] and examples[j].answer != example.answer:
                donors.append(j)
                break
        else:
            raise ValueError(
                f"{example.id}: no other question has a picture of the same size and another answer"
            )
    return donors
