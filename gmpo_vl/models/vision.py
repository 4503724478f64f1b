"""Qwen2.5-VL's ViT with fewer kernel calls: the same numbers up to rounding, in a fraction of the time on a CPU."""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch
from torch.nn.functional import linear, scaled_dot_product_attention
from transformers import PreTrainedModel


def batch_vision(model: PreTrainedModel) -> None:
    """Change the loaded model's ViT in place; parameters and their names stay.

    The patch embedding (a convolution whose stride is its kernel) becomes one matrix product; windows of equal length
    (pictures of one size) go through attention in one call instead of one call each. Other lengths take the original way.
    """
    visual: Any = model.model.visual
    visual.patch_embed.forward = MethodType(_embed_patches, visual.patch_embed)
    for block in visual.blocks:
        block.attn.one_by_one = block.attn.forward
        block.attn.forward = MethodType(_attend, block.attn)


def _embed_patches(self: Any, patches: torch.Tensor) -> torch.Tensor:
    weight = self.proj.weight
    return linear(patches.to(weight.dtype), weight.flatten(1))


def _attend(self: Any, hidden_states: torch.Tensor, cu_seqlens: torch.Tensor, **kwargs: Any) -> torch.Tensor:
    """(patches, width) -> the same. All windows have one length, or transformers' own loop over them runs."""
    lengths = cu_seqlens.diff()
    if not bool((lengths == lengths[0]).all()):
        return self.one_by_one(hidden_states, cu_seqlens=cu_seqlens, **kwargs)
    windows, length, heads = len(lengths), int(lengths[0]), self.num_heads
    cos, sin = (x.float().view(windows, 1, length, -1) for x in kwargs["position_embeddings"])
    qkv = self.qkv(hidden_states).view(windows, length, 3, heads, -1).permute(2, 0, 3, 1, 4)
    query, key = (_rotate(x.float(), cos, sin).to(hidden_states.dtype) for x in (qkv[0], qkv[1]))
    out = scaled_dot_product_attention(query, key, qkv[2])
    return self.proj(out.transpose(1, 2).reshape(hidden_states.shape))


def _rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin
