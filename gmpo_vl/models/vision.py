"""The ViT of the Qwen-VL models with fewer kernel calls: the same numbers up to rounding, in less time."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from types import MethodType
from typing import Any

import torch
from torch.nn.functional import linear, scaled_dot_product_attention
from transformers import PreTrainedModel

from gmpo_vl.models.geometry import QWEN_VL, vision_tower
from gmpo_vl.models.shared import computing_dtype, flash_for


def batch_vision(model: PreTrainedModel) -> None:
    """Change the loaded model's ViT in place; parameters and their names stay.

    With flash-attn, attention is one call for all windows, else one call per length of window. transformers
    makes a call per window, and waits on the device for the windows' lengths in every layer. On a CPU the
    patch embedding (a convolution whose stride is its kernel) becomes one matrix product.
    """
    visual = vision_tower(model)
    if visual is None or model.config.model_type not in QWEN_VL:
        return
    visual.patch_embed.forward = MethodType(_embed_patches, visual.patch_embed)
    for block in visual.blocks:
        block.attn.forward = MethodType(_attend, block.attn)


def _embed_patches(self: Any, patches: torch.Tensor) -> torch.Tensor:
    # An adapter in place of the convolution is called as it is.
    if patches.device.type != "cpu" or type(self.proj) is not torch.nn.Conv3d:
        return type(self).forward(self, patches)
    weight = self.proj.weight
    return linear(patches.to(weight.dtype), weight.flatten(1), self.proj.bias)


def _attend(self: Any, hidden_states: torch.Tensor, cu_seqlens: torch.Tensor, **kwargs: Any) -> torch.Tensor:
    """(patches, width) -> the same shape; patches of a window see each other."""
    cos, sin = (x.float()[:, None] for x in kwargs["position_embeddings"])
    dtype = computing_dtype(hidden_states)
    qkv = self.qkv(hidden_states).view(len(hidden_states), 3, self.num_heads, -1)
    query, key = (_rotate(qkv[:, i].float(), cos, sin).to(dtype) for i in (0, 1))
    value = qkv[:, 2].to(dtype)
    windows = _windows(cu_seqlens)
    flash = flash_for(query, dtype)
    if flash is None:
        out = _call_per_length(query, key, value, windows)
    else:
        ends, longest = windows.ends_W1, max(windows.lengths)
        out = flash(query, key, value, ends, ends, longest, longest)
    return self.proj(out.flatten(1))


@dataclass(frozen=True)
class _Windows:
    """Which patches see each other, as the kernels want it.

    ends_W1: int32, 0, then the end of each window. lengths: the distinct ones; patches: how many lie in
    windows of each. order_N sorts patches by the length of their window, inverse_N back; None for one length.
    """

    ends_W1: torch.Tensor
    lengths: list[int]
    patches: list[int]
    order_N: torch.Tensor | None = None
    inverse_N: torch.Tensor | None = None


@lru_cache(maxsize=4)
def _windows(cu_seqlens: torch.Tensor) -> _Windows:
    """From the windows' ends. All layers of a pass hand on the same tensor, which the cache knows by
    identity, so that the pass waits for the device once and not in every layer."""
    ends_W1 = torch.tensor(cu_seqlens.tolist())
    length_W = ends_W1.diff()
    length_N = length_W.repeat_interleave(length_W)
    lengths, patches = (x.tolist() for x in length_N.unique(return_counts=True))
    if len(lengths) == 1:
        return _Windows(cu_seqlens.int(), lengths, patches)
    order_N = length_N.argsort(stable=True).to(cu_seqlens.device)
    return _Windows(cu_seqlens.int(), lengths, patches, order_N, order_N.argsort())


def _call_per_length(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, windows: _Windows
) -> torch.Tensor:
    """(patches, heads, width) by SDPA; windows of equal length in one call."""
    states = query, key, value
    if windows.order_N is not None:
        states = tuple(x[windows.order_N] for x in states)
    results = []
    for length, *alike in zip(windows.lengths, *(x.split(windows.patches) for x in states)):
        q, k, v = (x.unflatten(0, (-1, length)).transpose(1, 2) for x in alike)
        results.append(scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(0, 1))
    out = torch.cat(results)
    return out if windows.inverse_N is None else out[windows.inverse_N]


def _rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin
