"""Attention of a packed row: long responses in pieces, and the whole row as one call of a varlen kernel."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_forward import assert_equals_one_at_a_time, prompts_of, rows_with
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from gmpo_vl.data.diagrams import make_examples
from gmpo_vl.models import shared
from gmpo_vl.models.loading import load_model
from gmpo_vl.models.processing import load_processor
from gmpo_vl.models.shared import Segment, build_layout, group_shared_attention

CPU = torch.device("cpu")


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("heads", "key_heads"), [(4, 2), (6, 1), (2, 2)])
def test_one_token_a_row_attends_as_transformers_has_it(heads, key_heads, masked):
    torch.manual_seed(0)
    query = torch.randn(3, heads, 1, 8, dtype=torch.float64)
    key, value = torch.randn(2, 3, key_heads, 5, 8, dtype=torch.float64)
    mask = torch.arange(5) >= torch.tensor([0, 2, 1])[:, None] if masked else None
    mask = None if mask is None else mask[:, None, None]
    module = torch.nn.Module()
    module.num_key_value_groups = heads // key_heads
    ours, _ = group_shared_attention(module, query, key, value, mask, scaling=0.3)
    theirs, _ = sdpa_attention_forward(module, query, key, value, mask, scaling=0.3)
    torch.testing.assert_close(ours, theirs, rtol=1e-14, atol=1e-14)


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
):
    """flash-attn's documented behaviour in plain PyTorch: grouped heads, causal attention aligned with the last key."""
    assert dropout_p == 0.0
    assert causal
    assert cu_seqlens_q.dtype == cu_seqlens_k.dtype == torch.int32
    groups = q.shape[1] // k.shape[1]
    results = []
    for i in range(len(cu_seqlens_q) - 1):
        mine = slice(int(cu_seqlens_q[i]), int(cu_seqlens_q[i + 1]))
        theirs = slice(int(cu_seqlens_k[i]), int(cu_seqlens_k[i + 1]))
        queries, keys = mine.stop - mine.start, theirs.stop - theirs.start
        assert queries <= max_seqlen_q
        assert keys <= max_seqlen_k
        scores = torch.einsum("qhd,khd->hqk", q[mine], k[theirs].repeat_interleave(groups, dim=1))
        hidden = torch.ones(queries, keys, dtype=torch.bool).triu(keys - queries + 1)
        weights = (scores * softmax_scale).masked_fill(hidden, -torch.inf).softmax(-1)
        results.append(torch.einsum("hqk,khd->qhd", weights, v[theirs].repeat_interleave(groups, dim=1)))
    return torch.cat(results)


groups_of_lengths = st.lists(
    st.tuples(st.integers(1, 9), st.lists(st.integers(0, 9), min_size=1, max_size=4)), min_size=1, max_size=3
)


def segments_of(groups: list[tuple[int, list[int]]]) -> list[Segment]:
    segments, offset = [], 0
    for prompt, responses in groups:
        segments.append(Segment(offset, prompt))
        start, offset = offset, offset + prompt
        for length in responses:
            segments.append(Segment(offset, length, start, prompt))
            offset += length
    return segments


@settings(max_examples=60)
@given(groups_of_lengths, st.integers(1, 4))
def test_one_varlen_call_gives_what_padded_calls_give(groups, piece):
    segments = segments_of(groups)
    length = segments[-1].start + segments[-1].length
    draw = torch.Generator().manual_seed(0)
    query, key, value = (
        torch.randn(length, heads, 8, generator=draw, dtype=torch.float64) for heads in (4, 2, 2)
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shared, "PIECE", piece)
        patch.setattr(shared, "SMALL", 0)
        layout = build_layout(segments, CPU)
        padded = shared._padded_calls(query, key, value, layout, 0.3)
        one = shared._one_call(flash_attn_varlen_func, query, key, value, layout.varlen, 0.3)
    torch.testing.assert_close(one, padded, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("piece", [1, 3])
def test_responses_longer_than_a_piece_are_exact(piece, tiny_folder, all_float64, monkeypatch):
    monkeypatch.setattr(shared, "PIECE", piece)
    monkeypatch.setattr(shared, "SMALL", 0)
    processor, model = load_processor(tiny_folder), load_model(tiny_folder, torch.float64)
    prompts = prompts_of("mixed", processor, make_examples("train", 2, seed=0))
    assert_equals_one_at_a_time(model, processor, rows_with(prompts, [[11, 1, 4], [3, 9], [7]]), True)


def test_pieces_compute_less_than_a_whole_masked_call(monkeypatch):
    segments = segments_of([(40, [64, 64])])

    def pairs() -> int:
        return sum(
            block.query_mQ.numel() * block.key_mK.shape[1] for block in build_layout(segments, CPU).blocks
        )

    whole = pairs()
    monkeypatch.setattr(shared, "PIECE", 16)
    monkeypatch.setattr(shared, "SMALL", 0)
    monkeypatch.setattr(shared, "PADDING", 1.0)
    # In four pieces, six of a response's sixteen blocks of 16 x 16 are not computed.
    assert whole - pairs() == 2 * 6 * 16 * 16


def test_attention_computes_in_what_autocast_says():
    states = torch.randn(2, 2)
    assert shared.computing_dtype(states) == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        assert shared.computing_dtype(states) == torch.bfloat16


def test_flash_attention_is_for_half_precision_on_cuda_only(monkeypatch):
    monkeypatch.setattr(shared, "flash_varlen", lambda: pytest.fail("not on a CPU"))
    layout = build_layout(segments_of([(3, [2])]), CPU)
    states = torch.randn(1, 2, 5, 8, dtype=torch.bfloat16)
    group_shared_attention(torch.nn.Module(), states, states, states, None, scaling=1.0, layout=layout)
