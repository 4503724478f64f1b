"""Features of pictures under a frozen ViT, of each distinct one computed once a step."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch

from gmpo_vl.models.forward import Look, unwrap
from gmpo_vl.models.geometry import vision_tower
from gmpo_vl.models.shared import is_known
from gmpo_vl.types import ImageSettings, Prompt

# Patches in one call of the ViT; a larger picture goes alone. Longer calls are no faster.
PATCHES = 16_384


class FrozenFeatures:
    """Features by picture, in host memory until `forget`: rollouts, log-probs and updates reuse them, and so
    do later turns of a game, which show a picture again.

    model: sharded or not, after `forward.answer_packed`. others: the store of another model with the same
    ViT, which is read and never changed.
    """

    def __init__(self, model: Any, image: ImageSettings, others: FrozenFeatures | None = None) -> None:
        self._model, self._image = model, image
        self._own: dict[bytes, torch.Tensor] = {}
        self._known = ChainMap(self._own, *([] if others is None else [others._own]))

    def beside(self, model: Any) -> FrozenFeatures:
        """A store for another model with the same ViT, which reads this one too."""
        return FrozenFeatures(model, self._image, others=self)

    @torch.no_grad()
    def learn(self, prompts: Sequence[Prompt], on_all_ranks: Callable[[int], int] | None = None) -> None:
        """Compute the features of pictures that are not known.

        on_all_ranks: from the number of calls that this rank needs to the number that every rank makes. Each
        call of a sharded ViT gathers its weights, so all ranks must call equally often.
        """
        shown = (one for prompt in prompts for one in zip(prompt.picture_keys, _one_by_one(prompt)))
        new = {key: picture for key, picture in shown if key not in self._known}
        parts, keys = looked_at_together(list(new.values())), iter(new)
        most = len(parts) if on_all_ranks is None else on_all_ranks(len(parts))
        for part in [*parts, *[[]] * (most - len(parts))]:
            made = self._model(Look(part, self._image))
            self._own.update((key, feature.cpu()) for feature, key in zip(made, keys))

    def of(self, prompts: Sequence[Prompt], device: torch.device) -> list[torch.Tensor]:
        """(1 + D, image tokens, hidden) of each prompt that was learnt, as `prompt_features` gives them."""
        nothing = torch.empty(1, 0, 0)
        kept = ([self._known[key] for key in prompt.picture_keys] for prompt in prompts)
        return [torch.cat(of or [nothing], dim=1).to(device) for of in kept]

    def forget(self) -> None:
        self._own.clear()


def _one_by_one(prompt: Prompt) -> Iterator[Prompt]:
    """Its pictures, each as a prompt's only one."""
    for image, grid_3 in zip(prompt.images, prompt.image_grid_thw):
        yield replace(prompt, images=(image,), image_grid_thw=grid_3[None])


def same_vision(one: Any, other: Any) -> bool:
    """Do two models have the same ViT, weight for weight?"""
    mine, theirs = (unwrap(model).model.visual.state_dict() for model in (one, other))
    return mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)


def looked_at_together(prompts: Sequence[Prompt]) -> list[list[Prompt]]:
    """The prompts in order, in parts whose pictures fit one call of the ViT (PATCHES)."""
    parts: list[list[Prompt]] = []
    patches = 0
    for prompt in prompts:
        more = int(prompt.image_grid_thw.prod(dim=1).sum())
        if not parts or patches + more > PATCHES:
            parts.append([])
            patches = 0
        parts[-1].append(prompt)
        patches += more
    return parts


def frozen_features(model: Any, image: ImageSettings | None) -> FrozenFeatures | None:
    """A store for a model whose ViT does not train, adapters included; None for any other model."""
    inner = unwrap(model)
    visual = vision_tower(inner)
    if visual is None or image is None or not is_known(inner.config):
        return None
    frozen = not any(parameter.requires_grad for parameter in visual.parameters())
    return FrozenFeatures(model, image) if frozen else None
