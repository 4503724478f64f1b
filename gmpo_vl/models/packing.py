"""A micro-batch: some responses and the prompts they answer, and how it goes through a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from gmpo_vl.models.families import Family
from gmpo_vl.models.routers import RouterCounter
from gmpo_vl.types import ImageSettings, Prompt

# How responses go through a model. The results agree up to rounding.
#   shared    one packed row, every prompt once (shared.py)
#   plain     a padded row of the decoder for each response (forward.py)
#   public    one response at a time through the model's public inputs (public.py)
Way = Literal["shared", "plain", "public"]


@dataclass(frozen=True)
class Packed:
    """Responses of a micro-batch, every distinct prompt held once.

    prompts: the distinct prompts, in order of first appearance.
    prompt_of_B: for each response, the index of its prompt.
    response_ids_BT: int64, right-padded with 0. mask_BT: bool, True on real tokens.
    family: how prompts become the model's inputs (models/families).
    features: ViT features of each prompt's pictures, where they are already known (models/features.py).
    """

    prompts: tuple[Prompt, ...]
    prompt_of_B: tuple[int, ...]
    response_ids_BT: torch.Tensor
    mask_BT: torch.Tensor
    family: Family
    features: Sequence[torch.Tensor] | None = None


@dataclass(frozen=True)
class Segment:
    """A stretch of the packed row: it sees all of its prefix (empty for a prompt), then itself causally."""

    start: int
    length: int
    prefix_start: int = 0
    prefix_length: int = 0


@dataclass(frozen=True)
class ForwardOptions:
    """How a micro-batch goes through the model.

    visit: run the ViT, with gradients of 0, even where no prompt has a picture, on a smallest one by these
    settings: ranks that share its weights must all gather them. routing: counts which experts the routers
    chose (routers.py).
    """

    way: Way = "shared"
    visit: ImageSettings | None = None
    routing: RouterCounter | None = None


def pack(
    rows: Sequence[tuple[Prompt, torch.Tensor]],
    family: Family,
    device: torch.device,
    features_of: Callable[[Sequence[Prompt]], Sequence[torch.Tensor]] | None = None,
) -> Packed:
    """Rows of (prompt, ids_T) to a micro-batch. A prompt object that appears in several rows is held once.

    Raises ValueError for a response without tokens.
    """
    for prompt, ids_T in rows:
        if len(ids_T) == 0:
            raise ValueError(f"{prompt.example.id}: a response without a single token has no log-probs")
    prompts = list({id(prompt): prompt for prompt, _ in rows}.values())
    place = {id(prompt): k for k, prompt in enumerate(prompts)}
    longest = max(len(ids_T) for _, ids_T in rows)
    response_ids_BT = torch.zeros((len(rows), longest), dtype=torch.int64)
    mask_BT = torch.zeros((len(rows), longest), dtype=torch.bool)
    for b, (_, ids_T) in enumerate(rows):
        response_ids_BT[b, : len(ids_T)] = ids_T
        mask_BT[b, : len(ids_T)] = True
    return Packed(
        prompts=tuple(prompts),
        prompt_of_B=tuple(place[id(prompt)] for prompt, _ in rows),
        response_ids_BT=response_ids_BT.to(device),
        mask_BT=mask_BT.to(device),
        family=family,
        features=None if features_of is None else features_of(prompts),
    )
