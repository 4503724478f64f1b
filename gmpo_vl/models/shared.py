"""One packed row per micro-batch: every prompt once, its responses after it.

    [ P1 | r11 r12 ... | P2 | r21 ... ]      L tokens, batch size 1, nothing padded

Linear layers, norms and the MLP see each token once. A `Layout` tells attention who sees whom: a prompt sees
itself causally, a response sees its prompt and itself causally. A response's positions continue from its
prompt's end, so every token gets the result that a forward of `[prompt | response]` alone would give it. The
last token of a response predicts nothing and is not fed.
"""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import pairwise
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from torch.nn.utils.rnn import pad_sequence
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from gmpo_vl.models.compat import own_attention
from gmpo_vl.models.geometry import language_model
from gmpo_vl.models.states import Order, carry_states, reading_order

ATTENTION = "group_shared"

# Rows of different lengths share an attention call where padding adds at most a quarter to its cost, or where
# the call is so small (query x key elements) that overhead dominates.
PADDING = 1.25
SMALL = 1_000_000
# Queries of a response in one call. A masked call also computes the hidden half of a response's own part; in
# pieces, only each piece's own part has such a half.
PIECE = 512


@dataclass(frozen=True)
class Segment:
    """A stretch of the packed row: it sees all of its prefix (empty for a prompt), then itself causally."""

    start: int
    length: int
    prefix_start: int = 0
    prefix_length: int = 0


@dataclass(frozen=True)
class _Piece:
    """Queries that see all keys of `seen`, stretches of (start, length), then themselves causally."""

    start: int
    length: int
    seen: tuple[tuple[int, int], ...] = ()

    @property
    def before(self) -> int:
        """Keys that all queries see."""
        return sum(length for _, length in self.seen)

    @property
    def cost(self) -> int:
        """Query x key elements of its attention."""
        return self.length * (self.before + self.length)


@dataclass(frozen=True)
class Block:
    """Rows whose attention is one call. Indices point into the packed row; padding points at 0.

    query_mQ, key_mK: int64. real_N: int64, positions of the real queries among all m * Q; with a mask
    instead, every layer would wait on a GPU for its sum. mask_m1QK: bool, who sees whom; None: causal.
    """

    query_mQ: torch.Tensor
    real_N: torch.Tensor
    key_mK: torch.Tensor
    mask_m1QK: torch.Tensor | None

    def to(self, device: torch.device) -> Block:
        mask = None if self.mask_m1QK is None else self.mask_m1QK.to(device)
        return Block(self.query_mQ.to(device), self.real_N.to(device), self.key_mK.to(device), mask)


@dataclass(frozen=True)
class Varlen:
    """The whole row as one call of a kernel that takes sequences of different lengths, one per segment.

    key_K: int64, the keys of all segments, prefix and own, one after the other. query_ends_S1 and
    key_ends_S1: int32, 0, then the end of each segment's queries and keys. The queries are the row itself.
    """

    key_K: torch.Tensor
    query_ends_S1: torch.Tensor
    key_ends_S1: torch.Tensor
    longest_query: int
    longest_key: int


class Layout:
    """Who sees whom in a packed row that the segments cover in order, in each kernel's form, made once.

    No dataclass: FSDP would copy it, with its cached tensors, for every layer.
    """

    def __init__(self, segments: tuple[Segment, ...], device: torch.device) -> None:
        self.segments, self.device = segments, device

    @cached_property
    def blocks(self) -> tuple[Block, ...]:
        """For SDPA: the whole row in few padded calls."""
        prompts, responses = [], []
        for s in self.segments:
            if s.prefix_length == 0:
                prompts.append(_Piece(s.start, s.length))
            else:
                responses += _pieces(s)
        blocks = [_causal_block(batch) for batch in _similar(prompts)]
        blocks += [_masked_block(batch) for batch in _similar(responses)]
        return tuple(block.to(self.device) for block in blocks)

    @cached_property
    def inverse_L(self) -> torch.Tensor:
        """Each token's place in the blocks' results."""
        return torch.cat([block.query_mQ.flatten()[block.real_N] for block in self.blocks]).argsort()

    @cached_property
    def reading_order(self) -> Order:
        """For layers with a recurrent state."""
        return reading_order(self.segments, self.device)

    @cached_property
    def varlen(self) -> Varlen:
        """For flash-attn."""
        stretches = [[(s.prefix_start, s.prefix_length), (s.start, s.length)] for s in self.segments]
        key_K = torch.cat([torch.arange(i, i + n) for parts in stretches for i, n in parts])
        queries = torch.tensor([0, *(s.length for s in self.segments)])
        keys = torch.tensor([0, *(s.prefix_length + s.length for s in self.segments)])
        return Varlen(
            key_K.to(self.device),
            queries.cumsum(0).int().to(self.device),
            keys.cumsum(0).int().to(self.device),
            int(queries.max()),
            int(keys.max()),
        )


def build_layout(segments: Sequence[Segment], device: torch.device) -> Layout:
    """The layout of a packed row, without its empty segments."""
    return Layout(tuple(s for s in segments if s.length > 0), device)


def _pieces(s: Segment) -> list[_Piece]:
    """A response in pieces of at most PIECE queries, as equal as possible."""
    count = -(-s.length // PIECE)
    ends = [s.length * i // count for i in range(count + 1)]
    prefix = (s.prefix_start, s.prefix_length)
    return [_Piece(s.start + begin, end - begin, (prefix, (s.start, begin))) for begin, end in pairwise(ends)]


def _similar(pieces: Iterable[_Piece]) -> list[list[_Piece]]:
    """Batches of pieces of similar lengths, for one call each."""
    batches: list[list[_Piece]] = []
    alone = queries = 0
    for piece in sorted(pieces, key=lambda p: (p.before, p.length)):
        if batches:
            queries = max(queries, piece.length)
            # Pieces come sorted: the newest has the most keys that all its queries see.
            together = (len(batches[-1]) + 1) * queries * (piece.before + queries)
            if together <= max(PADDING * (alone + piece.cost), SMALL):
                batches[-1].append(piece)
                alone += piece.cost
                continue
        batches.append([piece])
        alone, queries = piece.cost, piece.length
    return batches


def _rows(stretches: Sequence[Sequence[tuple[int, int]]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Indices (m, longest) of each row's stretches one after the other, padded with 0; which are real."""
    rows = [torch.cat([torch.arange(i, i + n) for i, n in row]) for row in stretches]
    valid = pad_sequence([torch.ones(len(row), dtype=torch.bool) for row in rows], batch_first=True)
    return pad_sequence(rows, batch_first=True), valid


def _causal_block(pieces: list[_Piece]) -> Block:
    index, valid = _rows([[(p.start, p.length)] for p in pieces])
    return Block(index, _places(valid), index, None)  # padding is on the right: causal attention keeps it out


def _masked_block(pieces: list[_Piece]) -> Block:
    seen, seen_valid = _rows([p.seen for p in pieces])
    own, own_valid = _rows([[(p.start, p.length)] for p in pieces])
    queries = own.shape[1]
    causal = torch.ones(queries, queries, dtype=torch.bool).tril().expand(len(pieces), -1, -1)
    mask = torch.cat([seen_valid[:, None, :].expand(-1, queries, -1), causal], dim=2)[:, None]
    return Block(own, _places(own_valid), torch.cat([seen, own], dim=1), mask)


def _places(valid_mQ: torch.Tensor) -> torch.Tensor:
    return valid_mQ.flatten().nonzero().squeeze(1)


def group_shared_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """transformers' attention interface: (1, heads, L, width) in, (1, L, heads, width) out.

    options: transformers' own (`scaling`, `dropout`, ...) and `layout`. Without a layout this is plain SDPA.
    """
    layout: Layout | None = options.pop("layout", None)
    scaling: float | None = options.get("scaling")
    plain = options.get("dropout", 0.0) == 0.0 and options.get("position_bias") is None
    if layout is None and query.shape[2] == 1 and plain:
        return _one_token_a_row(query, key, value, attention_mask, scaling), None
    if layout is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **options)
    query_LHD, key_LHD, value_LHD = (x[0].transpose(0, 1) for x in (query, key, value))
    dtype = computing_dtype(query)
    flash = flash_for(query, dtype)
    if flash is not None:
        query_LHD, key_LHD, value_LHD = (x.to(dtype) for x in (query_LHD, key_LHD, value_LHD))
        return _one_call(flash, query_LHD, key_LHD, value_LHD, layout.varlen, scaling)[None], None
    return _padded_calls(query_LHD, key_LHD, value_LHD, layout, scaling)[None], None


def _one_token_a_row(
    query_BD1W: torch.Tensor,
    key_BKLW: torch.Tensor,
    value_BKLW: torch.Tensor,
    mask_B11L: torch.Tensor | None,
    scaling: float | None,
) -> torch.Tensor:
    """(B, 1, heads, width), while sampling. Query heads that share keys become queries of one head: the keys,
    whose reading bounds the speed of decoding, are then read once and not once per head."""
    rows, heads, _, width = query_BD1W.shape
    query = query_BD1W.reshape(rows, key_BKLW.shape[1], -1, width)
    out = scaled_dot_product_attention(query, key_BKLW, value_BKLW, attn_mask=mask_B11L, scale=scaling)
    return out.reshape(rows, 1, heads, -1)


def computing_dtype(x: torch.Tensor) -> torch.dtype:
    """The dtype of attention. Under autocast it gets float32, which SDPA casts and flash-attn does not."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype


def flash_for(states: torch.Tensor, dtype: torch.dtype) -> Callable[..., torch.Tensor] | None:
    """flash-attn's kernel where it is installed and takes such states: half precision on CUDA."""
    return flash_varlen() if states.is_cuda and dtype in (torch.bfloat16, torch.float16) else None


@cache
def flash_varlen() -> Callable[..., torch.Tensor] | None:
    """flash-attn's kernel for sequences of different lengths, where it is installed."""
    if importlib.util.find_spec("flash_attn") is None:
        return None
    return importlib.import_module("flash_attn").flash_attn_varlen_func


def _one_call(
    flash: Callable[..., torch.Tensor],
    query_LHD: torch.Tensor,
    key_LHD: torch.Tensor,
    value_LHD: torch.Tensor,
    varlen: Varlen,
    scaling: float | None,
) -> torch.Tensor:
    """(L, heads, width). flash-attn's causal attention ends at the last key: a segment sees its prefix."""
    return flash(
        query_LHD,
        key_LHD[varlen.key_K],
        value_LHD[varlen.key_K],
        varlen.query_ends_S1,
        varlen.key_ends_S1,
        varlen.longest_query,
        varlen.longest_key,
        softmax_scale=scaling,
        causal=True,
    )


def _padded_calls(
    query_LHD: torch.Tensor,
    key_LHD: torch.Tensor,
    value_LHD: torch.Tensor,
    layout: Layout,
    scaling: float | None,
) -> torch.Tensor:
    """(L, heads, width) by SDPA, a call per block."""
    repeats = query_LHD.shape[1] // key_LHD.shape[1]
    results = []
    for block in layout.blocks:
        keys, values = (x[block.key_mK].transpose(1, 2) for x in (key_LHD, value_LHD))
        if repeats > 1 and block.mask_m1QK is not None and query_LHD.is_cuda:
            # For a mask with grouped heads CUDA has only the kernel that stores all scores.
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
        results.append(out.transpose(1, 2).flatten(0, 1)[block.real_N])
    return torch.cat(results)[layout.inverse_L]


AttentionInterface.register(ATTENTION, group_shared_attention)
AttentionMaskInterface.register(ATTENTION, sdpa_mask)


# Kinds of models whose packed row and padded rows the tests hold against their own forward. Any other kind is
# tried: it shares prompts where a run's parity check finds the two equal, else its rollouts go one at a time.
KNOWN = {"qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe"}
KNOWN |= {"qwen3_5", "qwen3_5_moe", "qwen3_next"}  # with recurrent states (states.py)


def is_known(config: Any) -> bool:
    """Need the packed row of such a model not be proved before it is used?"""
    return config.model_type in KNOWN and sharing_obstacle(config) is None


def sharing_obstacle(config: Any) -> str | None:
    """Why a model of this configuration cannot go through one packed row, in words; None where it may."""
    kind = config.model_type
    text = config.get_text_config()
    if getattr(config, "is_encoder_decoder", False) or own_attention(kind):
        return f"the layers of {kind!r} cannot be told who attends to whom"
    sliding = "sliding_attention" in (getattr(text, "layer_types", None) or ())
    if sliding or getattr(text, "use_sliding_window", False):
        return f"this {kind!r} attends within sliding windows"
    if getattr(text, "attention_dropout", 0.0):
        return "attention_dropout is not 0"
    if text._attn_implementation == "eager":
        return f"this {kind!r} attends in a way that SDPA does not have"
    return None


def use_group_attention(model: PreTrainedModel) -> None:
    """Let the decoder's layers take a `layout`. Everything else they do, generation included, stays SDPA.

    Only warns where the model cannot: its rollouts then go one at a time through its public inputs.
    """
    obstacle = sharing_obstacle(model.config)
    if obstacle is not None:
        warnings.warn(f"prompts are not shared: {obstacle}; one rollout at a time instead", stacklevel=3)
        return
    language_model(model).config._attn_implementation = ATTENTION
    carry_states(model)
