"""The ViT of the Qwen-VL models with fewer kernel calls on a CPU: the same numbers up to rounding, in less time."""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch
from torch.nn.functional import linear, scaled_dot_product_attention
from transformers import PreTrainedModel


def batch_vision(model: PreTrainedModel) -> None:
    """Change the loaded model's ViT in place, for whenever it runs on a CPU; parameters and their names stay.

    The patch embedding (a convolution whose stride is its kernel) becomes one matrix product; windows of equal length
    go through attention in one call instead of one call each. On other devices transformers' own code runs.
    """
    visual: Any = getattr(model.model, "visual", None)
    if visual is None:
        return
    visual.patch_embed.forward = MethodType(_embed_patches, visual.patch_embed)
    for block in visual.blocks:
        block.attn.forward = MethodType(_attend, block.attn)


def _embed_patches(self: Any, patches: torch.Tensor) -> torch.Tensor:
    # An adapter in the convolution's place is called as it is.
    if patches.device.type != "cpu" or type(self.proj) is not torch.nn.Conv3d:
        return type(self).forward(self, patches)
    weight = self.proj.weight
    return linear(patches.to(weight.dtype), weight.flatten(1), self.proj.bias)


def _attend(self: Any, hidden_states: torch.Tensor, cu_seqlens: torch.Tensor, **kwargs: Any) -> torch.Tensor:
    """(patches, width) -> the same; patches of a window see each other."""
    if hidden_states.device.type != "cpu":
        return type(self).forward(self, hidden_states, cu_seqlens=cu_seqlens, **kwargs)
    cos, sin = (x.float()[:, None] for x in kwargs["position_embeddings"])
    qkv = self.qkv(hidden_states).view(len(hidden_states), 3, self.num_heads, -1)
    query, key = (_rotate(qkv[:, i].float(), cos, sin).to(hidden_states.dtype) for i in (0, 1))
    start, lengths = cu_seqlens[:-1], cu_seqlens.diff()
    results, places = [], []
    for length in lengths.unique().tolist():
        window_WL = start[lengths == length, None] + torch.arange(length)
        q, k, v = (x[window_WL].transpose(1, 2) for x in (query, key, qkv[:, 2]))
        results.append(scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(0, 1))
        places.append(window_WL.flatten())
    out = torch.cat(results)
    if len(places) > 1:
        out = out[torch.cat(places).argsort()]
    return self.proj(out.flatten(1))


def _rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin
