"""Log-probs of any causal model through its public inputs, one rollout at a time: slow, but right for every
family."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from transformers import PreTrainedModel

from gmpo_vl.batching.packing import Packed
from gmpo_vl.models.head import entropy, token_log_probs
from gmpo_vl.models.processing import make_patches
from gmpo_vl.models.routers import RouterCounter, watch_routers
from gmpo_vl.types import ImageSettings, Prompt


def public_log_probs(
    model: PreTrainedModel,
    packed: Packed,
    temperature: float,
    banned_ids: Sequence[int],
    with_entropy: bool = False,
    routing: RouterCounter | None = None,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Log-probs (M,) of the M real response tokens, row after row, and their entropies (M,) in nats or None.

    routing: counts which experts the routers chose.
    """
    chosen, entropies, routed = [], [], []
    for b, k in enumerate(packed.prompt_of_B):
        ids_T = packed.response_ids_BT[b, packed.mask_BT[b]]
        inputs = _inputs(model, packed.prompts[k], ids_T, packed.image)
        with nullcontext([]) if routing is None else watch_routers(model) as router_logits:
            logits_TV = model(**inputs).logits[0, -len(ids_T) :]
        if routing is not None:
            fed = inputs["input_ids"].shape[1]
            counted_T = torch.arange(fed - len(ids_T), fed, device=ids_T.device)
            routing.count(router_logits, counted_T, [len(ids_T)])
            routed.append(routing.sums_BS)
        log_probs_TV = token_log_probs(logits_TV, temperature, banned_ids)
        chosen.append(log_probs_TV.gather(-1, ids_T[:, None]).squeeze(-1))
        if with_entropy:
            entropies.append(entropy(log_probs_TV))
    if routing is not None:
        routing.sums_BS = torch.cat(routed)
    return torch.cat(chosen), torch.cat(entropies) if with_entropy else None


def _inputs(
    model: PreTrainedModel, prompt: Prompt, ids_T: torch.Tensor, image: ImageSettings | None
) -> dict[str, Any]:
    """`[prompt | response]` without the last token, which predicts nothing."""
    takes = inspect.signature(type(model).forward).parameters
    ids_1L = torch.cat([prompt.ids_P.to(ids_T.device), ids_T[:-1]])[None]
    inputs: dict[str, Any] = {
        "input_ids": ids_1L,
        "attention_mask": torch.ones_like(ids_1L),
        "use_cache": False,
    }
    if prompt.images:
        assert image is not None
        patches = [make_patches(x.to(ids_T.device), image) for x in prompt.images]
        inputs["pixel_values"] = torch.cat(patches).to(model.dtype)
        inputs["image_grid_thw"] = prompt.image_grid_thw.to(ids_T.device)
        if "mm_token_type_ids" in takes:
            inputs["mm_token_type_ids"] = (ids_1L == model.config.image_token_id).int()
    if "logits_to_keep" in takes:
        inputs["logits_to_keep"] = len(ids_T)
    return inputs
