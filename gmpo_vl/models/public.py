"""Log-probs of any causal model through its public inputs, one rollout at a time: slow, but right for every
family, and what the shared forward is held against."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from transformers import PreTrainedModel

from gmpo_vl.models.families import accepted
from gmpo_vl.models.head import entropy, token_log_probs
from gmpo_vl.models.packing import ForwardOptions, Packed
from gmpo_vl.models.routers import watch_routers
from gmpo_vl.types import Prompt


def public_log_probs(
    model: PreTrainedModel,
    packed: Packed,
    temperature: float,
    banned_ids: Sequence[int],
    with_entropy: bool,
    options: ForwardOptions,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Log-probs (M,) of the M real response tokens, row after row; their entropies (M,) in nats, or None."""
    routing = options.routing
    chosen, entropies, routed = [], [], []
    for b, k in enumerate(packed.prompt_of_B):
        ids_T, prompt = packed.response_ids_BT[b, packed.mask_BT[b]], packed.prompts[k]
        # Before the forward, as a picture: ranks gather the weights in one order.
        visited = packed.family.visit(model) if options.visit_vision and not prompt.images else None
        inputs = _inputs(model, packed, prompt, ids_T)
        with nullcontext([]) if routing is None else watch_routers(model) as router_logits:
            logits_TV = model(**inputs).logits[0, -len(ids_T) :]
        if routing is not None:
            fed = inputs["input_ids"].shape[1]
            counted_T = torch.arange(fed - len(ids_T), fed, device=ids_T.device)
            routing.count(router_logits, counted_T, [len(ids_T)])
            routed.append(routing.sums_BS)
        log_probs_TV = token_log_probs(logits_TV, temperature, banned_ids)
        chosen.append(log_probs_TV.gather(-1, ids_T[:, None]).squeeze(-1))
        if visited is not None:
            chosen[-1] = chosen[-1] + visited
        if with_entropy:
            entropies.append(entropy(log_probs_TV))
    if routing is not None:
        routing.sums_BS = torch.cat(routed)
    return torch.cat(chosen), torch.cat(entropies) if with_entropy else None


def _inputs(model: PreTrainedModel, packed: Packed, prompt: Prompt, ids_T: torch.Tensor) -> dict[str, Any]:
    """`[prompt | response]` without the last token, which predicts nothing."""
    ids_1L = torch.cat([prompt.ids_P.to(ids_T.device), ids_T[:-1]])[None]
    return {
        "input_ids": ids_1L,
        "attention_mask": torch.ones_like(ids_1L),
        "use_cache": False,
        **packed.family.public_inputs(model, prompt, len(ids_T) - 1),
        **accepted(model, {"logits_to_keep": len(ids_T)}),
    }
