"""Log-probs of any causal model through its public inputs, one rollout at a time: slow, but right for every
family, and what the shared forward is held against."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from transformers import PreTrainedModel

from gmpo_vl.models.families import accepted
from gmpo_vl.models.families.qwen import visit
from gmpo_vl.models.geometry import inner_model
from gmpo_vl.models.head import entropy, head_log_probs, token_log_probs
from gmpo_vl.models.packing import ForwardOptions, Packed
from gmpo_vl.models.routers import watch_routers
from gmpo_vl.models.shared import is_known
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
        visited = visit(model, options.visit) if options.visit and not prompt.images else None
        inputs = _inputs(model, packed, prompt, ids_T)
        with nullcontext([]) if routing is None else watch_routers(model) as router_logits:
            log_probs_T, entropy_T = _scored(model, inputs, ids_T, temperature, banned_ids, with_entropy)
        if routing is not None:
            fed = inputs["input_ids"].shape[1]
            counted_T = torch.arange(fed - len(ids_T), fed, device=ids_T.device)
            routing.count(router_logits, counted_T, [len(ids_T)])
            routed.append(routing.sums_BS)
        chosen.append(log_probs_T if visited is None else log_probs_T + visited)
        entropies.append(entropy_T)
    if routing is not None:
        routing.sums_BS = torch.cat(routed)
    return torch.cat(chosen), torch.cat(entropies) if with_entropy else None


def _scored(
    model: PreTrainedModel,
    inputs: dict[str, Any],
    ids_T: torch.Tensor,
    temperature: float,
    banned_ids: Sequence[int],
    with_entropy: bool,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Log-probs (T,) of a response, and the entropies of its positions where asked.

    Of a kind that is known, the model's logits are those of its head, which is called in chunks.
    """
    how = temperature, banned_ids
    if is_known(model.config):
        final_LH = _final_states(model, inputs)
        return head_log_probs(model.lm_head, final_LH[-len(ids_T) :], ids_T, *how, with_entropy)
    keep = accepted(model, {"logits_to_keep": len(ids_T)})
    log_probs_TV = token_log_probs(model(**inputs, **keep).logits[0, -len(ids_T) :], *how)
    chosen_T = log_probs_TV.gather(-1, ids_T[:, None]).squeeze(-1)
    return chosen_T, entropy(log_probs_TV) if with_entropy else None


def _final_states(model: PreTrainedModel, inputs: dict[str, Any]) -> torch.Tensor:
    """(L, hidden), as the model's own forward hands them to its head; of its logits it makes one row."""
    kept: list[torch.Tensor] = []
    hook = inner_model(model).register_forward_hook(lambda _m, _in, out: kept.append(out.last_hidden_state))
    try:
        model(**inputs, logits_to_keep=1)
    finally:
        hook.remove()
    return kept[-1][0]


def _inputs(model: PreTrainedModel, packed: Packed, prompt: Prompt, ids_T: torch.Tensor) -> dict[str, Any]:
    """`[prompt | response]` without the last token, which predicts nothing."""
    ids_1L = torch.cat([prompt.ids_P.to(ids_T.device), ids_T[:-1]])[None]
    return {
        "input_ids": ids_1L,
        "attention_mask": torch.ones_like(ids_1L),
        **packed.family.public_inputs(model, prompt, len(ids_T) - 1),
        **accepted(model, {"use_cache": False}),
    }
