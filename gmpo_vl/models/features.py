"""What a frozen ViT makes of each prompt's pictures, computed once a step."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from gmpo_vl.data.types import ImageSettings, Prompt
from gmpo_vl.models.forward import prompt_features, unwrap
from gmpo_vl.models.shared import sharing_obstacle


class FrozenFeatures:
    """Features by prompt, in host memory until `forget`: rollouts, old and reference log-probs and updates reuse them."""

    def __init__(self, model: torch.nn.Module, image: ImageSettings):
        self._model, self._image = unwrap(model), image
        self._known: dict[
            int, tuple[Prompt, torch.Tensor]
        ] = {}  # the prompt too: an id is its own while it lives

    def of(self, prompts: Sequence[Prompt]) -> list[torch.Tensor]:
        """(1 + D, image tokens, hidden) of each prompt, on the model's device, as `prompt_features` gives them."""
        new = [prompt for prompt in prompts if id(prompt) not in self._known]
        if new:
            with torch.no_grad():
                made = prompt_features(self._model, new, self._image)
            self._known.update({id(p): (p, feature.cpu()) for p, feature in zip(new, made)})
        return [self._known[id(prompt)][1].to(self._model.device) for prompt in prompts]

    def forget(self) -> None:
        self._known.clear()


def frozen_features(model: torch.nn.Module, image: ImageSettings | None) -> FrozenFeatures | None:
    """A store for a model whose ViT does not train, adapters included; None for any other."""
    inner = unwrap(model)
    visual = getattr(inner.model, "visual", None)
    if visual is None or image is None or sharing_obstacle(inner) is not None:
        return None
    frozen = not any(parameter.requires_grad for parameter in visual.parameters())
    return FrozenFeatures(model, image) if frozen else None
