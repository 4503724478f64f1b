"""One packed row per micro-batch: every prompt once, its responses after it.

    [ P1 | r11 r12 ... | P2 | r21 ... ]      L tokens, batch size 1, nothing padded

Linear layers, norms and the MLP see each token once. Attention is told by a `Layout` who sees whom: a prompt sees itself
causally, a response sees its prompt and itself causally. Positions of a response go on from its prompt's end, so every
token gets what a forward of `[prompt | response]` alone would give it. The last token of a response predicts nothing and is
not fed.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from gmpo_vl.models.compat import own_attention

ATTENTION = "group_shared"

# Rows of different lengths share an attention call where padding adds at most a quarter to it, or where the call is so
# small (query x key elements) that its overhead is what it costs.
PADDING = 1.25
SMALL = 1_000_000


@dataclass(frozen=True)
class Block:
    """Rows whose attention is one call. Indices point into the packed row; padding points at 0 and is thrown away.

    query_mQ, key_mK: int64. valid_mQ: bool, real queries. mask_m1QK: bool, who sees whom; None: causal, as it stands.
    """

    query_mQ: torch.Tensor
    valid_mQ: torch.Tensor
    key_mK: torch.Tensor
    mask_m1QK: torch.Tensor | None


@dataclass(frozen=True)
class Layout:
    """blocks: all attention of the row. inverse_L: where each token's result lies in the blocks' results."""

    blocks: tuple[Block, ...]
    inverse_L: torch.Tensor


@dataclass(frozen=True)
class Segment:
    """A stretch of the packed row that attends to itself causally, after all of `prefix` (empty for a prompt)."""

    start: int
    length: int
    prefix_start: int = 0
    prefix_length: int = 0

    @property
    def cost(self) -> int:
        """Query x key elements of its attention."""
        return self.length * (self.prefix_length + self.length)


def build_layout(segments: Sequence[Segment], device: torch.device) -> Layout:
    """Attention of all segments in few calls. The segments must cover the packed row."""
    prompts = [s for s in segments if s.prefix_length == 0 and s.length > 0]
    responses = [s for s in segments if s.prefix_length > 0 and s.length > 0]
    blocks = [_prompt_block(b) for b in _similar(prompts)] + [_response_block(b) for b in _similar(responses)]
    order_L = torch.cat([block.query_mQ[block.valid_mQ] for block in blocks])
    moved = [
        Block(
            block.query_mQ.to(device),
            block.valid_mQ.to(device),
            block.key_mK.to(device),
            None if block.mask_m1QK is None else block.mask_m1QK.to(device),
        )
        for block in blocks
    ]
    return Layout(tuple(moved), order_L.argsort().to(device))


def _similar(segments: Iterable[Segment]) -> list[list[Segment]]:
    """Segments in batches for one call each, of similar lengths."""
    batches: list[list[Segment]] = []
    alone = queries = 0
    for segment in sorted(segments, key=lambda s: (s.prefix_length, s.length)):
        if batches:
            queries = max(queries, segment.length)
            # Sorted by prefix: the newest has the longest.
            together = (len(batches[-1]) + 1) * queries * (segment.prefix_length + queries)
            if together <= max(PADDING * (alone + segment.cost), SMALL):
                batches[-1].append(segment)
                alone += segment.cost
                continue
        batches.append([segment])
        alone, queries = segment.cost, segment.length
    return batches


def _ranges(starts: Sequence[int], lengths: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Indices (m, longest) of ranges, padded with 0, and which are real."""
    offset = torch.arange(max(lengths))
    valid = offset < torch.tensor(lengths)[:, None]
    return torch.where(valid, torch.tensor(starts)[:, None] + offset, 0), valid


def _prompt_block(segments: list[Segment]) -> Block:
    index, valid = _ranges([s.start for s in segments], [s.length for s in segments])
    return Block(index, valid, index, None)  # padding is on the right: causal attention keeps it out


def _response_block(segments: list[Segment]) -> Block:
    prefix, prefix_valid = _ranges([s.prefix_start for s in segments], [s.prefix_length for s in segments])
    own, own_valid = _ranges([s.start for s in segments], [s.length for s in segments])
    queries = own.shape[1]
    causal = torch.ones(queries, queries, dtype=torch.bool).tril().expand(len(segments), -1, -1)
    sees_prefix = prefix_valid[:, None, :].expand(-1, queries, -1)
    mask = torch.cat([sees_prefix, causal], dim=2)[:, None]
    return Block(own, own_valid, torch.cat([prefix, own], dim=1), mask)


def group_shared_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    layout: Layout | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """transformers' attention interface: (1, heads, L, width) in, (1, L, heads, width) out. Without a layout plain SDPA."""
    if layout is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, dropout=dropout, **kwargs
        )
    query_LHD, key_LHD, value_LHD = (x[0].transpose(0, 1) for x in (query, key, value))
    repeats = query_LHD.shape[1] // key_LHD.shape[1]
    results = []
    for block in layout.blocks:
        keys, values = (x[block.key_mK].transpose(1, 2) for x in (key_LHD, value_LHD))
        if repeats > 1 and block.mask_m1QK is not None and query.is_cuda:
            # With a mask and grouped heads CUDA knows only the kernel that writes all scores down.
            keys, values = (x.repeat_interleave(repeats, dim=1) for x in (keys, values))
        out = scaled_dot_product_attention(
            query_LHD[block.query_mQ].transpose(1, 2),
            keys,
            values,
            attn_mask=block.mask_m1QK,
            is_causal=block.mask_m1QK is None,
            scale=scaling,
            enable_gqa=keys.shape[1] != query_LHD.shape[1],
        )
        results.append(out.transpose(1, 2)[block.valid_mQ])
    return torch.cat(results)[layout.inverse_L][None], None


AttentionInterface.register(ATTENTION, group_shared_attention)
AttentionMaskInterface.register(ATTENTION, sdpa_mask)


# Decoders whose layers hand the layout down to attention, and whose inputs forward.py knows how to make.
KNOWN = {"qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe"}


def sharing_obstacle(model: PreTrainedModel) -> str | None:
    """Why this model cannot go through one packed row, in words; None where it can."""
    kind = model.config.model_type
    text: Any = model.config.get_text_config()
    if kind not in KNOWN or own_attention(kind):
        return f"the layers of {kind!r} cannot be told who attends to whom"
    sliding = "sliding_attention" in (getattr(text, "layer_types", None) or ())
    if sliding or getattr(text, "use_sliding_window", False):
        return f"this {kind!r} attends within sliding windows"
    return None


def use_group_attention(model: PreTrainedModel) -> None:
    """Let the decoder's layers take a `layout`. Everything else they do, generation included, stays SDPA.

    Where the model cannot, say so and leave it alone: its rollouts go one at a time through its public inputs.
    """
    obstacle = sharing_obstacle(model)
    if obstacle is not None:
        warnings.warn(f"prompts are not shared: {obstacle}; one rollout at a time instead", stacklevel=3)
        return
    inner: Any = model.model
    config: Any = getattr(inner, "language_model", inner).config
    config._attn_implementation = ATTENTION
