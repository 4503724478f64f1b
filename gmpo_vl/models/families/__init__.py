"""What differs between kinds of models, behind one seam.

    text.py     models that take text alone
    qwen.py     Qwen's vision-language models: this project makes their inputs, fast
    own.py      any other vision-language model, through its own processor and its own forward

A `Family` is chosen when a model's folder is read (`processing.load_processor`), and travels with the
processor and with every micro-batch. Beside it a new kind needs nothing, unless it is to be fast:

    can its layers share a prompt?          shared.sharing_obstacle, and a run's parity check
    layers with a running state             states.py
    widths, names of parts, rates           geometry.py
    ids that no response may contain        loading.banned_ids
    routers of its experts                  routers.py
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from PIL import Image
from transformers import PreTrainedModel

from gmpo_vl.models.chat import Chat
from gmpo_vl.types import Example, Prompt


@dataclass(frozen=True)
class DecoderInputs:
    """What a decoder is given for one prompt, with gradients to the embeddings and the ViT.

    embeddings_PH: with the pictures in place. positions_KP: int64; K is 3 for mRoPE, else 1.
    picture_P: bool, the image tokens. deepstack_DNH: what is added to the N image tokens' states after each
    of the first D layers (DeepStack); None where nothing is. masks: who sees whom, (P, P) bool by the name of
    a kind of layer, where that is not just causal.
    """

    embeddings_PH: torch.Tensor
    positions_KP: torch.Tensor
    picture_P: torch.Tensor
    deepstack_DNH: torch.Tensor | None = None
    masks: dict[str, torch.Tensor] = field(default_factory=dict)


def response_positions(positions_KP: torch.Tensor, length: int) -> torch.Tensor:
    """int64 (K, length): positions of a response's tokens, which continue after its prompt's largest."""
    start = int(positions_KP.max()) + 1
    return torch.arange(start, start + length).expand(len(positions_KP), -1)


class Family(Protocol):
    """A kind of model: from a row to what a model takes. Sizes are (width, height) in pixels."""

    @property
    def image_token_id(self) -> int | None:
        """Of the tokens that stand for pictures; None without pictures."""
        ...

    @property
    def patches_per_token(self) -> int:
        """Patches of the ViT that one image token merges, for what pictures cost; 0 where not known."""
        ...

    def encode(self, example: Example, chat: Chat, pictures: Iterable[Image.Image]) -> Prompt:
        """The prompt, its pictures expanded to their tokens. ValueError where chat and they do not fit."""
        ...

    def prompt_length(self, example: Example, chat: Chat, sizes: Sequence[tuple[int, int]]) -> int:
        """Tokens that `encode` would give with pictures of these sizes. Nothing is decoded."""
        ...

    def picture_length(self, width: int, height: int) -> int:
        """Image tokens of a picture."""
        ...

    def decoder_inputs(
        self,
        model: PreTrainedModel,
        prompts: Sequence[Prompt],
        features: Sequence[torch.Tensor] | None = None,
    ) -> list[DecoderInputs]:
        """Of each prompt. features: of their pictures, where they are known already (features.py)."""
        ...

    def public_inputs(self, model: PreTrainedModel, prompt: Prompt, fed: int) -> dict[str, Any]:
        """What the model's own forward takes beside ids and mask, on its device, for one row of a prompt and
        `fed` tokens of a response."""
        ...


def accepted(model: PreTrainedModel, inputs: dict[str, Any]) -> dict[str, Any]:
    """Those inputs that the model's own forward names."""
    import inspect

    takes = inspect.signature(type(model).forward).parameters
    return {name: value for name, value in inputs.items() if name in takes}
