"""A group's forward and backward by EasyR1's own actor, unmodified: one rollout at a time, its best case on
equal terms.

Pictures come as patches, as its worker has them when the actor starts; each rollout goes through ViT, prompt
and head again.
"""

from __future__ import annotations

from typing import Any

import torch
from step_models import IMAGE

from gmpo_vl.batching.planning import Row
from gmpo_vl.models.families import response_positions
from gmpo_vl.models.families.qwen import make_patches


def easyr1_actor(model: Any, padding_free: bool) -> Any:
    from verl.workers.actor import dp_actor  # type: ignore[import-not-found]
    from verl.workers.actor.config import ActorConfig  # type: ignore[import-not-found]

    if not hasattr(dp_actor, "unpad_input"):  # of flash-attn, which a CPU has not
        dp_actor.unpad_input, dp_actor.pad_input = unpad_input, pad_input
        dp_actor.index_first_axis = lambda x, indices: x[indices]
    config = ActorConfig(padding_free=padding_free, use_torch_compile=False, ulysses_size=1)
    return dp_actor.DataParallelPPOActor(config, model, None)


def unpad_input(x: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """flash-attn's: (batch, length, ...) to (real tokens, ...), and where they lie."""
    indices = mask.flatten().nonzero().squeeze(1)
    return x.flatten(0, 1)[indices], indices


def pad_input(hidden_states: torch.Tensor, indices: torch.Tensor, batch: int, seqlen: int) -> torch.Tensor:
    """The way back, with zeros in between."""
    out = hidden_states.new_zeros(batch * seqlen, *hidden_states.shape[1:])
    return out.index_copy(0, indices, hidden_states).view(batch, seqlen, *hidden_states.shape[1:])


def as_micro_batch(row: Row, device: torch.device) -> dict[str, Any]:
    """One rollout in the form EasyR1's actor takes, without padding."""
    prompt, ids_T = row.group.prompt, row.ids_T
    length = len(prompt.ids_P) + len(ids_T)
    before_3P = prompt.position_ids_3P
    mrope_3L = torch.cat([before_3P, response_positions(before_3P, len(ids_T))], dim=1)
    positions_4L = torch.cat([torch.arange(length)[None], mrope_3L])  # it wants the text's positions first
    pictures = {
        "pixel_values": torch.cat([make_patches(x.to(device), IMAGE) for x in prompt.images]),
        "image_grid_thw": prompt.image_grid_thw.to(device),
    }
    return {
        "input_ids": torch.cat([prompt.ids_P, ids_T])[None].to(device),
        "attention_mask": torch.ones((1, length), dtype=torch.int64, device=device),
        "position_ids": positions_4L[None].to(device),
        "responses": ids_T[None].to(device),
        "multi_modal_inputs": [pictures],
    }


def update(model: Any, actor: Any, micro_batches: list[dict[str, Any]], device: torch.device) -> None:
    """The group's gradient."""
    model.zero_grad(set_to_none=True)
    for batch in micro_batches:
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            log_probs_BT = actor._forward_micro_batch(batch, temperature=1.0)
        log_probs_BT.sum().backward()
