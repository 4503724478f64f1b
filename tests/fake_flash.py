"""flash-attn 2.8.3's varlen call without its kernel:

its signature, what it takes and refuses, and the numbers it gives.
"""

from __future__ import annotations

from itertools import pairwise

import torch

HALF = (torch.float16, torch.bfloat16)


def flash_attn_varlen_func(
    q,
    k,
    v,
    cu_seqlens_q,
    cu_seqlens_k,
    max_seqlen_q,
    max_seqlen_k,
    dropout_p=0.0,
    softmax_scale=None,
    causal=False,
    window_size=(-1, -1),
    softcap=0.0,
    alibi_slopes=None,
    deterministic=False,
    return_attn_probs=False,
    block_table=None,
):
    """q (tokens, heads, width), k and v (keys, fewer heads, width): the sequences' attention, in q's dtype.

    Raises RuntimeError or TypeError where flash-attn does, and for strides of the last dimension that it
    would copy silently; NotImplementedError for options that this stands in for nowhere.
    """
    _check_states(q, k, v)
    for name, ends in (("cu_seqlens_q", cu_seqlens_q), ("cu_seqlens_k", cu_seqlens_k)):
        _require(ends.dtype == torch.int32, f"{name} must have dtype int32")
        _require(ends.is_cuda, f"{name} must be on CUDA")
        _require(ends.is_contiguous(), f"{name} must be contiguous")
        _require(
            ends.dim() == 1 and len(ends) == len(cu_seqlens_q), f"{name} must have shape (batch_size + 1)"
        )
    _require(len(cu_seqlens_q) > 1, "batch size must be positive")
    if not (type(max_seqlen_q) is type(max_seqlen_k) is int):
        raise TypeError("max_seqlen_q and max_seqlen_k must be int: a tensor would be waited for")
    if dropout_p or softcap or alibi_slopes is not None or return_attn_probs or block_table is not None:
        raise NotImplementedError("only plain attention")
    before, after = window_size
    if (before, after) != (-1, -1) and not (causal and before >= 0 and after == 0):
        raise NotImplementedError("only windows that end at the query's own key")
    # The kernel reads these on the device: nothing is waited for.
    queries, keys = (_ends(ends, len(x)) for ends, x in ((cu_seqlens_q, q), (cu_seqlens_k, k)))
    longest = [max(b - a for a, b in pairwise(ends)) for ends in (queries, keys)]
    # It computes as many blocks as it is told: what lies beyond is memory that nobody wrote.
    _require(
        longest[0] <= max_seqlen_q, f"a sequence of {longest[0]} queries, max_seqlen_q is {max_seqlen_q}"
    )
    _require(longest[1] <= max_seqlen_k, f"a sequence of {longest[1]} keys, max_seqlen_k is {max_seqlen_k}")
    scale = q.shape[-1] ** -0.5 if softmax_scale is None else softmax_scale
    states = q.double(), k.double(), v.double()
    return attention_by_segments(*states, queries, keys, scale, causal, before).to(q.dtype)


def _check_states(q, k, v) -> None:
    _require(q.dtype in HALF, "FlashAttention only support fp16 and bf16 data type")
    _require(k.dtype == q.dtype, "query and key must have the same dtype")
    _require(v.dtype == q.dtype, "query and value must have the same dtype")
    for x in (q, k, v):
        _require(x.is_cuda, "Input tensor must be on CUDA")
        _require(x.stride(-1) == 1, "Input tensor must have contiguous last dimension")
        _require(x.dim() == 3, "Input tensor must have shape (tokens, heads, head_size)")
        _require(x.shape[-1] == q.shape[-1], "head sizes must be equal")
    _require(k.shape == v.shape, "key and value must have the same shape")
    _require(q.shape[-1] <= 256, "FlashAttention forward only supports head dimension at most 256")
    _require(
        q.shape[1] % k.shape[1] == 0, "Number of heads in key/value must divide number of heads in query"
    )


def _ends(cumulative: torch.Tensor, length: int) -> list[int]:
    ends = getattr(cumulative, "held", cumulative).tolist()
    rising = ends == sorted(ends)
    _require(ends[0] == 0 and ends[-1] == length and rising, f"cu_seqlens {ends} for {length} tokens")
    return ends


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise RuntimeError(message)


def attention_by_segments(
    q, k, v, queries: list[int], keys: list[int], scale: float, causal: bool, before: int = -1
):
    """(tokens, heads, width) in any dtype:

    each stretch of queries over its stretch of keys, causal up to the last key. before: keys that a query
    sees before its own; -1: all.
    """
    groups = q.shape[1] // k.shape[1]
    results = []
    for i in range(len(queries) - 1):
        mine, theirs = slice(queries[i], queries[i + 1]), slice(keys[i], keys[i + 1])
        own, seen = mine.stop - mine.start, theirs.stop - theirs.start
        scores = torch.einsum("qhd,khd->hqk", q[mine], k[theirs].repeat_interleave(groups, dim=1)) * scale
        if causal:
            hidden = torch.ones(own, seen, dtype=torch.bool, device=q.device).triu(seen - own + 1)
            if before >= 0:
                hidden |= torch.ones_like(hidden).tril(seen - own - before - 1)
            scores = scores.masked_fill(hidden, -torch.inf)
        values = v[theirs].repeat_interleave(groups, dim=1)
        results.append(torch.einsum("hqk,khd->qhd", scores.softmax(-1), values))
    return torch.cat(results)
