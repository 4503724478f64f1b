"""Models that take text alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from transformers import PreTrainedModel

from gmpo_vl.models.chat import Chat
from gmpo_vl.models.families import DecoderInputs
from gmpo_vl.types import Example, Prompt


@dataclass(frozen=True)
class TextFamily:
    """A `Family`. Nobody gives it pictures: rows with some are refused before (processing.py)."""

    image_token_id: None = None
    patches_per_token: int = 0

    def encode(self, example: Example, chat: Chat, pictures: Iterable[Image.Image]) -> Prompt:
        text, ids = chat.encode()
        no_grid = torch.zeros((0, 3), dtype=torch.int64)
        return Prompt(example, text, torch.tensor(ids), (), no_grid, torch.arange(len(ids)).expand(3, -1))

    def prompt_length(self, example: Example, chat: Chat, sizes: Sequence[tuple[int, int]]) -> int:
        return len(chat.encode()[1])

    def picture_length(self, width: int, height: int) -> int:
        raise ValueError("a picture for a model that takes text alone")

    def decoder_inputs(
        self,
        model: PreTrainedModel,
        prompts: Sequence[Prompt],
        features: Sequence[torch.Tensor] | None = None,
    ) -> list[DecoderInputs]:
        ids = [prompt.ids_P.to(model.device) for prompt in prompts]
        embed = model.get_input_embeddings()
        return [
            DecoderInputs(embed(ids_P), prompt.position_ids_3P, torch.zeros_like(ids_P, dtype=torch.bool))
            for prompt, ids_P in zip(prompts, ids)
        ]

    def public_inputs(self, model: PreTrainedModel, prompt: Prompt, fed: int) -> dict[str, Any]:
        return {}
