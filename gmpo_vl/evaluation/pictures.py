"""Controls: the same questions with a grey picture, or with that of another question."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from gmpo_vl.evaluation.protocols import Pictures
from gmpo_vl.models.prompts import PromptSet
from gmpo_vl.types import Prompt


def encoder(prompts: PromptSet, pictures: Pictures) -> Callable[[Sequence[int]], list[Prompt]]:
    """How prompts are encoded: with their own pictures, with grey ones, or with those of another question."""
    if pictures == "as_is":
        return prompts.encode
    if pictures == "blank":
        return lambda indices: [
            replace(p, images=tuple(torch.full_like(image, 128) for image in p.images))
            for p in prompts.encode(indices)
        ]
    donors = _donors(prompts)

    def with_wrong_pictures(indices: Sequence[int]) -> list[Prompt]:
        own = prompts.encode(indices)
        other = prompts.encode([donors[i] for i in indices])
        return [replace(p, images=q.images, image_grid_thw=q.image_grid_thw) for p, q in zip(own, other)]

    return with_wrong_pictures


def _donors(prompts: PromptSet) -> list[int]:
    """For each question, the next one whose picture has as many tokens and whose answer is another.

    Raises ValueError naming a question for which there is none.
    """
    examples = [(key, answer) for key, _, answer in prompts.examples.texts()]
    kinds = [tuple(prompts.encode([i])[0].image_grid_thw.flatten().tolist()) for i in range(len(prompts))]
    donors = []
    for i, (key, answer) in enumerate(examples):
        for shift in range(1, len(examples)):
            j = (i + shift) % len(examples)
            if kinds[j] == kinds[i] and examples[j][1] != answer:
                donors.append(j)
                break
        else:
            raise ValueError(f"{key}: no other question has a picture of the same size and another answer")
    return donors
