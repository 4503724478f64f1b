"""n samples per question, verified, of a model in memory: what the demo and tests call.

`gmpo-vl eval` does the same by protocol, in chunks that survive a kill (run.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gmpo_vl.evaluation.backends import transformers_backend
from gmpo_vl.evaluation.pictures import encoder
from gmpo_vl.evaluation.protocols import Pictures
from gmpo_vl.evaluation.statistics import Estimate, mean_share
from gmpo_vl.evaluation.summary import figures
from gmpo_vl.models.processing import Processor
from gmpo_vl.models.prompts import PromptSet
from gmpo_vl.rollout.scoring import to_records
from gmpo_vl.samples import SampleRecord, store_image
from gmpo_vl.storage.files import append_jsonl, write_json
from gmpo_vl.types import Group, Sampling
from gmpo_vl.verify import Profile, verify_batch

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
        return mean_share(self.correct_Q())

    def summary(self) -> dict[str, Any]:
        """results.json (docs/formats.md)."""
        return {
            **figures(self.records, self.n),
            "settings": self.settings,
            "versions": versions(),
            "seconds": self.seconds,
        }


def versions() -> dict[str, str]:
    """Of the libraries that decide what comes out."""
    return {name: version(name) for name in ("gmpo-vl", "torch", "transformers", "pillow", "math-verify")}


def evaluate(
    model: torch.nn.Module,
    processor: Processor,
    prompts: PromptSet,
    sampling: Sampling,
    profile: Profile = "strict",
    pictures: Pictures = "as_is",
    folder: Path | None = None,
    progress: Callable[[int], None] | None = None,
    answer_in: str = "box",
) -> Evaluation:
    """Sample and verify every question. With `folder`, results.json, samples.jsonl and images/ are written there.

    pictures: "blank" and "wrong" are controls: the mean grey, or another question's picture, in place of the right one.
    A model that scores the same under them does not look at its pictures. answer_in: box or tag, as `verify_batch` has it.
    """
    start = time.perf_counter()
    if folder is not None:
        (folder / "images").mkdir(parents=True, exist_ok=True)
        (folder / "samples.jsonl").unlink(missing_ok=True)
    add_image = (lambda pixels: "") if folder is None else partial(store_image, folder / "images")
    records: list[SampleRecord] = []
    answer = transformers_backend(model, processor)
    encode = encoder(prompts, pictures)
    for first in range(0, len(prompts), CHUNK):
        batch = encode(range(first, min(first + CHUNK, len(prompts))))
        chunk = verified(answer(batch, sampling, progress), profile, add_image, answer_in)
        if folder is not None:
            append_jsonl(folder / "samples.jsonl", [asdict(record) for record in chunk])
        records += chunk
    settings = {
        "sampling": asdict(sampling),
        "profile": profile,
        "pictures": pictures,
        "answer_in": answer_in,
    }
    evaluation = Evaluation(settings, records, sampling.n, time.perf_counter() - start)
    if folder is not None:
        write_json(folder / "results.json", evaluation.summary())
    return evaluation


def verified(
    groups: Sequence[Group], profile: Profile, add_image: Callable[[Any], str], answer_in: str = "box"
) -> list[SampleRecord]:
    """The groups' samples with one profile's verdicts, as records."""
    golds = [group.prompt.example.answer for group in groups for _ in group.responses]
    responses = [r.text for group in groups for r in group.responses]
    verdicts = iter(verify_batch(golds, responses, profile, answer_in=answer_in))
    for group in groups:
        group.verdicts = [next(verdicts) for _ in group.responses]
        group.scores = [{"overall": float(verdict.correct)} for verdict in group.verdicts]
    return to_records(groups, add_image)
