"""Prompts sampled together: padded on the left, each prefilled once, then a token a row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.functional import pad
from transformers import Cache, PreTrainedModel

from gmpo_vl.models.families import Family, accepted
from gmpo_vl.models.families.qwen import QwenFamily, prompt_features
from gmpo_vl.models.families.text import TextFamily
from gmpo_vl.models.features import FrozenFeatures, looked_at_together
from gmpo_vl.models.forward import deepstack, run_language_model
from gmpo_vl.rollout.cache import PREFILLED, joined, own_cache
from gmpo_vl.types import Prompt

# Layers to which positions and a mask are all that tells padding apart.
PADDABLE = {"full_attention", "sliding_attention"}
# Text models whose layers with a state keep masked tokens out of it.
MASKED_STATES = ("qwen3_next", "qwen3_5_text", "qwen3_5_moe_text")


def runs_in_batches(model: PreTrainedModel, family: Family) -> bool:
    """Does every prompt of a batch, padded on the left, get what it would get alone? False: not known."""
    if not isinstance(family, QwenFamily | TextFamily) or own_cache(model) is None:
        return False
    if isinstance(family, QwenFamily) or model.config.model_type in MASKED_STATES:
        return True
    if model._is_stateful or hasattr(model.config, "vision_config"):
        return False
    takes = accepted(model, {"position_ids": None, "attention_mask": None, "past_key_values": None})
    return len(takes) == 3 and set(getattr(model.config, "layer_types", None) or ()) <= PADDABLE


class BatchedRows:
    """n rows of every prompt. logits_RV: of each row's next token."""

    def __init__(
        self,
        model: PreTrainedModel,
        family: Family,
        prompts: Sequence[Prompt],
        n: int,
        store: FrozenFeatures | None,
    ) -> None:
        """Run every prompt once, in parts; expand caches and last logits to n rows each."""
        self._model, self._text = model, not isinstance(family, QwenFamily)
        device, longest = model.device, max(len(p.ids_P) for p in prompts)
        features = _features(model, family, prompts, store) if isinstance(family, QwenFamily) else None
        together = max(1, PREFILLED // longest)
        parts = []
        for i in range(0, len(prompts), together):
            some = slice(i, i + together)
            if features is None:
                parts.append(_prefill_text(model, prompts[some], longest))
            else:
                parts.append(_prefill(model, family, prompts[some], features[some], longest))
        self._cache = joined([cache for _, cache in parts])
        prompt_R = torch.arange(len(prompts), device=device).repeat_interleave(n)
        self._cache.reorder_cache(prompt_R)  # type: ignore[arg-type]
        self.logits_RV = torch.cat([logits for logits, _ in parts])[prompt_R]
        next_position = torch.tensor([int(p.position_ids_3P.max()) + 1 for p in prompts], device=device)
        self._next_position_R = next_position[prompt_R]
        mask_BL = _mask(prompts, longest, device)
        self._mask_RL = None if mask_BL is None else mask_BL[prompt_R]

    def keep(self, index: torch.Tensor) -> None:
        self._cache.reorder_cache(index)  # type: ignore[arg-type]
        self._next_position_R = self._next_position_R[index]
        if self._mask_RL is not None:
            self._mask_RL = self._mask_RL[index]

    def feed(self, token_R: torch.Tensor) -> None:
        if self._mask_RL is not None:
            self._mask_RL = torch.cat([self._mask_RL, torch.ones_like(self._mask_RL[:, :1])], dim=1)
        ids_R1, position_R1 = token_R[:, None], self._next_position_R[:, None]
        if self._text:
            read = _read_ids(self._model, ids_R1, position_R1, self._mask_RL, self._cache)
        else:
            embeddings = self._model.get_input_embeddings()(ids_R1)
            positions = position_R1.expand(3, -1, -1)
            read = _read_embeddings(self._model, embeddings, positions, self._mask_RL, self._cache)
        self.logits_RV, self._cache = read
        self._next_position_R = self._next_position_R + 1


def _features(
    model: PreTrainedModel, family: QwenFamily, prompts: Sequence[Prompt], store: FrozenFeatures | None
) -> list[torch.Tensor]:
    """ViT features of each prompt, from the store where there is one."""
    if store is not None:
        store.learn(prompts)
        return store.of(prompts, model.device)
    parts = looked_at_together(prompts)
    return [feature for part in parts for feature in prompt_features(model, part, family.image)]


def _mask(prompts: Sequence[Prompt], longest: int, device: torch.device) -> torch.Tensor | None:
    """(prompts, longest) int64: 0 where a prompt is padded on the left. None where none is."""
    lengths_B1 = torch.tensor([[len(p.ids_P)] for p in prompts])
    mask_BL = torch.arange(longest) >= longest - lengths_B1
    return None if bool(mask_BL.all()) else mask_BL.long().to(device)


def _prefill_text(
    model: PreTrainedModel, prompts: Sequence[Prompt], longest: int
) -> tuple[torch.Tensor, Cache]:
    """The last logits (prompts, V) and the cache of prompts that go through the model together."""
    device, mask_BL = model.device, _mask(prompts, longest, model.device)
    before = [longest - len(prompt.ids_P) for prompt in prompts]
    ids_BL = torch.stack([pad(p.ids_P, (n, 0)) for p, n in zip(prompts, before)])
    positions_BL = torch.stack([pad(p.position_ids_3P[0], (n, 0)) for p, n in zip(prompts, before)])
    return _read_ids(model, ids_BL.to(device), positions_BL.to(device), mask_BL, own_cache(model))


def _prefill(
    model: PreTrainedModel,
    family: Family,
    prompts: Sequence[Prompt],
    features: Sequence[torch.Tensor],
    longest: int,
) -> tuple[torch.Tensor, Cache]:
    """The same of prompts that may have pictures."""
    device, mask_BL = model.device, _mask(prompts, longest, model.device)
    before = [longest - len(prompt.ids_P) for prompt in prompts]
    inputs = family.decoder_inputs(model, prompts, features)
    rows = [pad(of.embeddings_PH, (0, 0, n, 0)) for of, n in zip(inputs, before)]
    positions = [pad(of.positions_KP, (n, 0)) for of, n in zip(inputs, before)]
    pictures = [pad(of.picture_P, (n, 0)) for of, n in zip(inputs, before)]
    return _read_embeddings(
        model,
        torch.stack(rows),
        torch.stack(positions, dim=1).to(device),
        mask_BL,
        own_cache(model),
        **deepstack(inputs, torch.stack(pictures)),
    )


def _read_ids(
    model: PreTrainedModel,
    ids_BL: torch.Tensor,
    positions_BL: torch.Tensor,
    mask_BL: torch.Tensor | None,
    cache: Cache | None,
) -> tuple[torch.Tensor, Cache]:
    """The last logits (B, V) of a text model's own forward, whose head may do more than multiply."""
    out: Any = model(
        input_ids=ids_BL,
        position_ids=positions_BL,
        attention_mask=mask_BL,
        use_cache=True,
        past_key_values=cache,
        **accepted(model, {"logits_to_keep": 1}),
    )
    return out.logits[:, -1], out.past_key_values


def _read_embeddings(
    model: PreTrainedModel,
    embeddings_BLH: torch.Tensor,
    positions_3BL: torch.Tensor,
    mask_BL: torch.Tensor | None,
    cache: Cache | None,
    **deeper: Any,
) -> tuple[torch.Tensor, Cache]:
    """The last logits (B, V) of a decoder behind a ViT."""
    out = run_language_model(
        model, embeddings_BLH, positions_3BL, mask_BL, use_cache=True, past_key_values=cache, **deeper
    )
    return model.lm_head(out.last_hidden_state[:, -1]), out.past_key_values
